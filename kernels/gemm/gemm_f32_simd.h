/* gemm_f32_simd.h: float32 gemm where a multiply-add takes a broadcast element of A: AVX2 and AVX-512. A file defines
 * MCC_SIMD, includes this, and names its tiles: TILE2(MR, NR) two vectors wide, TILE1(MR, NR) one, and GEMV2, GEMV1 for
 * single rows, which keep several sums per column because one chain of adds would wait for its own latency.
 *
 * A file of bf16 kernels says so by GEMM_TYPE, GEMM_KR and GEMM_FMA: what are floats here are then pairs of bfloat16, which one
 * instruction multiplies and adds. */
#include "../core/simd.h"
#include "gemm.h"
#include "rows.h"

#ifndef GEMM_TYPE
#define GEMM_TYPE f32
#define GEMM_KR 1
#define GEMM_FMA v_fma
#endif
#define GEMM_NAME__(type, mr, nr, kr, isa) mcc_gemm_##type##_##mr##x##nr##c##kr##_##isa
#define GEMM_NAME_(type, mr, nr, kr, isa) GEMM_NAME__(type, mr, nr, kr, isa)
#define GEMM_NAME(mr, nr, isa) GEMM_NAME_(GEMM_TYPE, mr, nr, GEMM_KR, isa)
#define GEMM_ARGS                                                                                              \
    size_t m, size_t n, size_t k, size_t taps, const float *const *rows, const float *panel, float *c,         \
        size_t c_stride, const float *residual, float lo, float hi, const mcc_gemm_ahead *ahead

/* Asks for two lines to read, into the second-level cache, and for four to write: layers of small k write most. (Asking
 * less often or for fewer lines is slower, for a whole tile at once much slower.) PREFETCHW does nothing on the old CPUs
 * that lack it. */
VFN void ask(const char *read, const char *write) {
    __builtin_prefetch(read, 0, 2);
    __builtin_prefetch(read + 64, 0, 2);
    __asm__ volatile("prefetchw %0\n\tprefetchw %1\n\tprefetchw %2\n\tprefetchw %3"
                     : : "m"(write[0]), "m"(write[64]), "m"(write[128]), "m"(write[192]));
}

/* The pointers past the first nine are read from the stack where they are used: compilers that run out of general
 * registers would park them in vector registers, whose moves take the place of multiply-adds. */
