/* gemm_s8_neondot.c: int8 gemm on SDOT by lane: 16 k of a row in one register serve four steps. 5 x 16 is 20 sums, 5 registers
 * of rows and 4 of weights, which one instruction loads: of 91 for 16 k, 80 multiply. 5 x 8, for the last columns, has 8
 * registers of weights that serve all rows, one row after another. */
#if defined(__aarch64__)
#define SELDOM_ADDS 1
#include "gemm_s8_wide.h"

#define FN MCC_FN(neondot)
#define POINT(i) const int8_t *p##i = rows[i];
#define INIT(i) int32x4_t u##i = vld1q_s32(bias), v##i = vld1q_s32(bias + 4);
#define LOAD(w, at) const int8x16_t w##0 = vld1q_s8(weights + at), w##1 = vld1q_s8(weights + at + 16);
#define LANE(i, w, x, l) u##i = vdotq_laneq_s32(u##i, w##0, x, l); v##i = vdotq_laneq_s32(v##i, w##1, x, l);
#define SIXTEEN(i)                                                                             \
    {                                                                                          \
        IN_TURN(p##i)                                                                          \
        const int8x16_t x = vld1q_s8(p##i);                                                    \
        p##i += 16;                                                                            \
        LANE(i, a, x, 0) LANE(i, b, x, 1) LANE(i, c, x, 2) LANE(i, d, x, 3)                    \
    }
#define EIGHT(i)                                                                               \
    {                                                                                          \
        const int8x16_t x = vcombine_s8(vld1_s8(p##i), vdup_n_s8(0));                          \
        p##i += 8;                                                                             \
        LANE(i, a, x, 0) LANE(i, b, x, 1)                                                      \
    }
#define DOT(i, x) u##i = vdotq_s32(u##i, w0, x); v##i = vdotq_s32(v##i, w1, x);
#define FOUR(i) { const int8x16_t x = every(p##i); DOT(i, x) p##i += 4; }
#define LAST(i) { const int8x16_t x = rest(p##i, k & 3); DOT(i, x) }

#define TILE(MR)                                                                               \
    FN void mcc_gemm_s8_##MR##x8c4_neondot(ARGS) {                                             \
        TILES_BEGIN                                                                            \
        GEMM_ROWS(MR, INIT)                                                                    \
        for (size_t tap = 0; tap < taps; tap++, rows += MR) {                                  \
            GEMM_ROWS(MR, POINT)                                                               \
            for (size_t left = k / 16; left; left--, weights += 128) {                         \
                LOAD(a, 0) LOAD(b, 32) LOAD(c, 64) LOAD(d, 96)                                 \
                GEMM_ROWS(MR, SIXTEEN)                                                         \
            }                                                                                  \
            if (k & 8) {                                                                       \
                LOAD(a, 0) LOAD(b, 32)                                                         \
                GEMM_ROWS(MR, EIGHT)                                                           \
                weights += 64;                                                                 \
            }                                                                                  \
            if (k & 4) {                                                                       \
                LOAD(w, 0)                                                                     \
                GEMM_ROWS(MR, FOUR)                                                            \
                weights += 32;                                                                 \
            }                                                                                  \
            if (k & 3) {                                                                       \
                LOAD(w, 0)                                                                     \
                GEMM_ROWS(MR, LAST)                                                            \
                weights += 32;                                                                 \
            }                                                                                  \
        }                                                                                      \
        TILES_END(MR)                                                                          \
    }

TILE(5)
TILE(4)
TILE(1)

/* --- 16 columns: X(pointer, 16 k of the row, sums) for each row --------------------------------------------------------- */
#define WIDE_1(X) X(9, 4, 12, 13, 14, 15)
#define WIDE_2(X) WIDE_1(X) X(10, 5, 16, 17, 18, 19)
#define WIDE_3(X) WIDE_2(X) X(11, 6, 20, 21, 22, 23)
#define WIDE_4(X) WIDE_3(X) X(12, 7, 24, 25, 26, 27)
#define WIDE_5(X) WIDE_4(X) X(13, 8, 28, 29, 30, 31)
#define BIAS(p, x, s, t, u, v) "ld1 {" S(s) "-" S(v) "}, [%[panel]]\n"
#define ROW(p, ...) "ldr x" #p ", [%[row]], #8\n"
#define READ_16(p, x, ...) "ldr q" #x ", [x" #p "], #16\n"
#define READ_8(p, x, ...) "ldr d" #x ", [x" #p "], #8\n"
#define READ_4(p, x, ...) "ldr s" #x ", [x" #p "], #4\n"
#define READ_2(p, x, ...) "ldr h" #x ", [x" #p "], #2\n"
#define READ_1(p, x, ...) "ldr b" #x ", [x" #p "]\n"
#define READ_THIRD(p, x, ...) "ld1 {v" #x ".b}[2], [x" #p "]\n"
#define WEIGHTS "ld1 {v0.16b-v3.16b}, [%[w]], #64\n"
#define SDOT(s, w, x, l) "sdot " S(s) ", " B(w) ", v" #x ".4b[" #l "]\n"
#define SDOTS(x, l, s, t, u, v) SDOT(s, 0, x, l) SDOT(t, 1, x, l) SDOT(u, 2, x, l) SDOT(v, 3, x, l)
#define LANE_0(p, x, ...) SDOTS(x, 0, __VA_ARGS__)
#define LANE_1(p, x, ...) SDOTS(x, 1, __VA_ARGS__)
#define LANE_2(p, x, ...) SDOTS(x, 2, __VA_ARGS__)
#define LANE_3(p, x, ...) SDOTS(x, 3, __VA_ARGS__)
#define STORE_SUMS(p, x, s, t, u, v) "st1 {" S(s) "-" S(v) "}, [%[y]], %[step]\n"
#define STORE(s) "st1 {" B(s) "}, [%[y]], %[step]\n"
#define STORE_QUICKLY(p, x, s, t, u, v) QUICKLY(s, t, u, v) STORE(s)
#define STORE_WHOLLY(p, x, s, t, u, v) WHOLLY(s, t, u, v) STORE(s)

#define ASSEMBLY(ROWS)                                                              \
    ROWS(BIAS)                                                                      \
    "cbz %[taps], 6f\n"                                                             \
    "1: " ROWS(ROW)                                                                 \
    "lsr x17, %[k], #4\n"                                                           \
    "cbz x17, 3f\n"                                                                 \
    "2: " ROWS(READ_16)                                                             \
    WEIGHTS ROWS(LANE_0) WEIGHTS ROWS(LANE_1) WEIGHTS ROWS(LANE_2) WEIGHTS ROWS(LANE_3) \
    "subs x17, x17, #1\n"                                                           \
    "b.ne 2b\n"                                                                     \
    "3: tbz %[k], #3, 3f\n"                                                         \
    ROWS(READ_8) WEIGHTS ROWS(LANE_0) WEIGHTS ROWS(LANE_1)                          \
    "3: tbz %[k], #2, 3f\n"                                                         \
    ROWS(READ_4) WEIGHTS ROWS(LANE_0)                                               \
    "3: tst %[k], #3\n"                                                             \
    "b.eq 5f\n"                                                                     \
    "tbz %[k], #1, 3f\n"                                                            \
    ROWS(READ_2)                                                                    \
    "tbz %[k], #0, 4f\n"                                                            \
    ROWS(READ_THIRD)                                                                \
    "b 4f\n"                                                                        \
    "3: " ROWS(READ_1)                                                              \
    "4: " WEIGHTS ROWS(LANE_0)                                                      \
    "5: subs %[taps], %[taps], #1\n"                                                \
    "b.ne 1b\n"                                                                     \
    "6: cbnz %[way], 7f\n"                                                          \
    ROWS(STORE_SUMS)                                                                \
    "b 9f\n"                                                                        \
    "7: add x17, %[panel], #64\n"                                                   \
    "ld1 {v0.4s-v3.4s}, [x17]\n"                                                    \
    "tbz %[way], #0, 8f\n"                                                          \
    "dup v4.4s, %w[magic]\n"                                                        \
    ROWS(STORE_QUICKLY)                                                             \
    "b 9f\n"                                                                        \
    "8: ld1 {v4.16b-v6.16b}, [%[how]]\n"                                            \
    ROWS(STORE_WHOLLY)                                                              \
    "9:\n"

#define WIDE(MR) WIDE_TILE(mcc_gemm_s8_##MR##x16c4_neondot, MR, ASSEMBLY(WIDE_##MR), )
WIDE(5)
WIDE(4)
WIDE(2)
WIDE(1)
#endif
