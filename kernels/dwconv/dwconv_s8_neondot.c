/* dwconv_s8_neondot.c: rows of 3 x 3 on SDOT: the three taps of a column stand together, channel by channel, with a fourth of
 * weight 0; three columns are twelve instructions for 16 channels, and a column is put in this order once for all pixels that
 * see it. Pixels that see no pad, with the quick way out (gemm_s8_wide.h), are assembler: 39 instructions each, where stride is
 * 1, and all registers. */
#if defined(__aarch64__)
#include "../gemm/gemm_s8_wide.h"
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

/* v4 ... v15: three columns; v16 ... v27: weights; v28 ... v31: where together() takes its bytes from. */
static const uint8_t from_rows[64] = {
#define FROM(c) c, c + 16, c + 32, c + 32
    FROM(0), FROM(1), FROM(2), FROM(3), FROM(4), FROM(5), FROM(6), FROM(7),
    FROM(8), FROM(9), FROM(10), FROM(11), FROM(12), FROM(13), FROM(14), FROM(15),
#undef FROM
};
#define NEXT(a, b, c, d)                                                                                  \
    "ld1 {v0.16b}, [%[p0]], %[d0]\nld1 {v1.16b}, [%[p1]], %[d1]\nld1 {v2.16b}, [%[p2]], %[d2]\n"          \
    TAKE(a, 28) TAKE(b, 29) TAKE(c, 30) TAKE(d, 31)
#define TAKE(a, from) "tbl " B(a) ", {v0.16b-v2.16b}, " B(from) "\n"
#define SDOT(s, x, w) "sdot " S(s) ", " B(x) ", " B(w) "\n"
#define THREE(a, b, c, d, u, v, x, z) SDOT(0, a, u) SDOT(1, b, v) SDOT(2, c, x) SDOT(3, d, z)
#define PIXEL(L, M, R)                                                                                    \
    "ld1 {v0.4s-v3.4s}, [%[bias]]\n" L(FIRST) M(SECOND) R(THIRD) L(FINISH)
#define FIRST(a, b, c, d) THREE(a, b, c, d, 16, 17, 18, 19)
#define SECOND(a, b, c, d) THREE(a, b, c, d, 20, 21, 22, 23)
#define THIRD(a, b, c, d) THREE(a, b, c, d, 24, 25, 26, 27)
#define FINISH(a, b, c, d)                                                                                \
    "ld1 {" S(a) "-" S(d) "}, [%[scale]]\n"                                                               \
    OF("scvtf", 0) OF("scvtf", 1) OF("scvtf", 2) OF("scvtf", 3)                                           \
    BY("fmul", 0, a) BY("fmul", 1, b) BY("fmul", 2, c) BY("fmul", 3, d)                                   \
    "ld1r {" S(a) "}, [%[magic]]\n"                                                                       \
    BY("fadd", 0, a) BY("fadd", 1, a) BY("fadd", 2, a) BY("fadd", 3, a)                                   \
    "uzp1 v0.8h, v0.8h, v1.8h\nuzp1 v2.8h, v2.8h, v3.8h\nsqxtn v0.8b, v0.8h\nsqxtn2 v0.16b, v2.8h\n"      \
    "st1 {v0.16b}, [%[y]], %[pixel]\n"
#define COLUMN_A(X) X(4, 5, 6, 7)
#define COLUMN_B(X) X(8, 9, 10, 11)
#define COLUMN_C(X) X(12, 13, 14, 15)
#define ROUND_1                                                                                           \
    COLUMN_C(NEXT) PIXEL(COLUMN_A, COLUMN_B, COLUMN_C) COLUMN_A(NEXT) PIXEL(COLUMN_B, COLUMN_C, COLUMN_A) \
    COLUMN_B(NEXT) PIXEL(COLUMN_C, COLUMN_A, COLUMN_B)
#define ROUND_2                                                                                           \
    COLUMN_B(NEXT) COLUMN_C(NEXT) PIXEL(COLUMN_A, COLUMN_B, COLUMN_C)                                     \
    COLUMN_B(NEXT) COLUMN_A(NEXT) PIXEL(COLUMN_C, COLUMN_B, COLUMN_A)

