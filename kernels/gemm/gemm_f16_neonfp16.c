/* gemm_f16_neonfp16.c: float16 tiles of 8, 4, 2 and 1 rows by 16 and by 8, summed in float16. Each row of A gives 8 k in one
 * load, four vectors of weights come with one instruction, and the multiply-add takes A lane by lane: of 140 instructions for
 * eight k of an 8 x 16 tile, 128 multiply. 16 sums, 8 rows and 4 weights are 28 of the 32 registers; lanes can be taken of the
 * first 16 only, so A is in those, and weights are in the last. */
#if defined(__aarch64__)
#include "../core/neon.h"
#include <string.h>

#include "../core/isa.h"
#include "gemm.h"
#include "rows.h"

/* As in gemm_f32_neon.c; and the pointers after a loop are what they are then, not computed from those before it. */
#if !defined(__clang__)
#pragma GCC optimize("no-schedule-insns", "no-ivopts", "no-tree-coalesce-vars", "no-caller-saves", "no-tree-scev-cprop")
#endif

#define ARGS                                                                                                   \
    size_t m, size_t n, size_t k, size_t taps, const uint16_t *const *rows, const uint16_t *panel_, uint16_t *c_, \
        size_t c_stride, const uint16_t *residual_, float lo, float hi, const mcc_gemm_ahead *ahead

/* w0 ... w3: the next 32 numbers at w, which has a register of its own, so that no loop copies it. */
#define WEIGHTS                                                                                                \
    register float16x8_t w0 __asm__("v28"), w1 __asm__("v29"), w2 __asm__("v30"), w3 __asm__("v31");           \
    __asm__("ld1 {v28.8h-v31.8h}, [%4], #64"                                                                   \
            : "=w"(w0), "=w"(w1), "=w"(w2), "=w"(w3), "+r"(w) : "m"(*(const float16_t(*)[32])w));

#define POINT(i) const float16_t *p##i = (const float16_t *)row[i];
#define LOAD(i) register float16x8_t x##i __asm__("v" #i) = vld1q_f16(p##i); p##i += 8;
#define ONE(i) register float16x8_t x##i __asm__("v" #i) = vld1q_dup_f16(p##i++);

/* s += a * x[l]. gcc 12 would copy the lane of each intrinsic into a vector first. */
#define FMA(s, a, x, l) __asm__("fmla %0.8h, %1.8h, %2.h[" #l "]" : "+w"(s) : "w"(a), "x"(x))

/* By the number of vectors in a row of the tile, 2 or 1: the sums of row i are s, t. */
#define NAME2(i) float16x8_t s##i, t##i;
#define NAME1(i) float16x8_t s##i;
#define BIAS2(i) s##i = vld1q_f16(panel), t##i = vld1q_f16(panel + 8);
#define BIAS1(i) s##i = vld1q_f16(panel);
#define LANE2(i, l, a, b) FMA(s##i, a, x##i, l); FMA(t##i, b, x##i, l);
#define LANE1(i, l, a) FMA(s##i, a, x##i, l);
#define LANE2_0(i) LANE2(i, 0, w0, w1)
#define LANE2_1(i) LANE2(i, 1, w2, w3)
#define LANE2_2(i) LANE2(i, 2, w0, w1)
#define LANE2_3(i) LANE2(i, 3, w2, w3)
#define LANE2_4(i) LANE2(i, 4, w0, w1)
#define LANE2_5(i) LANE2(i, 5, w2, w3)
#define LANE2_6(i) LANE2(i, 6, w0, w1)
#define LANE2_7(i) LANE2(i, 7, w2, w3)
#define LANE1_0(i) LANE1(i, 0, w0)
#define LANE1_1(i) LANE1(i, 1, w1)
#define LANE1_2(i) LANE1(i, 2, w2)
#define LANE1_3(i) LANE1(i, 3, w3)
#define LANE1_4(i) LANE1(i, 4, w0)
#define LANE1_5(i) LANE1(i, 5, w1)
#define LANE1_6(i) LANE1(i, 6, w2)
#define LANE1_7(i) LANE1(i, 7, w3)
#define EIGHT2(MR)                                            \
    { WEIGHTS GEMM_ROWS(MR, LANE2_0) GEMM_ROWS(MR, LANE2_1) } \
    { WEIGHTS GEMM_ROWS(MR, LANE2_2) GEMM_ROWS(MR, LANE2_3) } \
    { WEIGHTS GEMM_ROWS(MR, LANE2_4) GEMM_ROWS(MR, LANE2_5) } \
    { WEIGHTS GEMM_ROWS(MR, LANE2_6) GEMM_ROWS(MR, LANE2_7) }
