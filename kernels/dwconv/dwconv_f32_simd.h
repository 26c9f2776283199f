/* dwconv_f32_simd.h: depthwise float32 for one vector ISA: a file defines MCC_SIMD, includes this, and names its
 * kernels: DW_TAPS(CT), and DW_ROW(wide, KH, KW, stride, CT), which makes `wide` (up to 4) neighbouring outputs at a time, so
 * that they share what they read. */
#include "../core/simd.h"
#include "dwconv.h"

#define DW_WIDEST 5
#define DW_NAME_(what, ct, isa) mcc_dwconv_f32_##what##c##ct##_##isa
#define DW_NAME(what, ct, isa) DW_NAME_(what, ct, isa)

/* AVX-512 reads some lanes as fast as all, so that one piece of code does for both. */
enum { MASKS = MCC_IS_(MCC_SIMD) == 2 };
VFN vf get(const float *p, size_t n) { return n == VN && !MASKS ? v_load(p) : v_load_n(p, n); }

VFN void put(float *y, const float *residual, vf sum, size_t n, vf lo, vf hi) {
    if (residual) sum = v_add(sum, get(residual, n));
    sum = v_min(hi, v_max(lo, sum));
    if (n == VN && !MASKS) v_store(y, sum);
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

/* `wide` neighbouring outputs of n channels, c channels behind where the pointers are. `edge`: some of the columns may be pads
 * (`table`: mcc_dwconv_point), else they lie `step` bytes apart from `at` on. Every column is read once and serves all outputs
 * whose windows have it. */
VFN void tile(size_t wide, size_t kh, size_t kw, size_t stride, bool edge, size_t n, size_t channels, const char *const *at,
              const size_t *step, size_t c, const float *w, float *y, const float *residual, vf lo, vf hi) {
    const size_t columns = (wide - 1) * stride + kw;
    vf sum[DW_WIDEST];
    sum[0] = v_load(w);
    for (size_t p = 1; p < wide; p++) sum[p] = sum[0];
    _Pragma("GCC unroll 5") for (size_t ky = 0; ky < kh; ky++) {
        const char *inside = edge ? NULL : at[ky] + c * sizeof(float);
        _Pragma("GCC unroll 16") for (size_t k = 0; k < columns; k++) {
            const vf x = get((const float *)(const void *)(edge ? at[k * kh + ky] + c * sizeof(float) : inside), n);
            _Pragma("GCC unroll 5") for (size_t p = 0; p < wide; p++) {
                const size_t kx = k - p * stride;
                if (kx < kw) sum[p] = v_fma(x, v_load(w + (1 + ky * kw + kx) * VN), sum[p]);
            }
            if (!edge) inside += step[ky];
        }
    }
    _Pragma("GCC unroll 5") for (size_t p = 0; p < wide; p++)
        put(y + c + p * channels, residual ? residual + c + p * channels : NULL, sum[p], n, lo, hi);
}

/* All channels of a tile. */
VFN void tiles(size_t wide, size_t kh, size_t kw, size_t stride, bool edge, size_t c, size_t n, size_t channels, const mcc_dwconv_in *in,
               size_t column, const float *w, float *y, const float *residual, vf lo, vf hi) {
    const char *at[13 * MCC_DWCONV_ROWS];
    const size_t end = c + n;
    if (edge) mcc_dwconv_point(in, column, (wide - 1) * stride + kw, kh, at);
    else
        for (size_t ky = 0; ky < kh; ky++) at[ky] = in->x[ky] + (column - in->first) * in->step[ky];
    for (; c + (MASKS ? 1 : VN) <= end; c += VN, w += (1 + kh * kw) * VN)
        tile(wide, kh, kw, stride, edge, MASKS && end - c < VN ? end - c : VN, channels, at, in->step, c, w, y, residual, lo, hi);
    if (c < end) tile(wide, kh, kw, stride, edge, end - c, channels, at, in->step, c, w, y, residual, lo, hi);
}

/* The last tile ends with the run and makes some pixels again; where that could add a residual twice, and in runs shorter
 * than a tile, they go pixel by pixel. */
#define DW_ROW(WIDE, KH, KW, S, CT)                                                                                                \
    VKERNEL void DW_NAME(KH##x##KW##s##S, CT, MCC_SIMD)(size_t pixels, size_t c, size_t n, size_t channels, const mcc_dwconv_in *in, \
                                                        const float *w, float *y, const float *residual, float lo, float hi) {   \
        const vf low = v_set(lo), high = v_set(hi);                                                                                \
        if (pixels < WIDE || residual) {                                                                                           \
            for (size_t p = 0; p < pixels; p++, y += channels, residual = residual ? residual + channels : NULL)                   \
                tiles(1, KH, KW, S, true, c, n, channels, in, p * S, w, y, residual, low, high);                                   \
            return;                                                                                                                \
        }                                                                                                                          \
        for (size_t p = 0, wide; p < pixels; p += wide) {                                                                          \
            const size_t left = pixels - p, more = MASKS ? left % (WIDE) : 0;                                                              \
            wide = more && left >= more * (WIDE + 1) ? WIDE + 1 : WIDE;                                                            \
            if (left < wide) p = pixels - wide;                                                                                    \
            float *to = y + p * channels;                                                                                          \
            if (MASKS && wide > WIDE) tiles(WIDE + 1, KH, KW, S, true, c, n, channels, in, p * S, w, to, NULL, low, high);                  \
            else if (mcc_dwconv_inside(in, p * S, (WIDE - 1) * S + KW))                                                            \
                tiles(WIDE, KH, KW, S, false, c, n, channels, in, p * S, w, to, NULL, low, high);                                  \
            else tiles(WIDE, KH, KW, S, true, c, n, channels, in, p * S, w, to, NULL, low, high);                                  \
        }                                                                                                                          \
    }
