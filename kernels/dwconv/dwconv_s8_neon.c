/* dwconv_s8_neon.c: int8 products fit int16, widened into int32: pixels of 8 channels, and rows of 16.
 *
 * In rows two products are added before they are widened, which int16 holds as long as no weight is -128: 2 * 128 * 127. */
#if defined(__aarch64__)
#include "dwconv_s8_neon.h"

void mcc_dwconv_s8_8_neon(size_t n, size_t taps, const int8_t *const *rows, const void *weights, int8_t *y, const int8_t *residual,
                          const mcc_requant *q) {
    const uint8_t *block = weights;
    const finish f = finish_of(q);
    for (size_t c = 0; c < n; c += 8) {
        const size_t left = n - c < 8 ? n - c : 8;
        const int32_t *bias = (const int32_t *)(const void *)block;
        const float *scale = (const float *)(const void *)(bias + 8);
        const int8_t *w = (const int8_t *)(scale + 8);
        int32x4_t lo = vld1q_s32(bias), hi = vld1q_s32(bias + 4);
        for (size_t t = 0; t < taps; t++, w += 8) {
            const int16x8_t product = vmull_s8(load8(rows[t] + c, left), vld1_s8(w));
            lo = vaddw_s16(lo, vget_low_s16(product));
            hi = vaddw_s16(hi, vget_high_s16(product));
        }
        put8(y, c, residual, lo, hi, scale, left, &f);
        block = (const uint8_t *)w;
    }
}

void mcc_dwconv_s8_neon_some(sums s, const float *scale, size_t skip, size_t n, void *y, size_t at, const int8_t *residual,
                             const mcc_requant *q) {
    const finish f = q ? finish_of(q) : (finish){0};
    int32_t all[16];
    vst1q_s32(all, s.a), vst1q_s32(all + 4, s.b), vst1q_s32(all + 8, s.c), vst1q_s32(all + 12, s.d);
    for (size_t i = skip, run; i < n; i += run) {
        run = n - i < 8 ? n - i : 8;
        int32_t part[8];
        float part_scale[8];
        memcpy(part, all + i, run * sizeof *part), memcpy(part_scale, scale + i, run * sizeof *part_scale);
        put8(y, at + i, residual, vld1q_s32(part), vld1q_s32(part + 4), part_scale, run, q ? &f : NULL);
    }
}

/* --- rows ---------------------------------------------------------------------------------------------------------------- */

ALWAYS sums widened(sums s, int16x8_t lo, int16x8_t hi) {
    return (sums){vaddw_s16(s.a, vget_low_s16(lo)), vaddw_high_s16(s.b, lo), vaddw_s16(s.c, vget_low_s16(hi)), vaddw_high_s16(s.d, hi)};
}

ALWAYS sums tap(sums s, int8x16_t x, int8x16_t w) {
    return widened(s, vmull_s8(vget_low_s8(x), vget_low_s8(w)), vmull_high_s8(x, w));
}

ALWAYS sums two_taps(sums s, int8x16_t x, int8x16_t w, int8x16_t x1, int8x16_t w1) {
    const int16x8_t lo = vmull_s8(vget_low_s8(x), vget_low_s8(w)), hi = vmull_high_s8(x, w);
    return widened(s, vmlal_s8(lo, vget_low_s8(x1), vget_low_s8(w1)), vmlal_high_s8(hi, x1, w1));
}

/* The n <= 16 channels from c on, pixel by pixel: weights of -128, residuals, fewer channels than a block has. The first `skip`
 * of them are not stored: the block before did it. */
static __attribute__((noinline)) void by_pixels(size_t kh, size_t kw, size_t stride, size_t pixels, size_t channels, size_t c, size_t n, size_t skip,
                      const mcc_dwconv_in *in, const int32_t *bias, void *y, const int8_t *residual, const mcc_requant *q) {
    const float *scale = (const float *)(bias + 16);
    for (size_t p = 0; p < pixels; p++) {
        const char *cells[MCC_DWCONV_ROWS * MCC_DWCONV_ROWS];
        mcc_dwconv_point(in, p * stride, kw, kh, cells);
        const int8_t *w = (const int8_t *)(scale + 16);
        sums s = sums_of(bias);
        for (size_t t = 0; t < kh * kw; t++, w += 16) s = tap(s, load16((const int8_t *)cells[t] + c, n), vld1q_s8(w));
        mcc_dwconv_s8_neon_some(s, scale, skip, n, y, p * channels + c, residual, q);
    }
}

