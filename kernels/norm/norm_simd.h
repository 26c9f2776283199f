/* norm_simd.h: the reduction and normalisation kernels of one vector ISA; a file defines MCC_SIMD and includes this. */
#include "../core/simd.h"
#include "../core/simd_math.h"
#include "norm.h"

#define MCC_NAME_STEM mcc_norm_f32

VFN vf add_(vf s, vf x) { return v_add(s, x); }
VFN vf add_abs_(vf s, vf x) { return v_add(s, v_abs(x)); }
VFN vf add_square_(vf s, vf x) { return v_fma(x, x, s); }

/* Sums: blocks of 1024 values into four vectors, block sums in double. */
enum { BLOCK = 1024 };
#define SUM(what, join) \
    VFN float what##_block_(size_t n, const float *x) { \
        vf s[4] = {v_set(0), v_set(0), v_set(0), v_set(0)}; \
        size_t i = 0; \
        for (; i + 4 * VN <= n; i += 4 * VN) \
            for (int k = 0; k < 4; k++) s[k] = join(s[k], v_load(x + i + (size_t)k * VN)); \
        for (; i + VN <= n; i += VN) s[0] = join(s[0], v_load(x + i)); \
        if (i < n) s[1] = join(s[1], v_load_n(x + i, n - i)); \
        return v_sum(v_add(v_add(s[0], s[1]), v_add(s[2], s[3]))); \
    } \
    VKERNEL float NAME(what)(size_t n, const float *x) { \
        double s = 0; \
        for (; n > BLOCK; n -= BLOCK, x += BLOCK) s += what##_block_(BLOCK, x); \
        return (float)(s + what##_block_(n, x)); \
    } \
    MERGER(merge_##what, join)
#define MERGER(what, join) \
    VKERNEL void NAME(what)(size_t n, const float *x, float *acc) { \
        size_t i = 0; \
        for (; VN == 4 && i + 4 * VN <= n; i += 4 * VN) /* NEON: counting costs as much as a vector */ \
            for (size_t k = i; k < i + 4 * VN; k += VN) v_store(acc + k, join(v_load(acc + k), v_load(x + k))); \
        for (; i + VN <= n; i += VN) v_store(acc + i, join(v_load(acc + i), v_load(x + i))); \
        if (i < n) v_store_n(acc + i, join(v_load_n(acc + i, n - i), v_load_n(x + i, n - i)), n - i); \
    }
SUM(sum, add_)
SUM(sum_abs, add_abs_)
SUM(sum_square, add_square_)

#define EXTREME(what, join, better, lane) \
    VKERNEL float NAME(what)(size_t n, const float *x) { \
        size_t i = 0; \
        float m = x[0]; \
        if (n >= VN) { \
            vf s = v_load(x); \
            for (i = VN; i + VN <= n; i += VN) s = join(s, v_load(x + i)); \
            m = lane(s); \
        } \
        for (; i < n; i++) m = m != m || m better x[i] ? m : x[i]; \
        return m; \
    } \
    MERGER(merge_##what, join)
EXTREME(max, v_maxn, >, v_top)
EXTREME(min, v_minn, <, v_bottom)

VKERNEL float NAME(exp)(size_t n, const float *x, const float *shift, size_t step, float *y, float *sum) {
    double total = 0;
    vf s = v_set(0), top = v_set(*shift);
    size_t i = 0;
    for (; i + VN <= n; i += VN) {
        if (step) top = v_load(shift + i);
        const vf e = m_exp(v_sub(v_load(x + i), top));
        v_store(y + i, e);
        if (sum) v_store(sum + i, v_add(v_load(sum + i), e));
        s = v_add(s, e);
        if (i % BLOCK == 0) total += v_sum(s), s = v_set(0);
    }
    float tail = 0;
    if (i < n) {
        const size_t m = n - i;
        if (step) top = v_load_n(shift + i, m);
        float t[VN];
        v_store(t, m_exp(v_sub(v_load_n(x + i, m), top)));
        for (size_t k = 0; k < m; k++) {
            y[i + k] = t[k];
            if (sum) sum[i + k] += t[k];
            tail += t[k];
        }
    }
    return (float)(total + v_sum(s) + tail);
}

VFN float spread_block_(size_t n, const float *x, vf mean) {
    vf s[2] = {v_set(0), v_set(0)};
    size_t i = 0;
    for (; i + 2 * VN <= n; i += 2 * VN)
        for (int k = 0; k < 2; k++) s[k] = add_square_(s[k], v_sub(v_load(x + i + (size_t)k * VN), mean));
    for (; i + VN <= n; i += VN) s[0] = add_square_(s[0], v_sub(v_load(x + i), mean));
    float sum = v_sum(v_add(s[0], s[1])), m[VN];
    v_store(m, mean);
    for (; i < n; i++) sum += (x[i] - m[0]) * (x[i] - m[0]);
    return sum;
}
VKERNEL float NAME(spread)(size_t n, const float *x, float mean) {
    const vf m = v_set(mean);
    double s = 0;
    for (; n > BLOCK; n -= BLOCK, x += BLOCK) s += spread_block_(BLOCK, x, m);
    return (float)(s + spread_block_(n, x, m));
}

VKERNEL void NAME(affine)(size_t n, const float *x, float mean, float inverse, const float *scale, const float *bias,
                          size_t step, float *y) {
    const vf m = v_set(mean), v = v_set(inverse);
    vf s = v_set(scale ? *scale : 1), b = v_set(bias ? *bias : 0);
    size_t i = 0;
    for (; i + VN <= n; i += VN) {
        if (step && scale) s = v_load(scale + i);
        if (step && bias) b = v_load(bias + i);
        v_store(y + i, v_fma(v_mul(v_sub(v_load(x + i), m), v), s, b));
    }
    if (i < n) {
        if (step && scale) s = v_load_n(scale + i, n - i);
        if (step && bias) b = v_load_n(bias + i, n - i);
        v_store_n(y + i, v_fma(v_mul(v_sub(v_load_n(x + i, n - i), m), v), s, b), n - i);
    }
}
