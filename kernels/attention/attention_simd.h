/* attention_simd.h: the attention kernels of one vector ISA; a file defines MCC_SIMD and includes this. */
#include "../core/simd.h"
#include "../core/simd_math.h"
#include "attention.h"

#define MCC_NAME_STEM mcc_attention_f32
enum { KEYS = VN == 8 ? 2 : 4 }; /* ROWS * KEYS accumulators: AVX2 has 16 registers, the others 32 */

/* One tile: rows x keys (both known when inlined) inner products of length d. */
VFN void dots_(const int rows, const int keys, size_t d, const float *q, size_t qs, const float *k, size_t ks, float scale, float *s,
               size_t ss) {
    vf acc[MCC_ATTENTION_ROWS][KEYS];
    for (int r = 0; r < rows; r++)
        for (int j = 0; j < keys; j++) acc[r][j] = v_set(0);
    for (size_t i = 0; i < d; i += VN) {
        const size_t n = d - i;
        vf b[KEYS];
        for (int j = 0; j < keys; j++) b[j] = n >= VN ? v_load(k + (size_t)j * ks + i) : v_load_n(k + (size_t)j * ks + i, n);
        for (int r = 0; r < rows; r++) {
            const vf a = n >= VN ? v_load(q + (size_t)r * qs + i) : v_load_n(q + (size_t)r * qs + i, n);
            for (int j = 0; j < keys; j++) acc[r][j] = v_fma(a, b[j], acc[r][j]);
        }
    }
    for (int r = 0; r < rows; r++)
        for (int j = 0; j < keys; j++) s[(size_t)r * ss + (size_t)j] = scale * v_sum(acc[r][j]);
}

VKERNEL void NAME(qk)(size_t rows, size_t keys, size_t d, const float *q, size_t qs, const float *k, size_t ks, float scale, float *s,
                      size_t ss) {
    size_t j = 0;
    if (rows == MCC_ATTENTION_ROWS)
        for (; j + KEYS <= keys; j += KEYS) dots_(MCC_ATTENTION_ROWS, KEYS, d, q, qs, k + j * ks, ks, scale, s + j, ss);
    for (size_t r = 0; r < rows; r++) {
        size_t l = j;
        for (; l + KEYS <= keys; l += KEYS) dots_(1, KEYS, d, q + r * qs, qs, k + l * ks, ks, scale, s + r * ss + l, ss);
        for (; l < keys; l++) dots_(1, 1, d, q + r * qs, qs, k + l * ks, ks, scale, s + r * ss + l, ss);
    }
}

/* One tile: rows x two vectors of y (the last one of n <= VN elements), over all keys. */
VFN void mix_(const int rows, size_t keys, size_t n, const float *p, size_t ps, const float *v, size_t vs, float *y, size_t ys) {
    const size_t first = n < VN ? n : VN, second = n - first;
    vf acc[MCC_ATTENTION_ROWS][2];
    for (int r = 0; r < rows; r++) {
        acc[r][0] = v_load_n(y + (size_t)r * ys, first);
        acc[r][1] = second ? v_load_n(y + (size_t)r * ys + VN, second) : v_set(0);
    }
    for (size_t j = 0; j < keys; j++, v += vs) {
        const vf a = first == VN ? v_load(v) : v_load_n(v, first);
        const vf b = second == VN ? v_load(v + VN) : second ? v_load_n(v + VN, second) : v_set(0);
        for (int r = 0; r < rows; r++) {
            const vf w = v_set(p[(size_t)r * ps + j]);
            acc[r][0] = v_fma(w, a, acc[r][0]);
            acc[r][1] = v_fma(w, b, acc[r][1]);
        }
    }
    for (int r = 0; r < rows; r++) {
        v_store_n(y + (size_t)r * ys, acc[r][0], first);
        if (second) v_store_n(y + (size_t)r * ys + VN, acc[r][1], second);
    }
}

VKERNEL void NAME(pv)(size_t rows, size_t keys, size_t d, const float *p, size_t ps, const float *v, size_t vs, float *y, size_t ys) {
    for (size_t i = 0; i < d; i += 2 * VN) {
        const size_t n = d - i < 2 * VN ? d - i : 2 * VN;
        if (rows == MCC_ATTENTION_ROWS) {
            if (n == 2 * VN) mix_(MCC_ATTENTION_ROWS, keys, 2 * VN, p, ps, v + i, vs, y + i, ys);
            else mix_(MCC_ATTENTION_ROWS, keys, n, p, ps, v + i, vs, y + i, ys);
            continue;
        }
        for (size_t r = 0; r < rows; r++) mix_(1, keys, n, p + r * ps, ps, v + i, vs, y + r * ys + i, ys);
    }
}

VKERNEL void NAME(softmax)(size_t n, float *s, float cap) {
    (void)cap;
    vf t = v_set(-INFINITY);
    size_t i = 0;
    for (; i + VN <= n; i += VN) t = v_maxn(t, v_load(s + i));
    float top = v_top(t);
    for (; i < n; i++) top = top != top || top > s[i] ? top : s[i];
    if (top == -INFINITY) {
        memset(s, 0, n * sizeof *s);
        return;
    }
    const vf shift = v_set(top);
    vf sum = v_set(0);
    for (i = 0; i + VN <= n; i += VN) {
        const vf e = m_exp(v_sub(v_load(s + i), shift));
        v_store(s + i, e);
        sum = v_add(sum, e);
    }
    float total = v_sum(sum);
    if (i < n) {
        v_store_n(s + i, m_exp(v_sub(v_load_n(s + i, n - i), shift)), n - i);
        for (size_t k = i; k < n; k++) total += s[k];
    }
    const vf inverse = v_set(1 / total);
    for (i = 0; i + VN <= n; i += VN) v_store(s + i, v_mul(v_load(s + i), inverse));
    if (i < n) v_store_n(s + i, v_mul(v_load_n(s + i, n - i), inverse), n - i);
}

VKERNEL void NAME(softcap)(size_t n, float *s, float cap) {
    const vf c = v_set(cap);
    size_t i = 0;
    for (; i + VN <= n; i += VN) v_store(s + i, v_mul(c, m_tanh(v_div(v_load(s + i), c))));
    if (i < n) v_store_n(s + i, v_mul(c, m_tanh(v_div(v_load_n(s + i, n - i), c))), n - i);
}
