/* gemm_f32_neon.c: tiles of 5 x 16, 8 x 8 and 8 x 4 and every lower height. Each row of A gives 4 k in one load, four vectors
 * of weights come with one instruction, and the multiply-add takes A lane by lane: of 91 instructions for four k of a 5 x 16
 * tile, 80 multiply. 20 sums, 5 rows and 4 weights are 29 of the 32 registers. */
#if defined(__aarch64__)
#include <arm_neon.h>

#include "../core/isa.h"
#include "gemm.h"
#include "rows.h"

/* gcc 12 would move loads so far ahead that sums spill, address rows by an index in place of moving pointers along, and move
 * sums out of the weights' registers and back. */
#if !defined(__clang__)
#pragma GCC optimize("no-schedule-insns", "no-ivopts", "no-tree-coalesce-vars", "no-caller-saves")
#endif

#define ARGS                                                                                                   \
    size_t m, size_t n, size_t k, size_t taps, const float *const *rows, const float *panel, float *c,         \
        size_t c_stride, const float *residual, float lo, float hi, const mcc_gemm_ahead *ahead

/* w0 ... w3: the next 16 floats at w. The compiler makes more of the intrinsic: it copies, and adds to w apart. */
#define WEIGHTS                                                                                                \
    register float32x4_t w0 __asm__("v0"), w1 __asm__("v1"), w2 __asm__("v2"), w3 __asm__("v3");               \
    __asm__("ld1 {v0.4s-v3.4s}, [%4], #64"                                                                     \
            : "=w"(w0), "=w"(w1), "=w"(w2), "=w"(w3), "+r"(w) : "m"(*(const float(*)[16])w));

#define POINT(i) const float *p##i = row[i];
#define LOAD(i) const float32x4_t x##i = vld1q_f32(p##i); p##i += 4;
#define ONE(i) const float32x4_t x##i = vld1q_dup_f32(p##i++);

/* By the number of vectors in a row of the tile, 4, 2 or 1: the sums of row i are s, t, u, v. */
#define NAME4(i) float32x4_t s##i, t##i, u##i, v##i;
#define NAME2(i) float32x4_t s##i, t##i;
#define NAME1(i) float32x4_t s##i;
#define BIAS4(i) s##i = vld1q_f32(panel), t##i = vld1q_f32(panel + 4), u##i = vld1q_f32(panel + 8), v##i = vld1q_f32(panel + 12);
#define BIAS2(i) s##i = vld1q_f32(panel), t##i = vld1q_f32(panel + 4);
#define BIAS1(i) s##i = vld1q_f32(panel);
#define LANE4(i, l)                                                                                       \
    s##i = vfmaq_laneq_f32(s##i, w0, x##i, l), t##i = vfmaq_laneq_f32(t##i, w1, x##i, l),                 \
    u##i = vfmaq_laneq_f32(u##i, w2, x##i, l), v##i = vfmaq_laneq_f32(v##i, w3, x##i, l);
#define LANE2(i, l, a, b) s##i = vfmaq_laneq_f32(s##i, a, x##i, l), t##i = vfmaq_laneq_f32(t##i, b, x##i, l);
#define LANE4_0(i) LANE4(i, 0)
#define LANE4_1(i) LANE4(i, 1)
#define LANE4_2(i) LANE4(i, 2)
#define LANE4_3(i) LANE4(i, 3)
#define LANE2_0(i) LANE2(i, 0, w0, w1)
#define LANE2_1(i) LANE2(i, 1, w2, w3)
#define LANE2_2(i) LANE2(i, 2, w0, w1)
#define LANE2_3(i) LANE2(i, 3, w2, w3)
#define LANE1_0(i) s##i = vfmaq_laneq_f32(s##i, w0, x##i, 0);
#define LANE1_1(i) s##i = vfmaq_laneq_f32(s##i, w1, x##i, 1);
#define LANE1_2(i) s##i = vfmaq_laneq_f32(s##i, w2, x##i, 2);
#define LANE1_3(i) s##i = vfmaq_laneq_f32(s##i, w3, x##i, 3);
#define FOUR4(MR)                       \
    { WEIGHTS GEMM_ROWS(MR, LANE4_0) }  \
    { WEIGHTS GEMM_ROWS(MR, LANE4_1) }  \
    { WEIGHTS GEMM_ROWS(MR, LANE4_2) }  \
    { WEIGHTS GEMM_ROWS(MR, LANE4_3) }
