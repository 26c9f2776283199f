/* gemm_s8_neoni8mm.c: int8 gemm on SMMLA: 2 rows x 8 k times 8 k x 2 columns gives 2 x 2. 6 x 16 is 24 sums, 3 registers of
 * pairs of rows and 4 of weights, which one instruction loads: of 34 for 8 k, 24 multiply. Sums stay as they are until they are
 * bytes: scales come twice in a vector. 6 x 8, for the last columns, takes a load for a pair of columns, and zips pairs of rows
 * together, 16 k at a time. */
#if defined(__aarch64__)
#define SELDOM_ADDS 1
#include "gemm_s8_wide.h"

#define FN MCC_FN(neoni8mm)

FN ALWAYS int8x16_t first_k(int8x16_t a, int8x16_t b) {
    return vreinterpretq_s8_s64(vzip1q_s64(vreinterpretq_s64_s8(a), vreinterpretq_s64_s8(b)));
}
FN ALWAYS int8x16_t last_k(int8x16_t a, int8x16_t b) {
    return vreinterpretq_s8_s64(vzip2q_s64(vreinterpretq_s64_s8(a), vreinterpretq_s64_s8(b)));
}
/* Rows 2r and 2r + 1 of sums that stand as 2 x 2. */
FN ALWAYS int32x4_t rows_first(int32x4_t a, int32x4_t b) {
    return vreinterpretq_s32_s8(first_k(vreinterpretq_s8_s32(a), vreinterpretq_s8_s32(b)));
}
FN ALWAYS int32x4_t rows_last(int32x4_t a, int32x4_t b) {
    return vreinterpretq_s32_s8(last_k(vreinterpretq_s8_s32(a), vreinterpretq_s8_s32(b)));
}

/* Row pairs 0..2; accumulators a, b, c, d of the column pairs 0..3. */
#define PAIRS_3(X) X(0, 0, 1) X(1, 2, 3) X(2, 4, 5)
#define PAIRS_2(X) X(0, 0, 1) X(1, 2, 3)
#define PAIRS_1(X) X(0, 0, 1)
#define TWICE(i) vreinterpretq_s32_s64(vld1q_dup_s64((const int64_t *)(const void *)(bias + i)))
#define INIT(r, i, j) int32x4_t a##r = bias0, b##r = bias1, c##r = bias2, d##r = bias3;
#define POINT(r, i, j) const int8_t *p##i = rows[i], *p##j = rows[j];
#define LOAD(w, at)                                                                                 \
    const int8x16_t w##0 = vld1q_s8(weights + at), w##1 = vld1q_s8(weights + at + 16);              \
    const int8x16_t w##2 = vld1q_s8(weights + at + 32), w##3 = vld1q_s8(weights + at + 48);
#define DOT(r, x, w)                                                                                \
    a##r = vmmlaq_s32(a##r, x, w##0), b##r = vmmlaq_s32(b##r, x, w##1);                             \
    c##r = vmmlaq_s32(c##r, x, w##2), d##r = vmmlaq_s32(d##r, x, w##3);
