/* gemm_f32_neon.c: tiles of 5 x 16, 5 x 8 and 5 x 4 and every lower height. Four vectors of weights come with one instruction,
 * eight k of a row of A with one or two, and the multiply-add takes A lane by lane: of 177 instructions for eight k of a 5 x 16
 * tile, 160 multiply. A tile is one piece of assembler, for it takes all registers: 20 sums, 4 of weights and 8 of A, which are
 * two for each of the first rows and one for the others. A row of sums is neighbouring registers: one load of bias, one store. */
#if defined(__aarch64__)
#include "../core/isa.h"
#include "gemm.h"

#define ARGS                                                                                                   \
    size_t m, size_t n, size_t k, size_t taps, const float *const *rows, const float *panel, float *c,         \
        size_t c_stride, const float *residual, float lo, float hi, const mcc_gemm_ahead *ahead

/* Rows by the vectors in each, 4, 2 or 1: X or Y(pointer into A, two registers of A, sums). X: a row whose A has two registers. */
#define ROWS4_1(X, Y) X(9, 4, 5, 12, 13, 14, 15)
#define ROWS4_2(X, Y) ROWS4_1(X, Y) X(10, 6, 7, 16, 17, 18, 19)
#define ROWS4_3(X, Y) ROWS4_2(X, Y) X(11, 8, 9, 20, 21, 22, 23)
#define ROWS4_4(X, Y) ROWS4_3(X, Y) Y(12, 10, 10, 24, 25, 26, 27)
#define ROWS4_5(X, Y) ROWS4_4(X, Y) Y(13, 11, 11, 28, 29, 30, 31)
#define ROWS2_1(X, Y) X(9, 4, 5, 16, 17)
#define ROWS2_2(X, Y) ROWS2_1(X, Y) X(10, 6, 7, 18, 19)
#define ROWS2_3(X, Y) ROWS2_2(X, Y) X(11, 8, 9, 20, 21)
#define ROWS2_4(X, Y) ROWS2_3(X, Y) X(12, 10, 11, 22, 23)
#define ROWS2_5(X, Y) ROWS2_4(X, Y) Y(13, 12, 12, 24, 25)
#define ROWS1_1(X, Y) X(9, 4, 5, 16)
#define ROWS1_2(X, Y) ROWS1_1(X, Y) X(10, 6, 7, 17)
#define ROWS1_3(X, Y) ROWS1_2(X, Y) X(11, 8, 9, 18)
#define ROWS1_4(X, Y) ROWS1_3(X, Y) X(12, 10, 11, 19)
#define ROWS1_5(X, Y) ROWS1_4(X, Y) Y(13, 12, 12, 20)
#define EVERY(ROWS, X) ROWS(X, X)

#define POINT_1 "ldr x9, [x3], #8\n"
#define POINT_2 "ldp x9, x10, [x3], #16\n"
#define POINT_3 POINT_2 "ldr x11, [x3], #8\n"
#define POINT_4 POINT_2 "ldp x11, x12, [x3], #16\n"
#define POINT_5 POINT_4 "ldr x13, [x3], #8\n"

#define BOTH(p, a, b, ...) "ldp q" #a ", q" #b ", [x" #p "], #32\n"
#define FOUR(p, a, ...) "ldr q" #a ", [x" #p "], #16\n"
#define ONE(p, a, ...) "ld1r {v" #a ".4s}, [x" #p "], #4\n"
#define NONE(...)