/* As row3, for 16 channels from c on. */
#define QUICK_ROW(STRIDE)                                                                                 \
    FN static void quick_##STRIDE(size_t pixels, size_t channels, size_t c, const mcc_dwconv_in *in, const int32_t *bias, \
                                  const column *w, int8_t *y, const mcc_requant *q, const wide_how *how) { \
        const float *scale = (const float *)(bias + 16);                                                  \
        const finish f = finish_of(q);                                                                    \
        const size_t end = in->first + in->inside, last = end < 3 ? 0 : (end - 3) / STRIDE + 1;           \
        const size_t inner = last < pixels ? last : pixels;                                               \
        const size_t few = STRIDE == 1 ? 3 : 2;                                                           \
        column seen[2] = {column_of(in, 0, c), column_of(in, 1, c)};                                      \
        y += c;                                                                                           \
        for (size_t p = 0; p < pixels;) {                                                                 \
            const size_t next = STRIDE == 1 ? p + 2 : 2 * p + 1, from = next - in->first;                 \
            if (next >= in->first && p + few <= inner) {                                                  \
                const char *p0 = in->x[0] + from * in->step[0] + c, *p1 = in->x[1] + from * in->step[1] + c; \
                const char *p2 = in->x[2] + from * in->step[2] + c;                                       \
                const column *weights = w;                                                                \
                size_t rounds = (inner - p) / few;                                                        \
                p += rounds * few;                                                                        \
                __asm__ volatile("ld1 {v16.16b-v19.16b}, [%[w]], #64\n"                                   \
                                 "ld1 {v20.16b-v23.16b}, [%[w]], #64\n"                                   \
                                 "ld1 {v24.16b-v27.16b}, [%[w]]\n"                                        \
                                 "ld1 {v28.16b-v31.16b}, [%[rows]]\n"                                     \
                                 "ldp q4, q5, [%[seen]]\nldp q6, q7, [%[seen], #32]\n"                    \
                                 "ldp q8, q9, [%[seen], #64]\nldp q10, q11, [%[seen], #96]\n"             \
                                 "1: " ROUND_##STRIDE                                                     \
                                 "subs %[rounds], %[rounds], #1\n"                                        \
                                 "b.ne 1b\n"                                                              \
                                 "stp q4, q5, [%[seen]]\nstp q6, q7, [%[seen], #32]\n"                    \
                                 "stp q8, q9, [%[seen], #64]\nstp q10, q11, [%[seen], #96]\n"             \
                                 : [p0] "+r"(p0), [p1] "+r"(p1), [p2] "+r"(p2), [y] "+r"(y), [rounds] "+r"(rounds), \
                                   [w] "+r"(weights)                                                      \
                                 : [d0] "r"(in->step[0]), [d1] "r"(in->step[1]), [d2] "r"(in->step[2]), [pixel] "r"(channels), \
                                   [bias] "r"(bias), [scale] "r"(scale), [seen] "r"(seen), [rows] "r"(from_rows), \
                                   [magic] "r"(&how->magic)                                               \
                                 : "cc", "memory", "v0", "v1", "v2", "v3", "v4", "v5", "v6", "v7", "v8", "v9", "v10", \
                                   "v11", "v12", "v13", "v14", "v15", "v16", "v17", "v18", "v19", "v20", "v21", "v22", \
                                   "v23", "v24", "v25", "v26", "v27", "v28", "v29", "v30", "v31");        \
                continue;                                                                                 \
            }                                                                                             \
            const column m = STRIDE == 1 ? seen[1] : column_of(in, next, c);                              \
            const column r = column_of(in, STRIDE == 1 ? next : next + 1, c);                             \
            put16(false, y, 0, nine(sums_of(bias), seen[0], m, r, w[0], w[1], w[2]), scale, &f);          \
            seen[0] = STRIDE == 1 ? m : r, seen[1] = r;                                                   \
            y += channels, p++;                                                                           \
        }                                                                                                 \
    }
QUICK_ROW(1)
QUICK_ROW(2)

#define ROW(S)                                                                                                     \
    FN void mcc_dwconv_s8_3x3s##S##_neondot(MCC_DWCONV_S8_ROW_ARGS) {                                              \
        const uint8_t *block = weights;                                                                            \
        const wide_how how = wide_of(q, residual);                                                                 \
        for (size_t done = 0; done < channels; done += 16, block += 16 * (8 + 3 * 4)) {                            \
            const part16 part = part_of(channels, done);                                                           \
            const int32_t *bias = (const int32_t *)(const void *)block;                                            \
            const column *w = (const column *)(const void *)(bias + 32);                                           \
            if (part.n < 16 || residual) by_pixels(S, pixels, channels, part.c, part.n, done - part.c, in, bias, w, y, residual, q); \
            else if (how.way == QUICK) quick_##S(pixels, channels, part.c, in, bias, w, y, q, &how);               \
            else row3(S, !q, pixels, channels, part.c, in, bias, w, y, q);                                         \
        }                                                                                                          \
    }
ROW(1)
ROW(2)
#endif