#define FOUR2(MR)                                             \
    { WEIGHTS GEMM_ROWS(MR, LANE2_0) GEMM_ROWS(MR, LANE2_1) } \
    { WEIGHTS GEMM_ROWS(MR, LANE2_2) GEMM_ROWS(MR, LANE2_3) }
#define FOUR1(MR) { WEIGHTS GEMM_ROWS(MR, LANE1_0) GEMM_ROWS(MR, LANE1_1) GEMM_ROWS(MR, LANE1_2) GEMM_ROWS(MR, LANE1_3) }
#define LAST4(MR) { WEIGHTS GEMM_ROWS(MR, LANE4_0) }
#define LAST2(MR) { const float32x4_t w0 = vld1q_f32(w), w1 = vld1q_f32(w + 4); w += 8; GEMM_ROWS(MR, LANE2_0) }
#define LAST1(MR) { const float32x4_t w0 = vld1q_f32(w); w += 4; GEMM_ROWS(MR, LANE1_0) }

#define CUT(a) a = vminq_f32(high, vmaxq_f32(low, a))
#define CUT4(i) CUT(s##i), CUT(t##i), CUT(u##i), CUT(v##i);
#define CUT2(i) CUT(s##i), CUT(t##i);
#define CUT1(i) CUT(s##i);
#define MORE(a, at) a = vaddq_f32(a, vld1q_f32(r + at))
#define MORE4(i) MORE(s##i, 0), MORE(t##i, 4), MORE(u##i, 8), MORE(v##i, 12), r += c_stride;
#define MORE2(i) MORE(s##i, 0), MORE(t##i, 4), r += c_stride;
#define MORE1(i) MORE(s##i, 0), r += c_stride;
#define STORE4(i) vst1q_f32(y, s##i), vst1q_f32(y + 4, t##i), vst1q_f32(y + 8, u##i), vst1q_f32(y + 12, v##i), y += stride;
#define STORE2(i) vst1q_f32(y, s##i), vst1q_f32(y + 4, t##i), y += stride;
#define STORE1(i) vst1q_f32(y, s##i), y += stride;

/* A tile at an edge, from where it was put whole. */
__attribute__((noinline)) static void edge(size_t m, size_t n, const float *whole, size_t nr, float *c, size_t c_stride,
                                           const float *residual, float lo, float hi) {
    for (; m; m--, whole += nr, c += c_stride) {
        for (size_t j = 0; j < n; j++) {
            const float y = residual ? whole[j] + residual[j] : whole[j], cut = y < lo ? lo : y;
            c[j] = cut > hi ? hi : cut;
        }
        if (residual) residual += c_stride;
    }
}

