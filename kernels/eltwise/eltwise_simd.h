/* eltwise_simd.h: the elementwise kernels of one vector ISA; a file defines MCC_SIMD and includes this. */
#include "../core/simd.h"
#include "../core/simd_math.h"
#include "eltwise.h"

#define MCC_NAME_STEM mcc_eltwise_f32

VFN vf one_(void) { return v_set(1.0f); }
VFN vf none_(void) { return v_set(0.0f); }
/* x / 6 without a division and rounded like one, up to 3 (Markstein 1990: what the quotient leaves over is exact). NaN for -inf,
 * by which hard_swish multiplies it. */
VFN vf sixth_(vf x) {
#if MCC_IS_(MCC_SIMD) == 3
    return v_div(x, v_set(6.0f)); /* one instruction, of which there are to be few */
#else
    const vf by = v_set(1 / 6.0f), q = v_mul(x, by);
    return v_fma(v_fma(v_set(-6.0f), q, x), by, q);
#endif
}
VFN vf unit_(vf x) { return v_min(one_(), v_max(none_(), x)); }
VFN vf when_negative_(vf x, vf yes) { return v_sel(v_lt(x, none_()), yes, x); }
VFN vf below_zero_(vf x) { return v_min(none_(), x); }
VFN vf signum_(vf x) { return v_sel(v_lt(none_(), x), one_(), v_sel(v_lt(x, none_()), v_set(-1.0f), x)); }
VFN vf prelu_(vf a, vf b) { return when_negative_(a, v_mul(a, b)); }

/* The first n elements. Where there are no masks (NEON) that is a switch, which is to stand here once. */
#if MCC_IS_(MCC_SIMD) == 3
#define ONCE_ __attribute__((noinline)) VKERNEL static
#else
#define ONCE_ VFN
#endif
ONCE_ vf some_(const float *p, size_t n) { return v_load_n(p, n); }
ONCE_ void put_some_(float *p, vf x, size_t n) { v_store_n(p, x, n); }