#define EIGHT1(MR)                                                                                            \
    { WEIGHTS GEMM_ROWS(MR, LANE1_0) GEMM_ROWS(MR, LANE1_1) GEMM_ROWS(MR, LANE1_2) GEMM_ROWS(MR, LANE1_3) }  \
    { WEIGHTS GEMM_ROWS(MR, LANE1_4) GEMM_ROWS(MR, LANE1_5) GEMM_ROWS(MR, LANE1_6) GEMM_ROWS(MR, LANE1_7) }
#define LAST2(MR) { const float16x8_t w0 = vld1q_f16(w), w1 = vld1q_f16(w + 8); w += 16; GEMM_ROWS(MR, LANE2_0) }
#define LAST1(MR) { const float16x8_t w0 = vld1q_f16(w); w += 8; GEMM_ROWS(MR, LANE1_0) }

#define CUT(a) a = vminq_f16(high, vmaxq_f16(low, a))
#define CUT2(i) CUT(s##i), CUT(t##i);
#define CUT1(i) CUT(s##i);
#define MORE(a, at) a = vaddq_f16(a, vld1q_f16(r + at))
#define MORE2(i) MORE(s##i, 0), MORE(t##i, 8), r += c_stride;
#define MORE1(i) MORE(s##i, 0), r += c_stride;
#define STORE2(i) vst1q_f16(y, s##i), vst1q_f16(y + 8, t##i), y += stride;
#define STORE1(i) vst1q_f16(y, s##i), y += stride;

/* A tile at an edge, from where it was put whole. */
MCC_FN(neonfp16) __attribute__((noinline)) static void edge(size_t m, size_t n, const float16_t *whole, size_t nr, float16_t *c, size_t c_stride,
                                                            const float16_t *residual, float16x8_t low, float16x8_t high) {
    for (; m; m--, whole += nr, c += c_stride) {
        for (size_t j = 0; j < n; j += 8) {
            const size_t some = n - j < 8 ? (n - j) * sizeof *c : 16;
            float16_t part[8] = {0};
            float16x8_t y = vld1q_f16(whole + j);
            if (residual) memcpy(part, residual + j, some), y = vaddq_f16(y, vld1q_f16(part));
            vst1q_f16(part, vminq_f16(high, vmaxq_f16(low, y)));
            memcpy(c + j, part, some);
        }
        if (residual) residual += c_stride;
    }
}

