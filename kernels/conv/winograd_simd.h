/* winograd_simd.h: the transforms of winograd.h, a vector of channels at a time; first down the columns into memory
 * that stays in the first-level cache, then along the rows. A file names its ISA and includes this; one of another type than
 * float says WINOGRAD_TYPE, number (an element) and the functions of core/simd.h that are used here. */
#include "winograd.h"
#ifdef MCC_SIMD
#include "../core/simd.h"
#endif

#ifndef WINOGRAD_TYPE
#define WINOGRAD_TYPE f32
#define number float
#endif
#define WINOGRAD_NAME__(type, what, isa) mcc_winograd_##type##_##what##_##isa
#define WINOGRAD_NAME_(type, what, isa) WINOGRAD_NAME__(type, what, isa)
#define WINOGRAD_NAME(what) WINOGRAD_NAME_(WINOGRAD_TYPE, what, WINOGRAD_ISA)

VFN vf load(const number *p, size_t n) { return n == VN ? v_load(p) : v_load_n(p, n); }

VFN void store(number *p, vf a, size_t n) {
    if (n == VN) v_store(p, a);
    else v_store_n(p, a, n);
}

/* o = B^T d; d and o are `step` apart. */
VFN void in_line2(const vf *d, size_t step, vf *o) {
    const vf d0 = d[0], d1 = d[step], d2 = d[2 * step], d3 = d[3 * step];
    o[0] = v_sub(d0, d2);
    o[1] = v_add(d1, d2);
    o[2] = v_sub(d2, d1);
    o[3] = v_sub(d1, d3);
}

VFN void in_line4(const vf *d, size_t step, vf *o) {
    const vf d0 = d[0], d1 = d[step], d2 = d[2 * step], d3 = d[3 * step], d4 = d[4 * step], d5 = d[5 * step];
    const vf two = v_set(-2.0f), half = v_set(-0.5f), both = v_set(-2.5f);
    const vf even_a = v_fma(two, d2, d4), odd_a = v_fma(two, d1, d3), even_b = v_fma(half, d2, d4), odd_b = v_fma(half, d1, d3);
    o[0] = v_add(d0, v_fma(both, d2, d4));
    o[1] = v_fma(v_set(WINOGRAD_A), odd_a, even_a);
    o[2] = v_fma(v_set(-WINOGRAD_A), odd_a, even_a);
    o[3] = v_fma(v_set(WINOGRAD_B), odd_b, even_b);
    o[4] = v_fma(v_set(-WINOGRAD_B), odd_b, even_b);
    o[5] = v_add(d1, v_fma(both, d3, d5));
}

/* o = A^T s */
VFN void out_line2(const vf *s, size_t step, vf *o) {
    const vf s1 = s[step], s2 = s[2 * step];
    o[0] = v_add(s[0], v_add(s1, s2));
    o[1] = v_sub(v_sub(s1, s2), s[3 * step]);
}

VFN void out_line4(const vf *s, size_t step, vf *o) {
    const vf s1 = s[step], s2 = s[2 * step], s3 = s[3 * step], s4 = s[4 * step];
    const vf sum_a = v_add(s1, s2), less_a = v_sub(s1, s2), sum_b = v_add(s3, s4), less_b = v_sub(s3, s4);
    o[0] = v_add(s[0], v_add(sum_a, sum_b));
    o[1] = v_fma(v_set(WINOGRAD_A), less_a, v_mul(v_set(WINOGRAD_B), less_b));
    o[2] = v_fma(v_set(0.5f), sum_a, v_add(sum_b, sum_b));
    o[3] = v_fma(v_set(WINOGRAD_A / 2), less_a, v_fma(v_set(2 * WINOGRAD_B), less_b, s[5 * step]));
}

/* The last, partial vector by itself: cold, so compiled for size, not unrolled; that halves these files. */
#define TAIL VKERNEL __attribute__((cold, noinline)) static void

#define IN_TILE(M)                                                                                  \
    VFN void in_tile##M(const void *const *x, size_t c, number *v, size_t step, size_t n) {         \
        enum { T = M + 2 };                                                                         \
        vf columns[T * T], d[T], o[T]; /* columns[j * T + i] = (B^T d)[i][j] */                     \
        for (size_t j = 0; j < T; j++) {                                                            \
            for (size_t i = 0; i < T; i++) d[i] = load((const number *)x[i * T + j] + c, n);                       \
            in_line##M(d, 1, columns + j * T);                                                      \
        }                                                                                           \
        for (size_t i = 0; i < T; i++) {                                                            \
            in_line##M(columns + i, T, o);                                                          \
            for (size_t j = 0; j < T; j++) store(v + (i * T + j) * step + c, o[j], n);              \
        }                                                                                           \
    }                                                                                               \
    TAIL in_tail##M(const void *const *x, size_t c, number *v, size_t step, size_t n) {             \
        in_tile##M(x, c, v, step, n);                                                               \
    }                                                                                               \
    VKERNEL void WINOGRAD_NAME(in##M)(size_t n, const void *const *x, void *v, size_t step) {       \
        size_t c = 0;                                                                               \
        for (; c + VN <= n; c += VN) in_tile##M(x, c, v, step, VN);                                 \
        if (c < n) in_tail##M(x, c, v, step, n - c);                                                \
    }

#define OUT_TILE(M)                                                                                 \
    VFN void out_tile##M(size_t c, const number *v, size_t step, const number *bias, const number *residual, number *y, size_t line, \
                         size_t pixel, size_t rows, size_t columns, vf lo, vf hi, size_t n) {       \
        enum { T = M + 2 };                                                                         \
        vf half[M * T], s[T], o[M]; /* half[j * M + i] = (A^T M)[i][j] */                           \
        for (size_t j = 0; j < T; j++) {                                                            \
            for (size_t i = 0; i < T; i++) s[i] = load(v + (i * T + j) * step + c, n);              \
            out_line##M(s, 1, half + j * M);                                                        \
        }                                                                                           \
        const vf b = load(bias + c, n);                                                             \
        for (size_t i = 0; i < rows; i++) {                                                         \
            out_line##M(half + i, M, o);                                                            \
            for (size_t j = 0; j < M; j++) {                                                        \
                if (j >= columns) break;                                                            \
                const size_t at = i * line + j * pixel + c;                                         \
                vf r = v_add(o[j], b);                                                              \
                if (residual) r = v_add(r, load(residual + at, n));                                 \
                store(y + at, v_min(hi, v_max(lo, r)), n);                                          \
            }                                                                                       \
        }                                                                                           \
    }                                                                                               \
    TAIL out_tail##M(size_t c, const number *v, size_t step, const number *bias, const number *residual, number *y, size_t line, \
                     size_t pixel, size_t rows, size_t columns, vf lo, vf hi, size_t n) {           \
        out_tile##M(c, v, step, bias, residual, y, line, pixel, rows, columns, lo, hi, n);          \
    }                                                                                               \
    VKERNEL void WINOGRAD_NAME(out##M)(size_t n, const void *v, size_t step, const void *bias, const void *residual, void *y, \
                                       size_t line, size_t pixel, size_t rows, size_t columns, float lo, float hi) { \
        const vf low = v_set(lo), high = v_set(hi);                                                 \
        size_t c = 0;                                                                               \
        for (; c + VN <= n; c += VN) out_tile##M(c, v, step, bias, residual, y, line, pixel, rows, columns, low, high, VN); \
        if (c < n) out_tail##M(c, v, step, bias, residual, y, line, pixel, rows, columns, low, high, n - c); \
    }

IN_TILE(2)
OUT_TILE(2)
IN_TILE(4)
OUT_TILE(4)