#define FUNCTION_HEAD(what, value, attribute) \
    VFN vf what##_of_(vf x, vf a, vf b) { (void)a, (void)b; return value; } \
    attribute VKERNEL void NAME(what)(size_t n, const float *p, float *y, float alpha, float beta) { \
        const vf a = v_set(alpha), b = v_set(beta);
#define FUNCTION(what, value) \
    FUNCTION_HEAD(what, value, ) \
        size_t i = 0; \
        for (; i + VN <= n; i += VN) v_store(y + i, what##_of_(v_load(p + i), a, b)); \
        if (i < n) put_some_(y + i, what##_of_(some_(p + i, n - i), a, b), n - i); \
    }
/* Where the function is long it stands once: the last elements go through a vector-sized copy. */
#define LONG_FUNCTION(what, value) \
    FUNCTION_HEAD(what, value, __attribute__((noinline))) \
        size_t i = 0; \
        for (; i + VN <= n; i += VN) v_store(y + i, what##_of_(v_load(p + i), a, b)); \
        if (i == n) return; \
        float part[VN]; \
        v_store(part, some_(p + i, n - i)); \
        NAME(what)(VN, part, part, alpha, beta); \
        put_some_(y + i, v_load(part), n - i); \
    }
FUNCTION(relu, v_max(none_(), x))
FUNCTION(leaky_relu, when_negative_(x, v_mul(x, a)))
LONG_FUNCTION(elu, when_negative_(x, v_mul(a, m_expm1(below_zero_(x)))))
LONG_FUNCTION(celu, when_negative_(x, v_mul(a, m_expm1(v_div(below_zero_(x), a)))))
LONG_FUNCTION(selu, v_mul(b, when_negative_(x, v_mul(a, m_expm1(below_zero_(x))))))
FUNCTION(thresholded_relu, v_sel(v_le(x, a), none_(), x))
FUNCTION(clip, v_min(b, v_max(a, x)))
FUNCTION(hard_sigmoid, unit_(v_add(v_mul(x, a), b)))
FUNCTION(hard_swish, v_mul(x, v_max(v_set(0.0f), v_add(sixth_(v_min(v_set(3.0f), x)), v_set(0.5f)))))
LONG_FUNCTION(sigmoid, m_sigmoid(x))
LONG_FUNCTION(tanh, m_tanh(x))
LONG_FUNCTION(gelu, m_gelu(x))
LONG_FUNCTION(gelu_tanh, m_gelu_tanh(x))
LONG_FUNCTION(silu, m_silu(x))
LONG_FUNCTION(softplus, m_softplus(x))
FUNCTION(softsign, v_div(x, v_add(one_(), v_abs(x))))
LONG_FUNCTION(mish, m_mish(x))
LONG_FUNCTION(erf, m_erf(x))
LONG_FUNCTION(exp, m_exp(x))
LONG_FUNCTION(log, m_log(x))
FUNCTION(sqrt, v_sqrt(x))
FUNCTION(reciprocal, v_div(one_(), x))
FUNCTION(neg, v_neg(x))
FUNCTION(abs, v_abs(x))
FUNCTION(floor, v_floor(x))
FUNCTION(ceil, v_ceil(x))
FUNCTION(round, v_rint(x))
FUNCTION(sign, signum_(x))

VFN vf part_(const float *p, size_t step, size_t i, size_t n) { return step ? some_(p + i, n) : v_set(*p); }

#define PAIR(what, fn) \
    VKERNEL void NAME(what)(size_t n, const float *a, size_t a_step, const float *b, size_t b_step, float *y) { \
        const vf p = v_set(n ? *a : 0), q = v_set(n ? *b : 0); \
        size_t i = 0; \
        if (a_step && b_step) for (; i + VN <= n; i += VN) v_store(y + i, fn(v_load(a + i), v_load(b + i))); \
        else if (a_step) for (; i + VN <= n; i += VN) v_store(y + i, fn(v_load(a + i), q)); \
        else if (b_step) for (; i + VN <= n; i += VN) v_store(y + i, fn(p, v_load(b + i))); \
        if (i < n) put_some_(y + i, fn(part_(a, a_step, i, n - i), part_(b, b_step, i, n - i)), n - i); \
    }
PAIR(add, v_add)
PAIR(sub, v_sub)
PAIR(mul, v_mul)
PAIR(div, v_div)
PAIR(min, v_minn)
PAIR(max, v_maxn)
PAIR(prelu, prelu_)

/* Conversions and quantizers: whole vectors from the arrays, the tail through a vector-sized copy. */
VFN vf load_bf16_(const uint16_t *p) { return v_of_bits(vi_shl(v_load_u16(p), 16)); }
VFN void store_bf16_(uint16_t *p, vf x) {
    const vi u = v_bits(x), odd = vi_and(vi_srl(u, 16), vi_set(1));
    const vi r = vi_srl(vi_add(vi_add(u, vi_set(0x7FFF)), odd), 16), quiet = vi_or(vi_srl(u, 16), vi_set(0x40));
    v_store_16(p, v_bits(v_sel(v_nan(x), v_of_bits(quiet), v_of_bits(r))));
}
/* x / scale, to be rounded to a code. NaN goes to `least`. x * inverse is off by some 2^-22 of itself, 1e-4 where codes are
 * not clamped yet: it rounds to the same code, unless it is further than `clear` from a whole number. */
VFN vi quantized_(vf x, vf scale, vf inverse, vf clear, vf least, vf most, vi zero) {
    vf t = v_mul(x, inverse);
    if (__builtin_expect(v_any(v_lt(clear, v_abs(v_sub(t, v_rint(t))))), 0)) t = v_div(x, scale);
    return vi_add(v_int(v_min(v_sel(v_lt(least, t), t, least), most)), zero);
}

#define BLOCKS(from, to, step) \
    const from *x = from_; \
    to *y = to_; \
    size_t i = 0; \
    for (; i + VN <= n; i += VN) { const from *p = x + i; to *q = y + i; step; } \
    if (i < n) { \
        from p[VN] = {0}; \
        to q[VN]; \
        memcpy(p, x + i, (n - i) * sizeof *p); \
        step; \
        memcpy(y + i, q, (n - i) * sizeof *q); \
    }
#define CONVERSION(stem, what, from, to, step) \
    VKERNEL void MCC_CAT(mcc_eltwise_##stem, what, MCC_SIMD)(size_t n, const void *from_, void *to_) { BLOCKS(from, to, step) }
CONVERSION(f16, to_f32, uint16_t, float, v_store(q, v_load_f16(p)))
CONVERSION(f32, to_f16, float, uint16_t, v_store_f16(q, v_load(p)))
CONVERSION(bf16, to_f32, uint16_t, float, v_store(q, load_bf16_(p)))
CONVERSION(f32, to_bf16, float, uint16_t, store_bf16_(q, v_load(p)))

#define QUANTIZER(stem, what, from, to, step) \
    VKERNEL void MCC_CAT(mcc_eltwise_##stem, what, MCC_SIMD)(size_t n, const void *from_, void *to_, float scale, int32_t zero) { \
        const int fast = scale >= 0x1p-126f && scale <= 0x1p126f; /* 1 / scale is a normal number */ \
        const vf s = v_set(scale), by = v_set(fast ? 1 / scale : 1), clear = v_set(fast ? 0.499f : -1); \
        (void)by, (void)clear; \
        const vi z = vi_set(zero); \
        BLOCKS(from, to, step) \
    }
#if !defined(MCC_OWN_F32_TO_S8)
QUANTIZER(f32, to_s8, float, int8_t,
          v_store_8(q, quantized_(v_load(p), s, by, clear, v_set((float)(-128 - zero)), v_set((float)(127 - zero)), z)))
#endif
QUANTIZER(f32, to_u8, float, uint8_t,
          v_store_8(q, quantized_(v_load(p), s, by, clear, v_set((float)(0 - zero)), v_set((float)(255 - zero)), z)))
QUANTIZER(s8, to_f32, int8_t, float, v_store(q, v_mul(v_float(vi_sub(v_load_s8(p), z)), s)))
QUANTIZER(u8, to_f32, uint8_t, float, v_store(q, v_mul(v_float(vi_sub(v_load_u8(p), z)), s)))
