/* qfinish_simd.h: the kernels of qfinish.h on vectors; a file defines MCC_SIMD and includes this. */
#define MCC_NAME_STEM mcc
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

VFN vi load_sums(const int32_t *p) { return v_bits(v_load((const float *)(const void *)p)); }

/* One vector of n <= VN; what is past n is not used. */
VFN vf finished(vi acc, vf scale, vf bias, vf residual, vf lo, vf hi) {
    const vf v = v_add(v_add(v_mul(v_float(acc), scale), bias), residual);
    return v_min(hi, v_max(lo, v)); /* NaN in the second operand wins */
}

VKERNEL void MCC_KERNEL(qfinish, MCC_SIMD)(size_t n, const int32_t *acc, float *y, const float *scale, const float *row_scale,
                                           const float *bias, const float *residual, float lo, float hi) {
    /* Adding -0.0 changes nothing, not even the sign of a zero. */
    const vf least = v_set(lo), most = v_set(hi), none = v_set(-0.0f), row = v_set(row_scale ? *row_scale : 1.0f);
    size_t j = 0;
    for (; j + VN <= n; j += VN)
        v_store(y + j, finished(load_sums(acc + j), v_mul(row, v_load(scale + j)), bias ? v_load(bias + j) : none,
                                residual ? v_load(residual + j) : none, least, most));
    if (j == n) return;
    const vi sums = v_bits(v_load_n((const float *)(const void *)(acc + j), n - j));
    v_store_n(y + j, finished(sums, v_mul(row, v_load_n(scale + j, n - j)), bias ? v_load_n(bias + j, n - j) : none,
                              residual ? v_load_n(residual + j, n - j) : none, least, most), n - j);
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
