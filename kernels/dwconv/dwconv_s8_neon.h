/* dwconv_s8_neon.h: what the NEON kernels of int8 rows share: sums of 16 channels, their way out, and the walk of 3 x 3 along a row,
 * where a column is made ready once and serves every pixel that sees it. */
#ifndef MCC_DWCONV_S8_NEON_H
#define MCC_DWCONV_S8_NEON_H
#include "../gemm/gemm_s8_neon.h"
#include "dwconv_s8.h"

typedef struct sums { int32x4_t a, b, c, d; } sums; /* of 16 channels */

ALWAYS sums sums_of(const int32_t *bias) {
    return (sums){vld1q_s32(bias), vld1q_s32(bias + 4), vld1q_s32(bias + 8), vld1q_s32(bias + 12)};
}

/* To element `at` of y; raw: y is int32. */
ALWAYS void put16(bool raw, void *y, size_t at, sums s, const float *scale, const finish *f) {
    if (raw) {
        int32_t *to = (int32_t *)y + at;
        vst1q_s32(to, s.a), vst1q_s32(to + 4, s.b), vst1q_s32(to + 8, s.c), vst1q_s32(to + 12, s.d);
        return;
    }
    const int16x8_t lo = coded8(vmulq_f32(vcvtq_f32_s32(s.a), vld1q_f32(scale)), vmulq_f32(vcvtq_f32_s32(s.b), vld1q_f32(scale + 4)));
    const int16x8_t hi = coded8(vmulq_f32(vcvtq_f32_s32(s.c), vld1q_f32(scale + 8)), vmulq_f32(vcvtq_f32_s32(s.d), vld1q_f32(scale + 12)));
    vst1q_s8((int8_t *)y + at, narrow16(f, lo, hi));
}

ALWAYS int8x16_t load16(const int8_t *p, size_t n) {
    if (n >= 16) return vld1q_s8(p);
    int8_t t[16] = {0};
    memcpy(t, p, n);
    return vld1q_s8(t);
}

/* For a file with FN (its target), `column` (three rows of 16 channels as its sums want them), column_at(p0, p1, p2) and
 * nine(s, l, m, r, u, v, z): s and the products of columns l, m, r with weights u, v, z. w: the three columns of weights. */
#define ROW3                                                                                                                    \
    FN ALWAYS column column_of(const mcc_dwconv_in *in, size_t k, size_t c) {                                                   \
        const size_t from = k - in->first;                                                                                      \
        const char *fill = in->fill + c;                                                                                        \
        if (from >= in->inside) return column_at(fill, fill, fill);                                                             \
        return column_at(in->x[0] + from * in->step[0] + c, in->x[1] + from * in->step[1] + c, in->x[2] + from * in->step[2] + c); \
    }                                                                                                                           \
    FN ALWAYS void row3(size_t stride, bool raw, size_t pixels, size_t channels, size_t c, const mcc_dwconv_in *in,             \
                        const int32_t *bias, const column *w, void *y, const mcc_requant *q) {                                  \
        const float *scale = (const float *)(bias + 16);                                                                        \
        const column u = w[0], v = w[1], z = w[2];                                                                              \
        const finish f = raw ? (finish){0} : finish_of(q);                                                                      \
        /* Pixels [p, inner) need no pad but in their first columns, which are loaded already. */                               \
        const size_t end = in->first + in->inside, last = end < 3 ? 0 : (end - 3) / stride + 1, inner = last < pixels ? last : pixels; \
        const size_t few = stride == 1 ? 3 : 2, d0 = in->step[0], d1 = in->step[1], d2 = in->step[2];                           \
        column a = column_of(in, 0, c), b, d, e;                                                                                \
        if (stride == 1) b = column_of(in, 1, c);                                                                               \
        for (size_t p = 0, at = c; p < pixels;) {                                                                               \
            const size_t next = stride == 1 ? p + 2 : 2 * p + 1, from = next - in->first;                                       \
            if (next >= in->first && p + few <= inner) {                                                                        \
                const char *p0 = in->x[0] + from * in->step[0] + c, *p1 = in->x[1] + from * in->step[1] + c;                    \
                const char *p2 = in->x[2] + from * in->step[2] + c;                                                             \
                for (; p + few <= inner; p += few) {                                                                            \
                    if (stride == 1) {                                                                                          \
                        ROW3_NEXT(d);                                                                                           \
                        ROW3_OUT(a, b, d)                                                                                       \
                        ROW3_NEXT(a);                                                                                           \
                        ROW3_OUT(b, d, a)                                                                                       \
                        ROW3_NEXT(b);                                                                                           \
                        ROW3_OUT(d, a, b)                                                                                       \
                    } else {                                                                                                    \
                        ROW3_NEXT(b);                                                                                           \
                        ROW3_NEXT(d);                                                                                           \
                        ROW3_OUT(a, b, d)                                                                                       \
                        ROW3_NEXT(e);                                                                                           \
                        ROW3_NEXT(a);                                                                                           \
                        ROW3_OUT(d, e, a)                                                                                       \
                    }                                                                                                           \
                }                                                                                                               \
                continue;                                                                                                       \
            }                                                                                                                   \
            if (stride == 2) b = column_of(in, next, c);                                                                        \
            d = column_of(in, stride == 1 ? next : next + 1, c);                                                                \
            ROW3_OUT(a, b, d)                                                                                                   \
            if (stride == 1) a = b, b = d;                                                                                      \
            else a = d;                                                                                                         \
            p++;                                                                                                                \
        }                                                                                                                       \
    }
#define ROW3_NEXT(x) x = column_at(p0, p1, p2), p0 += d0, p1 += d1, p2 += d2
#define ROW3_OUT(l, m, r) put16(raw, y, at, nine(sums_of(bias), l, m, r, u, v, z), scale, &f), at += channels;

/* The channels from `done` on that a block of 16 makes: the last block ends with the channels, where there are as many. */
typedef struct part16 { size_t c, n; } part16;
ALWAYS part16 part_of(size_t channels, size_t done) {
    return (part16){channels - done < 16 && done ? channels - 16 : done, channels < 16 ? channels : 16};
}

/* Sums of n <= 16 channels, of which the first `skip` are not stored: the block before did it; in dwconv_s8_neon.c. */
void mcc_dwconv_s8_neon_some(sums s, const float *scale, size_t skip, size_t n, void *y, size_t at, const int8_t *residual,
                             const mcc_requant *q);

#endif
