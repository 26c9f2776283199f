/* dwconv_s8_neondot.c: rows of 3 x 3 on SDOT: the three taps of a column stand together, channel by channel, with a fourth of weight 0;
 * three columns are twelve instructions for 16 channels, and a column is put in this order once for all pixels that see it. */
#if defined(__aarch64__)
#include "dwconv_s8_neon.h"

#define FN MCC_FN(neondot)

typedef struct column { int8x16_t a, b, c, d; } column; /* four channels each */

FN ALWAYS column together(int8x16_t x0, int8x16_t x1, int8x16_t x2) {
    const int16x8_t lo = vreinterpretq_s16_s8(vzip1q_s8(x0, x1)), hi = vreinterpretq_s16_s8(vzip2q_s8(x0, x1));
    const int16x8_t lo2 = vreinterpretq_s16_s8(vzip1q_s8(x2, x2)), hi2 = vreinterpretq_s16_s8(vzip2q_s8(x2, x2));
    return (column){vreinterpretq_s8_s16(vzip1q_s16(lo, lo2)), vreinterpretq_s8_s16(vzip2q_s16(lo, lo2)),
                    vreinterpretq_s8_s16(vzip1q_s16(hi, hi2)), vreinterpretq_s8_s16(vzip2q_s16(hi, hi2))};
}

FN ALWAYS column column_at(const char *p0, const char *p1, const char *p2) {
    return together(vld1q_s8((const int8_t *)p0), vld1q_s8((const int8_t *)p1), vld1q_s8((const int8_t *)p2));
}

FN ALWAYS sums three(sums s, column x, column w) {
    return (sums){vdotq_s32(s.a, x.a, w.a), vdotq_s32(s.b, x.b, w.b), vdotq_s32(s.c, x.c, w.c), vdotq_s32(s.d, x.d, w.d)};
}

FN ALWAYS sums nine(sums s, column l, column m, column r, column u, column v, column z) {
    return three(three(three(s, l, u), m, v), r, z);
}

ROW3

/* The n <= 16 channels from c on, pixel by pixel: residuals, fewer channels than a block has. */
FN static void by_pixels(size_t stride, size_t pixels, size_t channels, size_t c, size_t n, size_t skip, const mcc_dwconv_in *in,
                         const int32_t *bias, const column *w, void *y, const int8_t *residual, const mcc_requant *q) {
    for (size_t p = 0; p < pixels; p++) {
        const char *cells[MCC_DWCONV_ROWS * MCC_DWCONV_ROWS];
        mcc_dwconv_point(in, p * stride, 3, 3, cells);
        sums s = sums_of(bias);
        for (size_t kx = 0; kx < 3; kx++) {
            int8x16_t x[3];
            for (size_t ky = 0; ky < 3; ky++) x[ky] = load16((const int8_t *)cells[3 * kx + ky] + c, n);
            s = three(s, together(x[0], x[1], x[2]), w[kx]);
        }
        mcc_dwconv_s8_neon_some(s, (const float *)(bias + 16), skip, n, y, p * channels + c, residual, q);
    }
}

#define ROW(S)                                                                                                     \
    FN void mcc_dwconv_s8_3x3s##S##_neondot(MCC_DWCONV_S8_ROW_ARGS) {                                              \
        const uint8_t *block = weights;                                                                            \
        for (size_t done = 0; done < channels; done += 16, block += 16 * (8 + 3 * 4)) {                            \
            const part16 part = part_of(channels, done);                                                           \
            const int32_t *bias = (const int32_t *)(const void *)block;                                            \
            const column *w = (const column *)(const void *)(bias + 32);                                           \
            if (part.n < 16 || residual) by_pixels(S, pixels, channels, part.c, part.n, done - part.c, in, bias, w, y, residual, q); \
            else row3(S, !q, pixels, channels, part.c, in, bias, w, y, q);                                         \
        }                                                                                                          \
    }
ROW(1)
ROW(2)
#endif
