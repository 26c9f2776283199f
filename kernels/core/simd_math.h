/* simd_math.h: exp, log, tanh... of a vector (include after core/simd.h). Errors over all floats, measured by
 * tests/kernels/check_eltwise.c against libm in double (ulp of the true result; absolute where that says more):
 *
 *   m_exp     2 ulp         m_expm1    3 ulp        m_log   2 ulp        m_tanh   4 ulp
 *   m_sigmoid 4 ulp (results below 1e-38 may be 0)  m_erf   4 ulp        m_log1p  3 ulp of non-negative x
 *   m_gelu    abs 2e-7 * max(1, |x|)                 (relative to the true value for |x| < 5)
 *
 * NaN gives NaN and infinities give the limit. The polynomials are minimax fits (Remez) of the functions named. */
#ifndef MCC_CORE_SIMD_MATH_H
#define MCC_CORE_SIMD_MATH_H

#include <math.h>

#include "simd.h"

#define MCC_LOG2E 1.44269504f
#define MCC_LN2_HI 0.693145752f   /* ln 2 = HI + LO; HI has 9 trailing zeros, so n * HI is exact */
#define MCC_LN2_LO 1.42860677e-6f

/* 2^n for n in -126..127 */
VFN vf m_pow2(vi n) { return v_of_bits(vi_shl(vi_add(n, vi_set(127)), 23)); }

/* x = n ln2 + r with |r| <= ln2 / 2; gives n and (e^r - 1). */
VFN vf m_expm1_reduced(vf x, vf *n) {
    *n = v_rint(v_mul(x, v_set(MCC_LOG2E)));
    vf r = v_fma(*n, v_set(-MCC_LN2_HI), x);
    r = v_fma(*n, v_set(-MCC_LN2_LO), r);
    vf q = v_fma(v_set(0.00019907641f), r, v_set(0.0013933688f));
    q = v_fma(q, r, v_set(0.008333286f));
    q = v_fma(q, r, v_set(0.041666463f));
    q = v_fma(q, r, v_set(0.16666667f));
    q = v_fma(q, r, v_set(0.5f));
    return v_fma(v_mul(q, r), r, r);
}

VFN vf m_exp(vf x) {
    x = v_max(v_set(-105.0f), v_min(v_set(89.0f), x));
    vf n;
    const vf p = v_add(m_expm1_reduced(x, &n), v_set(1.0f));
    return v_scale(p, n); /* n may be -151 or 128 */
}

/* 2^t of t <= 100 to 2 ulp: the weights of a softmax. Below 2^-126 they are 0: subnormal results cost some 150 cycles. */
VFN vf m_weight(vf t) {
#if MCC_IS_(MCC_SIMD) != 2
    const vm none = v_lt(t, v_set(-126.0f));
    t = v_max(v_set(-126.0f), t);
#endif
    const vf n = v_rint(t), f = v_sub(t, n);
    vf p = v_fma(v_set(0.0013276471f), f, v_set(0.009675542f));
    p = v_fma(p, f, v_set(0.055507135f));
    p = v_fma(p, f, v_set(0.2402212f));
    p = v_fma(p, f, v_set(0.69314694f));
    p = v_fma(p, f, v_set(1.0000001f));
#if MCC_IS_(MCC_SIMD) == 2
    return _mm512_maskz_scalef_ps(_mm512_cmp_ps_mask(t, v_set(-126.0f), _CMP_NLT_UQ), p, n);
#else
    return v_sel(none, v_set(0.0f), v_mul(p, m_pow2(v_int(n))));
#endif
}

VFN vf m_expm1(vf x) {
    x = v_max(v_set(-30.0f), x);                /* -1 to the last bit from there */
    const vm large = v_lt(v_set(60.0f), x);
    vf n;
    const vf p = m_expm1_reduced(v_min(v_set(60.0f), x), &n), s = m_pow2(v_int(n));
    const vf y = v_fma(s, p, v_sub(s, v_set(1.0f)));
    return v_sel(large, m_exp(x), y);
}

/* log(m 2^k) = k ln2 + log(1 + f), 1 + f in [sqrt(1/2), sqrt 2), by s = f / (2 + f) and the series of atanh. */
VFN vf m_log(vf x) {
    const vm tiny = v_lt(x, v_set(0x1p-126f));
    const vf big = v_sel(tiny, v_mul(x, v_set(0x1p23f)), x);
    const vi shifted = vi_sub(v_bits(big), vi_set(0x3F3504F3)); /* bits of sqrt(1/2) */
    const vf k = v_sub(v_float(vi_sra(shifted, 23)), v_sel(tiny, v_set(23.0f), v_set(0.0f)));
    const vf f = v_sub(v_of_bits(vi_add(vi_and(shifted, vi_set(0x7FFFFF)), vi_set(0x3F3504F3))), v_set(1.0f));
    const vf s = v_div(f, v_add(v_set(2.0f), f)), z = v_mul(s, s), half = v_mul(v_mul(v_set(0.5f), f), f);
    vf r = v_fma(z, v_set(2.0f / 11), v_set(2.0f / 9));
    r = v_fma(z, r, v_set(2.0f / 7));
    r = v_fma(z, r, v_set(2.0f / 5));
    r = v_mul(z, v_fma(z, r, v_set(2.0f / 3)));
    const vf low = v_fma(s, v_add(half, r), v_mul(k, v_set(MCC_LN2_LO)));
    vf y = v_fma(k, v_set(MCC_LN2_HI), v_add(v_sub(low, half), f));
    y = v_sel(v_eq(x, v_set(INFINITY)), x, y);
    y = v_sel(v_lt(x, v_set(0.0f)), v_set(NAN), y);
    y = v_sel(v_eq(x, v_set(0.0f)), v_set(-INFINITY), y);
    return v_sel(v_nan(x), x, y);
}

