/* qfinish_simd.h: the kernels of qfinish.h on vectors; a file defines MCC_SIMD and includes this. */
#define MCC_NAME_STEM mcc
#include <math.h>
#include <stdbool.h>

#include "../core/simd.h"
#include "qfinish.h"

#define MCC_KERNEL_(what, isa) mcc_##what##_f32_##isa
#define MCC_KERNEL(what, isa) MCC_KERNEL_(what, isa)

VFN vi vi_max(vi a, vi b) {
#if MCC_IS_(MCC_SIMD) == 1
    return _mm256_max_epi32(a, b);
#elif MCC_IS_(MCC_SIMD) == 2
    return _mm512_max_epi32(a, b);
#else
    return vmaxq_s32(a, b);
#endif
}

/* A row; what is not there costs nothing, since `like` is a constant where this is inlined. */
typedef struct like { bool rows, bias, residual, clamp; } like;

VFN vf finished(vi acc, vf scale, vf row, vf bias, vf residual, vf lo, vf hi, like is) {
    vf v = v_mul(v_float(acc), is.rows ? v_mul(row, scale) : scale);
    if (is.bias) v = v_add(v, bias);
    if (is.residual) v = v_add(v, residual);
    return is.clamp ? v_min(hi, v_max(lo, v)) : v; /* NaN in the second operand wins */
}

VFN void finish_rows(size_t m, size_t n, const int32_t *acc, size_t acc_stride, float *y, size_t y_stride, const float *scale,
                     const float *row_scale, const float *bias, const float *residual, float lo, float hi, like is) {
    const vf least = v_set(lo), most = v_set(hi), none = v_set(0);
    for (size_t i = 0; i < m; i++, acc += acc_stride, y += y_stride) {
        const float *sums = (const float *)(const void *)acc; /* loaded as bits */
        const vf row = is.rows ? v_set(row_scale[i]) : none;
        size_t j = 0;
        for (; j + VN <= n; j += VN)
            v_store(y + j, finished(v_bits(v_load(sums + j)), v_load(scale + j), row, is.bias ? v_load(bias + j) : none,
                                    is.residual ? v_load(residual + j) : none, least, most, is));
        if (j < n)
            v_store_n(y + j, finished(v_bits(v_load_n(sums + j, n - j)), v_load_n(scale + j, n - j), row,
                                      is.bias ? v_load_n(bias + j, n - j) : none,
                                      is.residual ? v_load_n(residual + j, n - j) : none, least, most, is), n - j);
        if (is.residual) residual += y_stride;
    }
}

VKERNEL void MCC_KERNEL(qfinish, MCC_SIMD)(size_t m, size_t n, const int32_t *acc, size_t acc_stride, float *y, size_t y_stride,
                                           const float *scale, const float *row_scale, const float *bias, const float *residual,
                                           float lo, float hi) {
#define FINISH(...) finish_rows(m, n, acc, acc_stride, y, y_stride, scale, row_scale, bias, residual, lo, hi, (like){__VA_ARGS__})
    const bool clamp = lo > -INFINITY || hi < INFINITY;
    if (!row_scale && !bias && !residual && !clamp) FINISH(false, false, false, false);
    else if (row_scale && bias && !residual && !clamp) FINISH(true, true, false, false);
    else if (row_scale && bias && residual && !clamp) FINISH(true, true, true, false);
    else FINISH(row_scale != NULL, bias != NULL, residual != NULL, true);
#undef FINISH
}

VFN vi magnitude(vf x) { return vi_and(v_bits(x), vi_set(INT32_MAX)); }

VFN vi coded(vf x, vf inverse, vi offset) {
    return vi_add(v_int(v_min(v_max(v_mul(x, inverse), v_set(-127.0f)), v_set(127.0f))), offset);
}

VKERNEL float MCC_KERNEL(qdynamic, MCC_SIMD)(size_t n, const float *x, int8_t *codes, int32_t offset) {
    vi a = vi_set(0), b = a, c = a, d = a; /* see mcc_qdynamic_f32_c */
    size_t i = 0;
    for (; i + 4 * VN <= n; i += 4 * VN) {
        a = vi_max(a, magnitude(v_load(x + i))), b = vi_max(b, magnitude(v_load(x + i + VN)));
        c = vi_max(c, magnitude(v_load(x + i + 2 * VN))), d = vi_max(d, magnitude(v_load(x + i + 3 * VN)));
    }
    for (; i + VN <= n; i += VN) a = vi_max(a, magnitude(v_load(x + i)));
    if (i < n) b = vi_max(b, magnitude(v_load_n(x + i, n - i)));
    float lanes[VN], top = 0;
    v_store(lanes, v_of_bits(vi_max(vi_max(a, b), vi_max(c, d))));
    for (int l = 0; l < VN; l++) top = !(lanes[l] <= top) && top == top ? lanes[l] : top; /* NaN stays */
    const vf inverse = v_set(top > 0 ? 127.0f / top : 0.0f);
    const vi more = vi_set(offset);
    for (i = 0; i + VN <= n; i += VN) v_store_8(codes + i, coded(v_load(x + i), inverse, more));
    if (i < n) {
        int8_t last[VN];
        v_store_8(last, coded(v_load_n(x + i, n - i), inverse, more));
        memcpy(codes + i, last, n - i);
    }
    return top / 127.0f;
}

VFN vi requantized(vf t, bool residual, vi r, vi r_zero, vf r_scale, vf lo, vf hi, vi zero) {
    if (residual) t = v_add(t, v_mul(v_float(vi_sub(r, r_zero)), r_scale));
    return vi_add(v_int(v_min(v_max(t, lo), hi)), zero);
}

VFN void requant_row(size_t n, const int32_t *acc, int8_t *y, const float *scale, const int8_t *residual, const mcc_requant *q) {
    const vf lo = v_set(q->lo), hi = v_set(q->hi), r_scale = v_set(q->r_scale);
    const vi zero = vi_set(q->zero), r_zero = vi_set(q->r_zero);
    const float *sums = (const float *)(const void *)acc; /* loaded as bits */
    for (size_t j = 0; j < n; j += VN) {
        const bool whole = n - j >= VN;
        int8_t part[VN];
        if (residual && !whole) memcpy(part, residual + j, n - j);
        const vi r = residual ? v_load_s8(whole ? residual + j : part) : zero;
        const vf t = v_mul(v_float(v_bits(whole ? v_load(sums + j) : v_load_n(sums + j, n - j))),
                           whole ? v_load(scale + j) : v_load_n(scale + j, n - j));
        const vi code = requantized(t, residual != NULL, r, r_zero, r_scale, lo, hi, zero);
        v_store_8(whole ? y + j : part, code);
        if (!whole) memcpy(y + j, part, n - j);
    }
}

VKERNEL void MCC_KERNEL(qrequant, MCC_SIMD)(size_t m, size_t n, const int32_t *acc, size_t acc_stride, int8_t *y, size_t y_stride,
                                            const float *scale, const int8_t *residual, const mcc_requant *q) {
    for (size_t i = 0; i < m; i++, acc += acc_stride, y += y_stride, residual = residual ? residual + y_stride : NULL)
        requant_row(n, acc, y, scale, residual, q);
}