/* The end of a tile: what is added, cut and stored while in registers; then the next panel, if there is one, or the next tile. */
#define PUT(MR, NR, V)                                                                                          \
    if (m < MR || n < NR) {                                                                                     \
        float16_t whole[MR * NR], *y = whole;                                                                   \
        const size_t stride = NR;                                                                               \
        GEMM_ROWS(MR, STORE##V)                                                                                 \
        edge(m < MR ? m : MR, n < NR ? n : NR, whole, NR, c, c_stride, residual, low, high);                    \
    } else {                                                                                                    \
        float16_t *y = c;                                                                                       \
        const float16_t *r = residual;                                                                          \
        const size_t stride = c_stride;                                                                         \
        if (r) { GEMM_ROWS(MR, MORE##V) }                                                                       \
        if (bounded) { GEMM_ROWS(MR, CUT##V) }                                                                  \
        GEMM_ROWS(MR, STORE##V)                                                                                 \
    }                                                                                                           \
    if (n > NR) {                                                                                               \
        n -= NR, c += NR, panel = w;                                                                            \
        if (residual) residual += NR;                                                                           \
        continue;                                                                                               \
    }                                                                                                           \
    if (m <= MR) return;                                                                                        \
    m -= MR, n = columns, rows += taps * MR, panel = panels, c = line += MR * c_stride;                         \
    if (residual) residual = more += MR * c_stride;

#define BEGIN                                                                                                   \
    const bool bounded = lo > -__builtin_inff() || hi < __builtin_inff();                                       \
    const float16x8_t low = vdupq_n_f16((float16_t)lo), high = vdupq_n_f16((float16_t)hi);                      \
    const float16_t *const panels = (const float16_t *)panel_, *panel = panels;                                 \
    const float16_t *more = (const float16_t *)residual_, *residual = more;                                     \
    float16_t *line = (float16_t *)c_, *c = line;                                                               \
    const size_t columns = n;                                                                                   \
    (void)ahead;

#define TILE(MR, NR, V)                                                                                         \
    MCC_FN(neonfp16) void mcc_gemm_f16_##MR##x##NR##c1_neonfp16(ARGS) {                                         \
        BEGIN                                                                                                   \
        for (;;) {                                                                                              \
            GEMM_ROWS(MR, NAME##V)                                                                              \
            GEMM_ROWS(MR, BIAS##V)                                                                              \
            register const float16_t *w __asm__("x15") = panel + NR;                                                                    \
            const uint16_t *const *row = rows;                                                                  \
            for (size_t t = taps; t; t--, row += MR) {                                                          \
                GEMM_ROWS(MR, POINT)                                                                            \
                for (size_t q = k / 8; q; q--) { GEMM_ROWS(MR, LOAD) EIGHT##V(MR) }                             \
                _Pragma("GCC unroll 1") for (size_t q = k % 8; q; q--) { GEMM_ROWS(MR, ONE) LAST##V(MR) }       \
            }                                                                                                   \
            PUT(MR, NR, V)                                                                                      \
        }                                                                                                       \
    }

TILE(8, 16, 2)
TILE(4, 16, 2)
TILE(2, 16, 2)
TILE(8, 8, 1)
TILE(4, 8, 1)
TILE(2, 8, 1)

/* One row: neighbouring k add to sums of their own, so that no multiply-add waits for the one before it. */
#define MORE_SUMS2 float16x8_t s1 = zero, t1 = zero, s2 = zero, t2 = zero, s3 = zero, t3 = zero;
#define MORE_SUMS1 float16x8_t s1 = zero, s2 = zero, s3 = zero;
#define TURN2(j, l, a, b) FMA(s##j, a, x0, l); FMA(t##j, b, x0, l);
#define TURN1(j, l) FMA(s##j, w##j, x0, l);
#define TURNS2                                                                                                 \
    { WEIGHTS TURN2(0, 0, w0, w1) TURN2(1, 1, w2, w3) } { WEIGHTS TURN2(2, 2, w0, w1) TURN2(3, 3, w2, w3) }    \
    { WEIGHTS TURN2(0, 4, w0, w1) TURN2(1, 5, w2, w3) } { WEIGHTS TURN2(2, 6, w0, w1) TURN2(3, 7, w2, w3) }
#define TURNS1                                                                                                 \
    { WEIGHTS TURN1(0, 0) TURN1(1, 1) TURN1(2, 2) TURN1(3, 3) } { WEIGHTS TURN1(0, 4) TURN1(1, 5) TURN1(2, 6) TURN1(3, 7) }
#define FOLD(a) a##0 = vaddq_f16(vaddq_f16(a##0, a##1), vaddq_f16(a##2, a##3))
#define JOIN2 FOLD(s), FOLD(t);
#define JOIN1 FOLD(s);

#define ROW(NR, V)                                                                                              \
    MCC_FN(neonfp16) void mcc_gemm_f16_1x##NR##c1_neonfp16(ARGS) {                                              \
        BEGIN                                                                                                   \
        const float16x8_t zero = vdupq_n_f16(0);                                                                \
        for (;;) {                                                                                              \
            NAME##V(0) BIAS##V(0) MORE_SUMS##V                                                                  \
            register const float16_t *w __asm__("x15") = panel + NR;                                                                    \
            const uint16_t *const *row = rows;                                                                  \
            for (size_t t = taps; t; t--, row++) {                                                              \
                POINT(0)                                                                                        \
                for (size_t q = k / 8; q; q--) { LOAD(0) TURNS##V }                                             \
                _Pragma("GCC unroll 1") for (size_t q = k % 8; q; q--) { ONE(0) LAST##V(1) }                    \
            }                                                                                                   \
            JOIN##V                                                                                             \
            PUT(1, NR, V)                                                                                       \
        }                                                                                                       \
    }

ROW(16, 2)
ROW(8, 1)
#endif