#define POINT(i) POINT_##i(i)
#define POINT_REG(i) const float *const p##i = row[i];
#define POINT_MEM(i) const float *const volatile p##i = row[i];
#define POINT_0 POINT_REG
#define POINT_1 POINT_REG
#define POINT_2 POINT_REG
#define POINT_3 POINT_REG
#define POINT_4 POINT_REG
#define POINT_5 POINT_REG
#define POINT_6 POINT_REG
#define POINT_7 POINT_REG
#define POINT_8 POINT_REG
#define POINT_9 POINT_MEM
#define POINT_10 POINT_MEM
#define POINT_11 POINT_MEM
#define POINT_12 POINT_MEM
#define POINT_13 POINT_MEM
#define INIT1(i) vf u##i = b0;
#define INIT2(i) vf u##i = b0, v##i = b1;
#define FMA1(i, at) u##i = GEMM_FMA(v_set(p##i[q + at]), w0, u##i);
#define FMA2(i, at)                       \
    {                                     \
        const vf x = v_set(p##i[q + at]); \
        u##i = GEMM_FMA(x, w0, u##i);        \
        v##i = GEMM_FMA(x, w1, v##i);        \
    }
#define FMA1_0(i) FMA1(i, 0)
#define FMA1_1(i) FMA1(i, 1)
#define FMA1_2(i) FMA1(i, 2)
#define FMA1_3(i) FMA1(i, 3)
#define FMA2_0(i) FMA2(i, 0)
#define FMA2_1(i) FMA2(i, 1)
#define FMA2_2(i) FMA2(i, 2)
#define FMA2_3(i) FMA2(i, 3)
#define STEP1(MR, at) { const vf w0 = v_load(w + at * VN); GEMM_ROWS(MR, FMA1_##at) }
#define STEP2(MR, at) { const vf w0 = v_load(w + at * 2 * VN), w1 = v_load(w + at * 2 * VN + VN); GEMM_ROWS(MR, FMA2_##at) }

/* Adds the residual, clamps and stores up to VN columns. */
VFN void put(float *c, const float *residual, vf y, size_t n, vf lo, vf hi) {
    if (residual) y = v_add(y, n >= VN ? v_load(residual) : v_load_n(residual, n));
    y = v_min(hi, v_max(lo, y));
    if (n >= VN) v_store(c, y);
    else v_store_n(c, y, n);
}

VFN void put2(float *c, const float *residual, vf y0, vf y1, size_t n, vf lo, vf hi) {
    put(c, residual, y0, n, lo, hi);
    if (n > VN) put(c + VN, residual ? residual + VN : NULL, y1, n - VN, lo, hi);
}

#define PUT1(i) if (i < m) put(c + i * c_stride, residual ? residual + i * c_stride : NULL, u##i, n, low, high);
#define PUT2(i) if (i < m) put2(c + i * c_stride, residual ? residual + i * c_stride : NULL, u##i, v##i, n, low, high);

#define BIAS1 const vf b0 = v_load(panel);
#define BIAS2 const vf b0 = v_load(panel), b1 = v_load(panel + VN);

#define TILE(WIDE, MR, NR)                                                                       \
    VKERNEL void GEMM_NAME(MR, NR, MCC_SIMD)(GEMM_ARGS) {                                        \
        const char *read = ahead->read, *write = ahead->write;                                   \
        const size_t read_step = ahead->read_step, write_step = ahead->write_step;               \
        for (;;) {                                                                               \
            BIAS##WIDE                                                                           \
            GEMM_ROWS(MR, INIT##WIDE)                                                            \
            const float *w = panel + WIDE * VN, *const *row = rows;                              \
            for (size_t t = taps; t; t--, row += MR) {                                           \
                GEMM_ROWS(MR, POINT)                                                             \
                size_t q = 0;                                                                    \
                for (; q + MCC_GEMM_AHEAD_K <= k; q += 4, w += 4 * WIDE * VN) {                  \
                    ask(read, write);                                                            \
                    read += read_step, write += write_step;                                      \
                    STEP##WIDE(MR, 0) STEP##WIDE(MR, 1) STEP##WIDE(MR, 2) STEP##WIDE(MR, 3)      \
                }                                                                                \
                for (; q < k; q++, w += WIDE * VN) STEP##WIDE(MR, 0)                             \
            }                                                                                    \
            const vf low = v_set(lo), high = v_set(hi);                                          \
            GEMM_ROWS(MR, PUT##WIDE)                                                             \
            if (n <= WIDE * VN) return;                                                          \
            n -= WIDE * VN, c += WIDE * VN, panel = w;                                           \
            if (residual) residual += WIDE * VN;                                                 \
        }                                                                                        \
    }
#define TILE1(MR, NR) TILE(1, MR, NR)
#define TILE2(MR, NR) TILE(2, MR, NR)

/* One row: four k at a time, each with a sum of its own; the rest joins the first. What matters here is to read the
 * weights at the speed of memory: ahead->read_step bytes ahead of where they are read they are asked for, into the first-level
 * cache (gemm_f32.c). */
VFN void gemv(size_t wide, GEMM_ARGS) {
    const vf zero = v_set(0.0f), low = v_set(lo), high = v_set(hi);
    const size_t far = ahead->read_step;
    (void)m, (void)c_stride;
    for (;;) {
        vf u0 = v_load(panel), u1 = zero, u2 = zero, u3 = zero, v0 = zero, v1 = zero, v2 = zero, v3 = zero;
        if (wide == 2) v0 = v_load(panel + VN);
        const float *w = panel + wide * VN, *const *row = rows;
        for (size_t t = taps; t; t--, row++) {
            const float *p = row[0];
            size_t q = 0;
            for (; q + 4 <= k; q += 4, w += 4 * wide * VN) {
                for (size_t line = 0; line < 4 * wide * VN; line += 16) __builtin_prefetch((const char *)(w + line) + far, 0, 3);
                const vf x0 = v_set(p[q]), x1 = v_set(p[q + 1]), x2 = v_set(p[q + 2]), x3 = v_set(p[q + 3]);
                u0 = GEMM_FMA(x0, v_load(w), u0);
                u1 = GEMM_FMA(x1, v_load(w + wide * VN), u1);
                u2 = GEMM_FMA(x2, v_load(w + 2 * wide * VN), u2);
                u3 = GEMM_FMA(x3, v_load(w + 3 * wide * VN), u3);
                if (wide == 2) {
                    v0 = GEMM_FMA(x0, v_load(w + VN), v0);
                    v1 = GEMM_FMA(x1, v_load(w + 3 * VN), v1);
                    v2 = GEMM_FMA(x2, v_load(w + 5 * VN), v2);
                    v3 = GEMM_FMA(x3, v_load(w + 7 * VN), v3);
                }
            }
            for (; q < k; q++, w += wide * VN) {
                const vf x = v_set(p[q]);
                u0 = GEMM_FMA(x, v_load(w), u0);
                if (wide == 2) v0 = GEMM_FMA(x, v_load(w + VN), v0);
            }
        }
        u0 = v_add(v_add(u0, u1), v_add(u2, u3));
        v0 = v_add(v_add(v0, v1), v_add(v2, v3));
        if (wide == 2) put2(c, residual, u0, v0, n, low, high);
        else put(c, residual, u0, n, low, high);
        if (n <= wide * VN) return;
        n -= wide * VN, c += wide * VN, panel = w;
        if (residual) residual += wide * VN;
    }
}
#define GEMV1(NR) \
    VKERNEL void GEMM_NAME(1, NR, MCC_SIMD)(GEMM_ARGS) {                                              \
        gemv(1, m, n, k, taps, rows, panel, c, c_stride, residual, lo, hi, ahead);                    \
    }
#define GEMV2(NR) \
    VKERNEL void GEMM_NAME(1, NR, MCC_SIMD)(GEMM_ARGS) {                                              \
        gemv(2, m, n, k, taps, rows, panel, c, c_stride, residual, lo, hi, ahead);                    \
    }

/* All that AVX-512 has: a tile of every height up to 14, two vectors and one vector wide. */
#define TILES_OF_14 \
    TILE2(14, 32) TILE2(13, 32) TILE2(12, 32) TILE2(11, 32) TILE2(10, 32) \
    TILE2(9, 32) TILE2(8, 32) TILE2(7, 32) TILE2(6, 32) TILE2(5, 32) \
    TILE2(4, 32) TILE2(3, 32) TILE2(2, 32) GEMV2(32) TILE1(14, 16) \
    TILE1(13, 16) TILE1(12, 16) TILE1(11, 16) TILE1(10, 16) TILE1(9, 16) \
    TILE1(8, 16) TILE1(7, 16) TILE1(6, 16) TILE1(5, 16) TILE1(4, 16) \
    TILE1(3, 16) TILE1(2, 16) GEMV1(16)
