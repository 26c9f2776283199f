/* gemm_s8_avx512amx.c: int8 gemm on TDPBSSD, which multiplies 16 rows by 64 of k into 16 columns, int8 by int8.
 *
 * Rows stand at one distance from each other, so that a tile register is loaded from them as they are, and k is a multiple of
 * 64; the walk sees to both (qwalk.c) and configures the tile registers for the rows of a tile (amx.h): 0 to 3 are sums, 4 and 5
 * rows, 6 and 7 weights. Four sums hide the latency of a product (52 cycles, one every 16); 2 x 2 of them read the least,
 * 1 x 4 make whole lines of bytes. Sums pass through memory to the vectors that requantize them. */
#if defined(__x86_64__)
#include "amx.h"
#include "gemm_s8_avx512.h"

#define FN MCC_FN(avx512amx)
#define INLINE FN static inline __attribute__((always_inline))
#define ARGS                                                                                                          \
    size_t m, size_t n, size_t k, size_t taps, const int8_t *const *rows, const void *panel, void *c, size_t c_stride, \
        const int8_t *residual, const mcc_requant *q, size_t ahead

enum { TILE = 256 }; /* sums of a tile register */

/* Row i of V tiles, `at` its first sum: to where it belongs. */
INLINE void put_row(const finish *f, int V, const int32_t *at, const int32_t *bias, size_t i, size_t n, void *c, size_t c_stride,
                    const int8_t *residual) {
    const __m512i a0 = _mm512_add_epi32(_mm512_load_si512(at), _mm512_loadu_si512(bias));
    const __m512i a1 = V > 1 ? _mm512_add_epi32(_mm512_load_si512(at + TILE), _mm512_loadu_si512(bias + 16)) : a0;
    const __m512i a2 = V > 2 ? _mm512_add_epi32(_mm512_load_si512(at + 2 * TILE), _mm512_loadu_si512(bias + 32)) : a0;
    const __m512i a3 = V > 3 ? _mm512_add_epi32(_mm512_load_si512(at + 3 * TILE), _mm512_loadu_si512(bias + 48)) : a0;
    if (!f) put_raw((int32_t *)c + i * c_stride, n, V, a0, a1, a2, a3);
    else put(f, V, (int8_t *)c + i * c_stride, residual ? residual + i * c_stride : NULL, a0, a1, a2, a3);
}

/* The sums of H x V tiles of `high` rows each. */
INLINE void put_tiles(int H, int V, size_t high, size_t m, size_t n, const int32_t *acc, const int32_t *bias, const float *scale,
                      void *c, size_t c_stride, const int8_t *residual, const mcc_requant *q) {
    finish known;
    const finish *f = NULL;
    if (q) known = finish_of(q, scale, n, V), f = &known;
    for (size_t h = 0, i = 0; h < (size_t)H; h++)
        for (size_t r = 0; r < high && i < m; r++, i++)
            put_row(f, V, acc + h * (size_t)V * TILE + r * 16, bias, i, n, c, c_stride, residual);
}

#define A(t, h) _tile_loadd(t, x + (h) * part + d, step);
#define B(t, v, V) _tile_loadd(t, w + 64 * (v), 64 * V);
#define DOT(c, a, b) _tile_dpbssd(c, a, b);
#define ZERO1 _tile_zero(0);
#define ZERO2 ZERO1 _tile_zero(1);
#define ZERO3 ZERO2 _tile_zero(2);
#define ZERO4 ZERO3 _tile_zero(3);
#define KEEP(t) _tile_stored(t, acc + (t) * TILE, 64);
#define KEEP1 KEEP(0)
#define KEEP2 KEEP1 KEEP(1)
#define KEEP3 KEEP2 KEEP(2)
#define KEEP4 KEEP3 KEEP(3)

/* STEP multiplies 64 of k; H * V = C tiles. Every step asks for one line of what comes `ahead` for each 16 columns. */
#define KERNEL(MR, NR, H, V, C, STEP)                                                                                  \
    FN void mcc_gemm_s8_##MR##x##NR##c4_avx512amx(ARGS) {                                                              \
        const int32_t *bias = panel;                                                                                   \
        const float *scale = (const float *)(bias + NR);                                                               \
        const int8_t *w = (const int8_t *)(scale + NR), *x = rows[0];                                                  \
        const size_t step = (size_t)(rows[1] - rows[0]), high = (m + H - 1) / H, part = high * step;                    \
        _Alignas(64) int32_t acc[C * TILE];                                                                            \
        (void)part, (void)taps;                                                                                        \
        ZERO##C                                                                                                        \
        for (size_t d = 0; d < k; d += 64, w += 64 * NR) {                                                             \
            if (ahead)                                                                                                 \
                for (int v = 0; v < V; v++) _mm_prefetch((const char *)w + ahead + 64 * v, _MM_HINT_T1);                \
            STEP                                                                                                       \
        }                                                                                                              \
        KEEP##C                                                                                                        \
        put_tiles(H, V, high, m, n, acc, bias, scale, c, c_stride, residual, q);                                       \
    }

KERNEL(16, 64, 1, 4, 4, A(4, 0) B(6, 0, 4) DOT(0, 4, 6) B(7, 1, 4) DOT(1, 4, 7) B(6, 2, 4) DOT(2, 4, 6) B(7, 3, 4) DOT(3, 4, 7))
KERNEL(16, 48, 1, 3, 3, A(4, 0) B(6, 0, 3) DOT(0, 4, 6) B(7, 1, 3) DOT(1, 4, 7) B(6, 2, 3) DOT(2, 4, 6))
KERNEL(32, 32, 2, 2, 4, A(4, 0) B(6, 0, 2) DOT(0, 4, 6) B(7, 1, 2) DOT(1, 4, 7) A(5, 1) DOT(2, 5, 6) DOT(3, 5, 7))
KERNEL(16, 32, 1, 2, 2, A(4, 0) B(6, 0, 2) DOT(0, 4, 6) B(7, 1, 2) DOT(1, 4, 7))
KERNEL(32, 16, 2, 1, 2, A(4, 0) B(6, 0, 1) DOT(0, 4, 6) A(5, 1) DOT(1, 5, 6))
KERNEL(16, 16, 1, 1, 1, A(4, 0) B(6, 0, 1) DOT(0, 4, 6))
#endif