ALWAYS bool has_least(const int8_t *w, size_t taps) {
    int8x16_t least = vld1q_s8(w);
    for (size_t t = 1; t < taps; t++) least = vminq_s8(least, vld1q_s8(w + 16 * t));
    return vminvq_s8(least) == -128;
}

/* --- 3 x 3 --------------------------------------------------------------------------------------------------------------- */

typedef struct column { int8x16_t x0, x1, x2; } column;

ALWAYS column column_at(const char *p0, const char *p1, const char *p2) {
    return (column){vld1q_s8((const int8_t *)p0), vld1q_s8((const int8_t *)p1), vld1q_s8((const int8_t *)p2)};
}

ALWAYS sums nine(sums s, column l, column m, column r, column u, column v, column z) {
    s = two_taps(s, l.x0, u.x0, l.x1, u.x1), s = two_taps(s, l.x2, u.x2, m.x0, v.x0), s = two_taps(s, m.x1, v.x1, m.x2, v.x2);
    return tap(two_taps(s, r.x0, z.x0, r.x1, z.x1), r.x2, z.x2);
}

#define FN
ROW3

/* --- 5 x 5: two pixels at a time share the loads of weights, and of columns that both see -------------------------------- */

ALWAYS void row5(size_t stride, bool raw, size_t pixels, size_t channels, size_t c, const mcc_dwconv_in *in, const int32_t *bias,
                 const int8_t *w, void *y, const mcc_requant *q) {
    const float *scale = (const float *)(bias + 16);
    const finish f = raw ? (finish){0} : finish_of(q);
    for (size_t p = 0; p < pixels; p += 2) {
        const char *cells[5 * 7], *const *near = cells, *const *far = cells + 5 * stride;
        const bool both = p + 1 < pixels;
        mcc_dwconv_point(in, p * stride, 5 + (both ? stride : 0), 5, cells);
        if (!both) far = cells; /* made twice, stored once */
        sums s = sums_of(bias), t = s;
#define AT(cell) vld1q_s8((const int8_t *)cell + c)
        _Pragma("GCC unroll 12") for (size_t i = 0; i < 24; i += 2) {
            const int8x16_t w0 = vld1q_s8(w + 16 * i), w1 = vld1q_s8(w + 16 * i + 16);
            s = two_taps(s, AT(near[i]), w0, AT(near[i + 1]), w1);
            t = two_taps(t, AT(far[i]), w0, AT(far[i + 1]), w1);
        }
        s = tap(s, AT(near[24]), vld1q_s8(w + 16 * 24)), t = tap(t, AT(far[24]), vld1q_s8(w + 16 * 24));
#undef AT
        put16(raw, y, p * channels + c, s, scale, &f);
        if (both) put16(raw, y, (p + 1) * channels + c, t, scale, &f);
    }
}

#define ROW(K, S)                                                                                                          \
    void mcc_dwconv_s8_##K##x##K##s##S##_neon(MCC_DWCONV_S8_ROW_ARGS) {                                                    \
        const uint8_t *block = weights;                                                                                    \
        for (size_t done = 0; done < channels; done += 16, block += 16 * (8 + K * K)) {                                    \
            const part16 part = part_of(channels, done);                                                                   \
            const size_t c = part.c, n = part.n;                                                                           \
            const int32_t *bias = (const int32_t *)(const void *)block;                                                    \
            if (n < 16 || residual || has_least((const int8_t *)(bias + 32), K * K))                                       \
                by_pixels(K, K, S, pixels, channels, c, n, done - c, in, bias, y, residual, q);                            \
            else row##K(S, !q, pixels, channels, c, in, bias, (const void *)(bias + 32), y, q);                            \
        }                                                                                                                  \
    }
ROW(3, 1)
ROW(3, 2)
ROW(5, 1)
ROW(5, 2)
#endif