/* The end of a tile: what is added, cut and stored while in registers; then the next panel, if there is one. */
#define PUT(MR, NR, V)                                                        \
    if (m < MR || n < NR) {                                                   \
        float whole[MR * NR], *y = whole;                                     \
        const size_t stride = NR;                                             \
        GEMM_ROWS(MR, STORE##V)                                               \
        edge(m, n < NR ? n : NR, whole, NR, c, c_stride, residual, lo, hi);   \
    } else {                                                                  \
        float *y = c;                                                         \
        const float *r = residual;                                            \
        const size_t stride = c_stride;                                       \
        if (r) { GEMM_ROWS(MR, MORE##V) }                                     \
        if (bounded) {                                                        \
            const float32x4_t low = vdupq_n_f32(lo), high = vdupq_n_f32(hi);  \
            GEMM_ROWS(MR, CUT##V)                                             \
        }                                                                     \
        GEMM_ROWS(MR, STORE##V)                                               \
    }                                                                         \
    if (n <= NR) return;                                                      \
    n -= NR, c += NR, panel = w;                                              \
    if (residual) residual += NR;

#define TILE(MR, NR, V)                                                                                            \
    void mcc_gemm_f32_##MR##x##NR##c1_neon(ARGS) {                                                                 \
        const bool bounded = lo > -__builtin_inff() || hi < __builtin_inff();                                      \
        (void)ahead;                                                                                               \
        for (;;) {                                                                                                 \
            GEMM_ROWS(MR, NAME##V)                                                                                 \
            GEMM_ROWS(MR, BIAS##V)                                                                                 \
            const float *w = panel + NR, *const *row = rows;                                                       \
            for (size_t t = taps; t; t--, row += MR) {                                                             \
                GEMM_ROWS(MR, POINT)                                                                               \
                for (size_t q = k / 4; q; q--) { GEMM_ROWS(MR, LOAD) FOUR##V(MR) }                                 \
                _Pragma("GCC unroll 1") for (size_t q = k % 4; q; q--) { GEMM_ROWS(MR, ONE) LAST##V(MR) }          \
            }                                                                                                      \
            PUT(MR, NR, V)                                                                                         \
        }                                                                                                          \
    }

TILE(5, 16, 4)
TILE(4, 16, 4)
TILE(3, 16, 4)
TILE(2, 16, 4)
TILE(8, 8, 2)
TILE(7, 8, 2)
TILE(6, 8, 2)
TILE(5, 8, 2)
TILE(4, 8, 2)
TILE(3, 8, 2)
TILE(2, 8, 2)
TILE(8, 4, 1)
TILE(7, 4, 1)
TILE(6, 4, 1)
TILE(5, 4, 1)
TILE(4, 4, 1)
TILE(3, 4, 1)
TILE(2, 4, 1)

/* One row: neighbouring k add to sums of their own, so that no multiply-add waits for the one before it. */
#define MORE_SUMS4 float32x4_t s1 = zero, t1 = zero, u1 = zero, v1 = zero;
#define MORE_SUMS2 float32x4_t s1 = zero, t1 = zero, s2 = zero, t2 = zero, s3 = zero, t3 = zero;
#define MORE_SUMS1 float32x4_t s1 = zero, s2 = zero, s3 = zero;
#define TURN4(j, l)                                                                                  \
    s##j = vfmaq_laneq_f32(s##j, w0, x0, l), t##j = vfmaq_laneq_f32(t##j, w1, x0, l),                \
    u##j = vfmaq_laneq_f32(u##j, w2, x0, l), v##j = vfmaq_laneq_f32(v##j, w3, x0, l);
#define TURN2(j, a, b) s##j = vfmaq_laneq_f32(s##j, a, x0, j), t##j = vfmaq_laneq_f32(t##j, b, x0, j);
#define TURN1(j) s##j = vfmaq_laneq_f32(s##j, w##j, x0, j);
#define TURNS4 { WEIGHTS TURN4(0, 0) } { WEIGHTS TURN4(1, 1) } { WEIGHTS TURN4(0, 2) } { WEIGHTS TURN4(1, 3) }
#define TURNS2 { WEIGHTS TURN2(0, w0, w1) TURN2(1, w2, w3) } { WEIGHTS TURN2(2, w0, w1) TURN2(3, w2, w3) }
#define TURNS1 { WEIGHTS TURN1(0) TURN1(1) TURN1(2) TURN1(3) }
#define FOLD(a) a##0 = vaddq_f32(vaddq_f32(a##0, a##1), vaddq_f32(a##2, a##3))
#define JOIN4 s0 = vaddq_f32(s0, s1), t0 = vaddq_f32(t0, t1), u0 = vaddq_f32(u0, u1), v0 = vaddq_f32(v0, v1);
#define JOIN2 FOLD(s), FOLD(t);
#define JOIN1 FOLD(s);

#define ROW(NR, V)                                                                                                 \
    void mcc_gemm_f32_1x##NR##c1_neon(ARGS) {                                                                      \
        const bool bounded = lo > -__builtin_inff() || hi < __builtin_inff();                                      \
        const float32x4_t zero = vdupq_n_f32(0);                                                                   \
        (void)ahead;                                                                                               \
        for (;;) {                                                                                                 \
            NAME##V(0) BIAS##V(0) MORE_SUMS##V                                                                     \
            const float *w = panel + NR, *const *row = rows;                                                       \
            for (size_t t = taps; t; t--, row++) {                                                                 \
                POINT(0)                                                                                           \
                for (size_t q = k / 4; q; q--) { LOAD(0) TURNS##V }                                                \
                _Pragma("GCC unroll 1") for (size_t q = k % 4; q; q--) { ONE(0) LAST##V(1) }                       \
            }                                                                                                      \
            JOIN##V                                                                                                \
            PUT(1, NR, V)                                                                                          \
        }                                                                                                          \
    }

ROW(16, 4)
ROW(8, 2)
ROW(4, 1)
#endif