/* The sum s and lane l of x times weights w. */
#define FMA(s, w, x, l) "fmla v" #s ".4s, v" #w ".4s, v" #x ".s[" #l "]\n"
#define LINE4(x, l, s, t, u, v) FMA(s, 0, x, l) FMA(t, 1, x, l) FMA(u, 2, x, l) FMA(v, 3, x, l)
#define A4_0(p, a, b, ...) LINE4(a, 0, __VA_ARGS__)
#define A4_1(p, a, b, ...) LINE4(a, 1, __VA_ARGS__)
#define A4_2(p, a, b, ...) LINE4(a, 2, __VA_ARGS__)
#define A4_3(p, a, b, ...) LINE4(a, 3, __VA_ARGS__)
#define B4_0(p, a, b, ...) LINE4(b, 0, __VA_ARGS__)
#define B4_1(p, a, b, ...) LINE4(b, 1, __VA_ARGS__)
#define B4_2(p, a, b, ...) LINE4(b, 2, __VA_ARGS__)
#define B4_3(p, a, b, ...) LINE4(b, 3, __VA_ARGS__)
#define A2_0(p, a, b, s, t) FMA(s, 0, a, 0) FMA(t, 1, a, 0) FMA(s, 2, a, 1) FMA(t, 3, a, 1)
#define A2_2(p, a, b, s, t) FMA(s, 0, a, 2) FMA(t, 1, a, 2) FMA(s, 2, a, 3) FMA(t, 3, a, 3)
#define B2_0(p, a, b, s, t) A2_0(p, b, b, s, t)
#define B2_2(p, a, b, s, t) A2_2(p, b, b, s, t)
#define A1_0(p, a, b, s) FMA(s, 0, a, 0)
#define A1_1(p, a, b, s) FMA(s, 1, a, 1)
#define A1_2(p, a, b, s) FMA(s, 2, a, 2)
#define A1_3(p, a, b, s) FMA(s, 3, a, 3)
#define B1_0(p, a, b, s) FMA(s, 0, b, 0)
#define B1_1(p, a, b, s) FMA(s, 1, b, 1)
#define B1_2(p, a, b, s) FMA(s, 2, b, 2)
#define B1_3(p, a, b, s) FMA(s, 3, b, 3)
#define WEIGHTS "ld1 {v0.4s-v3.4s}, [%[w]], #64\n"
#define K4_4(R, A) WEIGHTS EVERY(R, A##_0) WEIGHTS EVERY(R, A##_1) WEIGHTS EVERY(R, A##_2) WEIGHTS EVERY(R, A##_3)
#define K4_2(R, A) WEIGHTS EVERY(R, A##_0) WEIGHTS EVERY(R, A##_2)
#define K4_1(R, A) WEIGHTS EVERY(R, A##_0) EVERY(R, A##_1) EVERY(R, A##_2) EVERY(R, A##_3)
#define K1_4(R) WEIGHTS EVERY(R, A4_0)
#define LINE2(p, a, b, s, t) FMA(s, 0, a, 0) FMA(t, 1, a, 0)
#define K1_2(R) "ldp q0, q1, [%[w]], #32\n" EVERY(R, LINE2)
#define K1_1(R) "ldr q0, [%[w]], #16\n" EVERY(R, A1_0)

#define SPAN4(s, v) "{v" #s ".4s-v" #v ".4s}"
#define BIAS4(p, a, b, s, t, u, v) "ld1 " SPAN4(s, v) ", [%[w]]\n"
#define BIAS2(p, a, b, s, t) "ld1 " SPAN4(s, t) ", [%[w]]\n"
#define BIAS1(p, a, b, s) "ldr q" #s ", [%[w]]\n"
#define STORE4(p, a, b, s, t, u, v) "st1 " SPAN4(s, v) ", [%[line]], %[step]\n"
#define STORE2(p, a, b, s, t) "st1 " SPAN4(s, t) ", [%[line]], %[step]\n"
#define STORE1(p, a, b, s) "st1 {v" #s ".4s}, [%[line]], %[step]\n"
#define OP(op, s, x) op " v" #s ".4s, v" #s ".4s, v" #x ".4s\n"
#define MORE4(p, a, b, s, t, u, v) \
    "ld1 {v0.4s-v3.4s}, [x4], %[step]\n" OP("fadd", s, 0) OP("fadd", t, 1) OP("fadd", u, 2) OP("fadd", v, 3)