/* log(1 + x) for x >= 0: the rounding error of u = 1 + x is put back to first order. */
VFN vf m_log1p(vf x) {
    const vf u = v_add(x, v_set(1.0f));
    const vf y = v_add(m_log(u), v_div(v_sub(x, v_sub(u, v_set(1.0f))), u));
    return v_sel(v_lt(x, v_set(1e15f)), y, m_log(x));
}

VFN vf m_tanh(vf x) {
    const vf t = m_expm1(v_min(v_set(40.0f), v_mul(v_set(2.0f), v_abs(x))));
    return v_sign_of(v_div(t, v_add(t, v_set(2.0f))), x);
}

VFN vf m_sigmoid(vf x) { return v_div(v_set(1.0f), v_add(v_set(1.0f), m_exp(v_neg(x)))); }

VFN vf m_silu(vf x) { return v_mul(x, m_sigmoid(x)); }

/* erfc(x) for x >= 1 as e^polynomial; 0 where erf is 1 to the last bit. */
VFN vf m_erfc_tail(vf x) {
    const vf a = v_min(v_set(4.0f), x);
    vf p = v_fma(v_set(-1.8235512e-05f), a, v_set(0.0003960507f));
    p = v_fma(p, a, v_set(-0.003956547f));
    p = v_fma(p, a, v_set(0.024473483f));
    p = v_fma(p, a, v_set(-0.10714675f));
    p = v_fma(p, a, v_set(-0.63450646f));
    p = v_fma(p, a, v_set(-1.1288737f));
    p = v_fma(p, a, v_set(2.6701771e-05f));
    return v_sel(v_lt(v_set(4.0f), x), v_set(0.0f), m_exp(p));
}

/* erf(a) for |a| <= 1 */
VFN vf m_erf_core(vf a) {
    const vf z = v_mul(a, a);
    vf p = v_fma(v_set(7.8538615e-05f), z, v_set(-0.00080101937f));
    p = v_fma(p, z, v_set(0.0051883277f));
    p = v_fma(p, z, v_set(-0.026853813f));
    p = v_fma(p, z, v_set(0.112835854f));
    p = v_fma(p, z, v_set(-0.37612626f));
    p = v_fma(p, z, v_set(1.1283791f));
    return v_mul(a, p);
}

VFN vf m_erf(vf x) {
    const vf a = v_abs(x), tail = v_sign_of(v_sub(v_set(1.0f), m_erfc_tail(a)), x);
    return v_sel(v_nan(x), x, v_sel(v_lt(a, v_set(1.0f)), m_erf_core(x), tail));
}

/* x Phi(x) = max(x, 0) - |x| Phi(-|x|), with log2 Phi(-a) as a polynomial that is exact to 2e-7 up to a = 5.75 and falls
 * on from there, where |x| Phi(-|x|) no longer counts. */
VFN vf m_gelu(vf x) {
    const vf a = v_abs(x);
    vf p = v_fma(v_set(-1.4818432e-08f), a, v_set(4.8374511e-07f));
    p = v_fma(p, a, v_set(-6.7461606e-06f));
    p = v_fma(p, a, v_set(5.0480190e-05f));
    p = v_fma(p, a, v_set(-0.00018443300f));
    p = v_fma(p, a, v_set(-0.00021254820f));
    p = v_fma(p, a, v_set(0.0072304662f));
    p = v_fma(p, a, v_set(-0.052654479f));
    p = v_fma(p, a, v_set(-0.45914093f));
    p = v_fma(p, a, v_set(-1.1511157f));
    p = v_fma(p, a, v_set(-0.99999976f));
    return v_fma(v_neg(a), m_weight(p), v_max(v_set(0.0f), x));
}

/* x sigmoid(2u), u = sqrt(2/pi) (x + 0.044715 x^3): the same as x (1 + tanh u) / 2 without its cancellation */
VFN vf m_gelu_tanh(vf x) {
    const vf u = v_mul(v_mul(v_set(1.59576912f), x), v_fma(v_set(0.044715f), v_mul(x, x), v_set(1.0f)));
    return v_mul(x, m_sigmoid(u));
}

VFN vf m_softplus(vf x) {
    const vf y = v_add(v_max(x, v_set(0.0f)), m_log1p(m_exp(v_neg(v_abs(x)))));
    return v_sel(v_nan(x), x, y);
}

/* x tanh(log(1 + e^x)) = x (n^2 + 2n) / (n^2 + 2n + 2) with n = e^x */
VFN vf m_mish(vf x) {
    const vf n = m_exp(v_min(v_set(20.0f), x)), t = v_mul(n, v_add(n, v_set(2.0f)));
    return v_mul(x, v_div(t, v_add(t, v_set(2.0f))));
}

#endif
