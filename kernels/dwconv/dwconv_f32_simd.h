/* dwconv_f32_simd.h: depthwise float32 for one vector ISA: a file defines MCC_SIMD, includes this, and names its
 * kernels: DW_TAPS(CT), and DW_ROW(wide, KH, KW, stride, CT), which makes `wide` (up to 4) neighbouring outputs at a time, so
 * that they share what they read. */
#include "../core/simd.h"
#include "dwconv.h"

#define DW_NAME_(what, ct, isa) mcc_dwconv_f32_##what##c##ct##_##isa
#define DW_NAME(what, ct, isa) DW_NAME_(what, ct, isa)

VFN vf get(const float *p, size_t n) { return n == VN ? v_load(p) : v_load_n(p, n); }

VFN void put(float *y, const float *residual, vf sum, size_t n, vf lo, vf hi) {
    if (residual) sum = v_add(sum, get(residual, n));
    sum = v_min(hi, v_max(lo, sum));
    if (n == VN) v_store(y, sum);
    else v_store_n(y, sum, n);
}

/* One pixel. Nine taps, the usual window, keep their pointers in registers. */
VFN void taps_nine(size_t channels, size_t step, const float *const *at, const float *w, float *y, const float *residual, vf lo, vf hi) {
    const float *p0 = at[0], *p1 = at[step], *p2 = at[2 * step], *p3 = at[3 * step], *p4 = at[4 * step], *p5 = at[5 * step],
                *p6 = at[6 * step], *p7 = at[7 * step], *p8 = at[8 * step];
    for (size_t c = 0; c < channels; c += VN, w += 10 * VN) {
        const size_t n = channels - c < VN ? channels - c : VN;
        vf a = v_fma(get(p0 + c, n), v_load(w + VN), v_load(w));
        vf b = v_mul(get(p1 + c, n), v_load(w + 2 * VN));
        a = v_fma(get(p2 + c, n), v_load(w + 3 * VN), a);
        b = v_fma(get(p3 + c, n), v_load(w + 4 * VN), b);
        a = v_fma(get(p4 + c, n), v_load(w + 5 * VN), a);
        b = v_fma(get(p5 + c, n), v_load(w + 6 * VN), b);
        a = v_fma(get(p6 + c, n), v_load(w + 7 * VN), a);
        b = v_fma(get(p7 + c, n), v_load(w + 8 * VN), b);
        a = v_fma(get(p8 + c, n), v_load(w + 9 * VN), a);
        put(y + c, residual ? residual + c : NULL, v_add(a, b), n, lo, hi);
    }
}

VFN void taps_any(size_t channels, size_t taps, size_t step, const float *const *at, const float *w, float *y, const float *residual,
                  vf lo, vf hi) {
    for (size_t c = 0; c < channels; c += VN) {
        const size_t n = channels - c < VN ? channels - c : VN;
        vf a = v_load(w), b = v_set(0.0f);
        w += VN;
        size_t t = 0;
        for (; t + 2 <= taps; t += 2, w += 2 * VN) {
            a = v_fma(get(at[t * step] + c, n), v_load(w), a);
            b = v_fma(get(at[(t + 1) * step] + c, n), v_load(w + VN), b);
        }
        if (t < taps) a = v_fma(get(at[t * step] + c, n), v_load(w), a), w += VN;
        put(y + c, residual ? residual + c : NULL, v_add(a, b), n, lo, hi);
    }
}

#define DW_TAPS(CT)                                                                                                              \
    VKERNEL void DW_NAME(taps, CT, MCC_SIMD)(size_t pixels, size_t channels, size_t taps, const float *const *table,             \
                                             const float *w, float *y, const float *residual, float lo, float hi) {              \
        const vf low = v_set(lo), high = v_set(hi);                                                                              \
        for (size_t p = 0; p < pixels; p++, y += channels, residual = residual ? residual + channels : NULL) {                   \
            if (taps == 9) taps_nine(channels, pixels, table + p, w, y, residual, low, high);                                    \
            else taps_any(channels, taps, pixels, table + p, w, y, residual, low, high);                                         \
        }                                                                                                                        \
    }

/* `wide` neighbouring outputs of n channels. Loads of the same place are written once per use; the compiler keeps one. */
VFN void window(size_t wide, size_t kh, size_t kw, size_t stride, size_t n, size_t channels, const float *x, size_t line,
                const float *w, float *y, const float *residual, vf lo, vf hi) {
    vf a = v_load(w), b = a, c = a, d = a;
    _Pragma("GCC unroll 8") for (size_t ky = 0; ky < kh; ky++) {
        const float *p = x + ky * line;
        _Pragma("GCC unroll 8") for (size_t kx = 0; kx < kw; kx++) {
            const vf weight = v_load(w + (1 + ky * kw + kx) * VN);
            a = v_fma(get(p + kx * channels, n), weight, a);
            if (wide > 1) b = v_fma(get(p + (stride + kx) * channels, n), weight, b);
            if (wide > 2) c = v_fma(get(p + (2 * stride + kx) * channels, n), weight, c);
            if (wide > 3) d = v_fma(get(p + (3 * stride + kx) * channels, n), weight, d);
        }
    }
    put(y, residual, a, n, lo, hi);
    if (wide > 1) put(y + channels, residual ? residual + channels : NULL, b, n, lo, hi);
    if (wide > 2) put(y + 2 * channels, residual ? residual + 2 * channels : NULL, c, n, lo, hi);
    if (wide > 3) put(y + 3 * channels, residual ? residual + 3 * channels : NULL, d, n, lo, hi);
}

VFN void row(size_t wide, size_t kh, size_t kw, size_t stride, size_t n, size_t pixels, size_t channels, const float *x, size_t line,
             const float *w, float *y, const float *residual, vf lo, vf hi) {
    size_t p = 0;
    for (; p + wide <= pixels; p += wide) {
        window(wide, kh, kw, stride, n, channels, x, line, w, y, residual, lo, hi);
        x += wide * stride * channels, y += wide * channels;
        if (residual) residual += wide * channels;
    }
    for (; p < pixels; p++) {
        window(1, kh, kw, stride, n, channels, x, line, w, y, residual, lo, hi);
        x += stride * channels, y += channels;
        if (residual) residual += channels;
    }
}

#define DW_ROW(WIDE, KH, KW, S, CT)                                                                                              \
    VKERNEL void DW_NAME(KH##x##KW##s##S, CT, MCC_SIMD)(size_t pixels, size_t channels, const float *x, size_t line,             \
                                                        const float *w, float *y, const float *residual, float lo, float hi) {  \
        const vf low = v_set(lo), high = v_set(hi);                                                                              \
        size_t c = 0;                                                                                                            \
        for (; c + VN <= channels; c += VN, w += (1 + KH * KW) * VN)                                                             \
            row(WIDE, KH, KW, S, VN, pixels, channels, x + c, line, w, y + c, residual ? residual + c : NULL, low, high);        \
        if (c < channels)                                                                                                        \
            row(1, KH, KW, S, channels - c, pixels, channels, x + c, line, w, y + c, residual ? residual + c : NULL, low, high); \
    }