#define MORE2(p, a, b, s, t) "ld1 {v0.4s-v1.4s}, [x4], %[step]\n" OP("fadd", s, 0) OP("fadd", t, 1)
#define MORE1(p, a, b, s) "ld1 {v0.4s}, [x4], %[step]\n" OP("fadd", s, 0)
#define CUT(s) OP("fmax", s, 0) OP("fmin", s, 1)
#define CUT4(p, a, b, s, t, u, v) CUT(s) CUT(t) CUT(u) CUT(v)
#define CUT2(p, a, b, s, t) CUT(s) CUT(t)
#define CUT1(p, a, b, s) CUT(s)

/* A tile of every one of `panels` panels, which are whole: `line` is the first of y, `more` of the residual or 0; `back` leads
 * from behind a tile to the next one. */
#define ASSEMBLY(MR, V, R, ZEROS, EIGHT, JOIN)                                   \
    "0: mov x3, %[rows]\n"                                                       \
    "mov x4, %[taps]\n"                                                          \
    EVERY(R, BIAS##V) ZEROS                                                      \
    "add %[w], %[w], #16 * " #V "\n"                                             \
    "cbz x4, 6f\n"                                                               \
    "1: " POINT_##MR                                                             \
    "cbz %[eights], 3f\n"                                                        \
    "mov x17, %[eights]\n"                                                       \
    "2: " EIGHT                                                                  \
    "subs x17, x17, #1\n"                                                        \
    "b.ne 2b\n"                                                                  \
    "3: cbz %[ones], 5f\n"                                                       \
    "mov x17, %[ones]\n"                                                         \
    "4: " EVERY(R, ONE)                                                          \
    K1_##V(R)                                                                    \
    "subs x17, x17, #1\n"                                                        \
    "b.ne 4b\n"                                                                  \
    "5: subs x4, x4, #1\n"                                                       \
    "b.ne 1b\n"                                                                  \
    "6: " JOIN                                                                   \
    "cbz %[more], 7f\n"                                                          \
    "mov x4, %[more]\n"                                                          \
    "add %[more], %[more], #16 * " #V "\n"                                       \
    EVERY(R, MORE##V)                                                            \
    "7: cbz %[bounds], 8f\n"                                                     \
    "ld2r {v0.4s, v1.4s}, [%[bounds]]\n"                                         \
    EVERY(R, CUT##V)                                                             \
    "8: " EVERY(R, STORE##V)                                                     \
    "add %[line], %[line], %[back]\n"                                            \
    "subs %[panels], %[panels], #1\n"                                            \
    "b.ne 0b\n"
#define EIGHT(V, R) R(BOTH, FOUR) K4_##V(R, A##V) R(NONE, FOUR) K4_##V(R, B##V)

/* One row: neighbouring k add to sums of their own, so that no multiply-add waits for the one before it. */
#define ZERO(s) "movi v" #s ".4s, #0\n"
#define ZEROS4 ZERO(16) ZERO(17) ZERO(18) ZERO(19)
#define ZEROS2 ZERO(18) ZERO(19) ZERO(20) ZERO(21) ZERO(22) ZERO(23)
#define ZEROS1 ZERO(17) ZERO(18) ZERO(19)
#define TURN4(x, l) WEIGHTS LINE4(x, l, 12, 13, 14, 15)
#define TURN4_(x, l) WEIGHTS LINE4(x, l, 16, 17, 18, 19)
#define TURNS4 \
    "ldp q4, q5, [x9], #32\n" TURN4(4, 0) TURN4_(4, 1) TURN4(4, 2) TURN4_(4, 3) TURN4(5, 0) TURN4_(5, 1) TURN4(5, 2) TURN4_(5, 3)
#define TURN2(x)                                                     \
    WEIGHTS FMA(16, 0, x, 0) FMA(17, 1, x, 0) FMA(18, 2, x, 1) FMA(19, 3, x, 1) \
    WEIGHTS FMA(20, 0, x, 2) FMA(21, 1, x, 2) FMA(22, 2, x, 3) FMA(23, 3, x, 3)
#define TURNS2 "ldp q4, q5, [x9], #32\n" TURN2(4) TURN2(5)
#define TURN1(x) WEIGHTS FMA(16, 0, x, 0) FMA(17, 1, x, 1) FMA(18, 2, x, 2) FMA(19, 3, x, 3)
#define TURNS1 "ldp q4, q5, [x9], #32\n" TURN1(4) TURN1(5)
#define JOIN4 OP("fadd", 12, 16) OP("fadd", 13, 17) OP("fadd", 14, 18) OP("fadd", 15, 19)
#define JOIN2 OP("fadd", 16, 18) OP("fadd", 17, 19) OP("fadd", 20, 22) OP("fadd", 21, 23) OP("fadd", 16, 20) OP("fadd", 17, 21)
#define JOIN1 OP("fadd", 16, 17) OP("fadd", 18, 19) OP("fadd", 16, 18)

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

#define KERNEL(MR, NR, ASSEMBLY)                                                                                  \
    void mcc_gemm_f32_##MR##x##NR##c1_neon(ARGS) {                                                                \
        const float bounds[2] = {lo, hi}, *const cut = lo > -__builtin_inff() || hi < __builtin_inff() ? bounds : NULL; \
        float whole[MR * NR];                                                                                     \
        const size_t full = m < MR ? 0 : n / NR, over = n - full * NR; /* of panels; columns that are put whole first */ \
        (void)ahead;                                                                                              \
        for (;; m -= MR, rows += taps * MR, c += MR * c_stride) {                                                 \
            const float *w = panel, *more = residual;                                                             \
            float *line = c;                                                                                      \
            for (size_t at = 0, count = full, left = over; count || left;) {                                      \
                const size_t some = left < NR ? left : NR; /* where no panel is full */                           \
                size_t panels = count ? count : 1;                                                                \
                float *y = count ? line : whole;                                                                  \
                const float *r = count ? more : NULL;                                                             \
                __asm__ volatile(ASSEMBLY                                                                         \
                                 : [w] "+r"(w), [line] "+r"(y), [more] "+r"(r), [panels] "+r"(panels)             \
                                 : [rows] "r"(rows), [taps] "r"(taps), [eights] "r"(k / 8), [ones] "r"(k % 8),    \
                                   [step] "r"(sizeof(float) * (count ? c_stride : NR)), [bounds] "r"(count ? cut : NULL), \
                                   [back] "r"(sizeof(float) * (NR - MR * c_stride))                               \
                                 : "x3", "x4", "x9", "x10", "x11", "x12", "x13", "x17",                      \
                                   "cc", "memory", "v0", "v1", "v2", "v3", "v4", "v5", "v6", "v7", "v8", "v9",    \
                                   "v10", "v11", "v12", "v13", "v14", "v15", "v16", "v17", "v18", "v19", "v20",   \
                                   "v21", "v22", "v23", "v24", "v25", "v26", "v27", "v28", "v29", "v30", "v31");  \
                if (count) {                                                                                      \
                    at = count * NR, count = 0;                                                                   \
                    continue;                                                                                     \
                }                                                                                                 \
                edge(m < MR ? m : MR, some, whole, NR, line + at, c_stride, more ? more + at : NULL, lo, hi);     \
                at += some, left -= some;                                                                         \
            }                                                                                                     \
            if (m <= MR) return;                                                                                  \
            if (residual) residual += MR * c_stride;                                                              \
        }                                                                                                         \
    }

#define TILE(MR, NR, V) KERNEL(MR, NR, ASSEMBLY(MR, V, ROWS##V##_##MR, , EIGHT(V, ROWS##V##_##MR), ))
#define ROW(NR, V) KERNEL(1, NR, ASSEMBLY(1, V, ROWS##V##_1, ZEROS##V, TURNS##V, JOIN##V))

TILE(5, 16, 4)
TILE(4, 16, 4)
TILE(3, 16, 4)
TILE(2, 16, 4)
TILE(5, 8, 2)
TILE(4, 8, 2)
TILE(3, 8, 2)
TILE(2, 8, 2)
TILE(5, 4, 1)
TILE(4, 4, 1)
TILE(3, 4, 1)
TILE(2, 4, 1)

ROW(16, 4)
ROW(8, 2)
ROW(4, 1)
#endif