#define SIXTEEN(r, i, j)                                                                            \
    {                                                                                               \
        IN_TURN(p##i)                                                                               \
        IN_TURN(p##j)                                                                               \
        const int8x16_t x = vld1q_s8(p##i), z = vld1q_s8(p##j), y = first_k(x, z), l = last_k(x, z); \
        p##i += 16, p##j += 16;                                                                     \
        DOT(r, y, w)                                                                                \
        DOT(r, l, v)                                                                                \
    }
#define EIGHT(r, i, j)                                                                              \
    {                                                                                               \
        const int8x16_t y = vcombine_s8(vld1_s8(p##i), vld1_s8(p##j));                              \
        p##i += 8, p##j += 8;                                                                       \
        DOT(r, y, w)                                                                                \
    }
#define REST(r, i, j)                                                                               \
    {                                                                                               \
        const int8x16_t y = vcombine_s8(load8(p##i, k & 7), load8(p##j, k & 7));                    \
        DOT(r, y, w)                                                                                \
    }
#define SUMS(r, i, j)                                                                 \
    const int32x4_t u##i = rows_first(a##r, b##r), v##i = rows_first(c##r, d##r);     \
    const int32x4_t u##j = rows_last(a##r, b##r), v##j = rows_last(c##r, d##r);

#define TILE(MR, PAIRS)                                                                        \
    FN void mcc_gemm_s8_##MR##x8c8_neoni8mm(ARGS) {                                            \
        TILES_BEGIN                                                                            \
        const int32x4_t bias0 = TWICE(0), bias1 = TWICE(2), bias2 = TWICE(4), bias3 = TWICE(6);\
        PAIRS(INIT)                                                                            \
        for (size_t tap = 0; tap < taps; tap++, rows += MR) {                                  \
            PAIRS(POINT)                                                                       \
            for (size_t left = k / 16; left; left--, weights += 128) {                         \
                LOAD(w, 0)                                                                     \
                LOAD(v, 64)                                                                    \
                PAIRS(SIXTEEN)                                                                 \
            }                                                                                  \
            if (k & 8) {                                                                       \
                LOAD(w, 0)                                                                     \
                PAIRS(EIGHT)                                                                   \
                weights += 64;                                                                 \
            }                                                                                  \
            if (k & 7) {                                                                       \
                LOAD(w, 0)                                                                     \
                PAIRS(REST)                                                                    \
                weights += 64;                                                                 \
            }                                                                                  \
        }                                                                                      \
        PAIRS(SUMS)                                                                            \
        TILES_END(MR)                                                                          \
    }

TILE(6, PAIRS_3)
TILE(4, PAIRS_2)
TILE(2, PAIRS_1)

/* --- 16 columns: X(pointers to a pair of rows, 8 k of them, sums of pairs of columns) for each pair -------------------- */
#define WIDE_2(X) X(9, 10, 4, 8, 9, 10, 11, 12, 13, 14, 15)
#define WIDE_4(X) WIDE_2(X) X(11, 12, 5, 16, 17, 18, 19, 20, 21, 22, 23)
#define WIDE_6(X) WIDE_4(X) X(13, 14, 6, 24, 25, 26, 27, 28, 29, 30, 31)
#define FIRST_BIAS(p, r, x, a, b, c, d, e, f, g, h)                                                        \
    "mov x17, %[panel]\n" PAIR_OF(a) PAIR_OF(b) PAIR_OF(c) PAIR_OF(d) PAIR_OF(e) PAIR_OF(f) PAIR_OF(g) PAIR_OF(h)
#define PAIR_OF(s) "ld1r {" V(s) ".2d}, [x17], #8\n"
#define SAME(s, t) "mov " B(s) ", " B(t) "\n"
#define BIAS(p, r, x, a, b, c, d, e, f, g, h) \
    SAME(a, 8) SAME(b, 9) SAME(c, 10) SAME(d, 11) SAME(e, 12) SAME(f, 13) SAME(g, 14) SAME(h, 15)
#define BIAS_2 WIDE_2(FIRST_BIAS)
#define BIAS_4 BIAS_2 BIAS(, , , 16, 17, 18, 19, 20, 21, 22, 23)
#define BIAS_6 BIAS_4 BIAS(, , , 24, 25, 26, 27, 28, 29, 30, 31)
#define ROW(p, r, ...) "ldp x" #p ", x" #r ", [%[row]], #16\n"
#define READ(p, r, x, ...) "ldr d" #x ", [x" #p "], #8\nld1 {v" #x ".d}[1], [x" #r "], #8\n"
/* What is left of 8 k, without a byte past it: the end of the last 8 that are there, or byte by byte. */
#define END(p, r, x, ...)                                                                                  \
    "ldr x15, [x" #p ", %[back]]\nldr x16, [x" #r ", %[back]]\n"                                           \
    "lsr x15, x15, %[shift]\nlsr x16, x16, %[shift]\n"                                                     \
    "fmov d" #x ", x15\nmov v" #x ".d[1], x16\n"
#define SHORT(p, r, x, ...) BYTES(p) "fmov d" #x ", x15\n" BYTES(r) "mov v" #x ".d[1], x15\n"
#define BYTES(p) \
    "mov x15, #0\nmov x16, %[k]\n" \
    "0: sub x16, x16, #1\nldrb w17, [x" #p ", x16]\norr x15, x17, x15, lsl #8\ncbnz x16, 0b\n"
#define WEIGHTS "ld1 {v0.16b-v3.16b}, [%[w]], #64\n"
#define SMMLA(s, x, w) "smmla " S(s) ", v" #x ".16b, v" #w ".16b\n"
#define LEFT(p, r, x, a, b, c, d, e, f, g, h) SMMLA(a, x, 0) SMMLA(b, x, 1) SMMLA(c, x, 2) SMMLA(d, x, 3)
#define RIGHT(p, r, x, a, b, c, d, e, f, g, h) SMMLA(e, x, 0) SMMLA(f, x, 1) SMMLA(g, x, 2) SMMLA(h, x, 3)
#define STEP(PAIRS) WEIGHTS PAIRS(LEFT) WEIGHTS PAIRS(RIGHT)
#define ZIP(zip, to, a, b) zip " v" #to ".2d, v" #a ".2d, v" #b ".2d\n"
#define STORE_SUMS(p, r, x, a, b, c, d, e, f, g, h)                                                        \
    ZIP("zip1", 0, a, b) ZIP("zip1", 1, c, d) ZIP("zip1", 2, e, f) ZIP("zip1", 3, g, h)                    \
    "st1 {v0.4s-v3.4s}, [%[y]], %[step]\n"                                                                 \
    ZIP("zip2", 0, a, b) ZIP("zip2", 1, c, d) ZIP("zip2", 2, e, f) ZIP("zip2", 3, g, h)                    \
    "st1 {v0.4s-v3.4s}, [%[y]], %[step]\n"
#define SCALES PAIR_OF(0) PAIR_OF(1) PAIR_OF(2) PAIR_OF(3)
#define LEFT_QUICKLY(p, r, x, a, b, c, d, e, f, g, h) QUICKLY(a, b, c, d)
#define RIGHT_QUICKLY(p, r, x, a, b, c, d, e, f, g, h) QUICKLY(e, f, g, h)
#define LEFT_WHOLLY(p, r, x, a, b, c, d, e, f, g, h) WHOLLY(a, b, c, d)
#define RIGHT_WHOLLY(p, r, x, a, b, c, d, e, f, g, h) WHOLLY(e, f, g, h)
#define STORE(p, r, x, a, b, c, d, e, f, g, h)                                                             \
    "uzp1 " H(b) ", " H(a) ", " H(e) "\nst1 {" B(b) "}, [%[y]], %[step]\n"                                 \
    "uzp2 " H(c) ", " H(a) ", " H(e) "\nst1 {" B(c) "}, [%[y]], %[step]\n"

#define ASSEMBLY(PAIRS, BIAS)                                                       \
    BIAS                                                                            \
    "cbz %[taps], 6f\n"                                                             \
    "1: " PAIRS(ROW)                                                                \
    "lsr x17, %[k], #3\n"                                                           \
    "cbz x17, 4f\n"                                                                 \
    "2: " PAIRS(READ)                                                               \
    STEP(PAIRS)                                                                     \
    "subs x17, x17, #1\n"                                                           \
    "b.ne 2b\n"                                                                     \
    "tst %[k], #7\n"                                                                \
    "b.eq 5f\n"                                                                     \
    PAIRS(END)                                                                      \
    "b 3f\n"                                                                        \
    "4: cbz %[k], 5f\n"                                                             \
    PAIRS(SHORT)                                                                    \
    "3: " STEP(PAIRS)                                                               \
    "5: subs %[taps], %[taps], #1\n"                                                \
    "b.ne 1b\n"                                                                     \
    "6: cbnz %[way], 7f\n"                                                          \
    PAIRS(STORE_SUMS)                                                               \
    "b 9f\n"                                                                        \
    "7: add x17, %[panel], #64\n"                                                   \
    SCALES                                                                          \
    "tbz %[way], #0, 7f\n"                                                          \
    "dup v4.4s, %w[magic]\n"                                                        \
    PAIRS(LEFT_QUICKLY) SCALES PAIRS(RIGHT_QUICKLY)                                 \
    "b 8f\n"                                                                        \
    "7: ld1 {v4.16b-v6.16b}, [%[how]]\n"                                            \
    PAIRS(LEFT_WHOLLY) SCALES PAIRS(RIGHT_WHOLLY)                                   \
    "8: " PAIRS(STORE)                                                              \
    "9:\n"

#define ENDS , [back] "r"((k & 7) - 8), [shift] "r"(64 - 8 * (k & 7))
#define WIDE(MR) WIDE_TILE(mcc_gemm_s8_##MR##x16c8_neoni8mm, MR, ASSEMBLY(WIDE_##MR, BIAS_##MR), ENDS)
WIDE(6)
WIDE(4)
WIDE(2)
#endif
