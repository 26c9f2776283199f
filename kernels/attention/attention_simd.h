/* attention_simd.h: the attention kernels of one vector ISA; a file defines MCC_SIMD and includes this. */
#include <math.h>
#include <stdbool.h>

#include "../core/simd.h"
#include "../core/simd_math.h"
#include "attention.h"

#define MCC_NAME_STEM mcc_attention_f32
#if MCC_IS_(MCC_SIMD) == 2
#define LOW_ _mm512_unpacklo_ps
#define HIGH_ _mm512_unpackhi_ps
#define LOW2_(a, b) _mm512_castpd_ps(_mm512_unpacklo_pd(_mm512_castps_pd(a), _mm512_castps_pd(b)))
#define HIGH2_(a, b) _mm512_castpd_ps(_mm512_unpackhi_pd(_mm512_castps_pd(a), _mm512_castps_pd(b)))
#elif MCC_IS_(MCC_SIMD) == 1
#define LOW_ _mm256_unpacklo_ps
#define HIGH_ _mm256_unpackhi_ps
#define LOW2_(a, b) _mm256_castpd_ps(_mm256_unpacklo_pd(_mm256_castps_pd(a), _mm256_castps_pd(b)))
#define HIGH2_(a, b) _mm256_castpd_ps(_mm256_unpackhi_pd(_mm256_castps_pd(a), _mm256_castps_pd(b)))
#endif
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

/* Rows become columns: lane i of the new r[j] is lane j of the old r[i]. */
VFN void transpose_(vf *r) {
#if MCC_IS_(MCC_SIMD) == 3
    const vf a = vzip1q_f32(r[0], r[2]), b = vzip2q_f32(r[0], r[2]), c = vzip1q_f32(r[1], r[3]), d = vzip2q_f32(r[1], r[3]);
    r[0] = vzip1q_f32(a, c), r[1] = vzip2q_f32(a, c), r[2] = vzip1q_f32(b, d), r[3] = vzip2q_f32(b, d);
#else
    vf t[VN]; /* four rows by four columns in every 128 bits, then those blocks among each other */
    for (int i = 0; i < VN; i += 4) {
        const vf a = LOW_(r[i], r[i + 1]), b = HIGH_(r[i], r[i + 1]), c = LOW_(r[i + 2], r[i + 3]), d = HIGH_(r[i + 2], r[i + 3]);
        t[i] = LOW2_(a, c), t[i + 1] = HIGH2_(a, c), t[i + 2] = LOW2_(b, d), t[i + 3] = HIGH2_(b, d);
    }
    for (int e = 0; e < 4; e++) {
#if MCC_IS_(MCC_SIMD) == 2
        const vf a = _mm512_shuffle_f32x4(t[e], t[4 + e], 0x44), b = _mm512_shuffle_f32x4(t[e], t[4 + e], 0xee);
        const vf c = _mm512_shuffle_f32x4(t[8 + e], t[12 + e], 0x44), d = _mm512_shuffle_f32x4(t[8 + e], t[12 + e], 0xee);
        r[e] = _mm512_shuffle_f32x4(a, c, 0x88), r[4 + e] = _mm512_shuffle_f32x4(a, c, 0xdd);
        r[8 + e] = _mm512_shuffle_f32x4(b, d, 0x88), r[12 + e] = _mm512_shuffle_f32x4(b, d, 0xdd);
#else
        r[e] = _mm256_permute2f128_ps(t[e], t[4 + e], 0x20), r[4 + e] = _mm256_permute2f128_ps(t[e], t[4 + e], 0x31);
#endif
    }
#endif
}

/* VN columns of a panel, of which n have keys. */
VFN void columns_(size_t n, size_t width, size_t d, const float *k, size_t ks, vf scale, float *out, size_t stride) {
    for (size_t i = 0; i < d; i += VN) {
        const size_t deep = d - i < VN ? d - i : VN;
        vf r[VN];
        if (n == VN && deep == VN)
            for (size_t j = 0; j < VN; j++) r[j] = v_mul(scale, v_load(k + j * ks + i));
        else
            for (size_t j = 0; j < VN; j++) r[j] = j < n ? v_mul(scale, v_load_n(k + j * ks + i, deep)) : v_set(0);
        transpose_(r);
        if (width == VN)
            for (size_t e = 0; e < VN; e++) {
                if (e < deep) v_store(out + (i + e) * stride, r[e]);
            }
        else
            for (size_t e = 0; e < VN; e++)
                if (e < deep) v_store_n(out + (i + e) * stride, r[e], width);
    }
}

VKERNEL void NAME(pack_keys)(size_t n, size_t width, size_t d, const float *k, size_t ks, float scale, float *out, size_t stride) {
    const vf by = v_set(scale);
    for (size_t j = 0; j < width; j += VN) {
        const size_t have = j >= n ? 0 : n - j < VN ? n - j : VN, wide = width - j < VN ? width - j : VN;
        columns_(have, wide, d, have ? k + j * ks : k, ks, by, out + j, stride);
    }
}

VKERNEL void NAME(pack_values)(size_t keys, size_t n, size_t width, const float *v, size_t vs, float *out, size_t stride) {
    for (size_t i = 0; i < width; i += VN) {
        const size_t have = i >= n ? 0 : n - i < VN ? n - i : VN, wide = width - i < VN ? width - i : VN;
        if (have == VN)
            for (size_t j = 0; j < keys; j++) v_store(out + j * stride + i, v_load(v + j * vs + i));
        else
            for (size_t j = 0; j < keys; j++)
                v_store_n(out + j * stride + i, have ? v_load_n(v + j * vs + i, have) : v_set(0), wide);
    }
}

/* The largest of `top` and n scores; NaN scores are passed over on x86, which then spoil the sum. */
VFN float largest_(size_t n, const float *s, float top) {
    if (n < VN) {
        for (size_t i = 0; i < n; i++) top = top > s[i] || s[i] != s[i] ? top : s[i];
        return top;
    }
    vf a = v_set(top), b = a;
    size_t i = 0;
    for (; i + 2 * VN <= n; i += 2 * VN) a = v_max(v_load(s + i), a), b = v_max(v_load(s + i + VN), b);
    if (i + VN <= n) a = v_max(v_load(s + i), a), i += VN;
    if (i < n) b = v_max(v_load(s + n - VN), b);
    return v_peak(v_max(a, b));
}

/* Weights are 2^(s log2 e - m log2 e), one multiply-add: what rounding m log2 e loses is the same for all scores of the
 * row, so it is gone when weights are divided by their sum. */
VKERNEL float NAME(softmax)(size_t n, float *s, float *top, float *sum) {
    const float before = *top, m = largest_(n, s, before);
    const bool huge = !(m < 1e37f && before < 1e37f && m > -1e37f); /* m log2 e might overflow */
    float back = 1, all = 0, lane[VN];
    if (m == -INFINITY) {
        for (size_t i = 0; i < n; i++) s[i] = s[i] == -INFINITY ? 0 : s[i], all += s[i]; /* NaN stays */
        *sum += all;
        return back;
    }
    for (size_t i = 0; huge && i < n; i++) s[i] -= m;
    const float down = huge ? 0 : m * MCC_LOG2E;
    if (before == -INFINITY) {
        back = 0;
    } else if (m != before) {
        v_store(lane, m_weight(v_set(huge ? (before - m) * MCC_LOG2E : before * MCC_LOG2E - down)));
        back = lane[0];
    }
    const vf by = v_set(MCC_LOG2E), shift = v_set(-down);
    vf a = v_set(0), b = a;
    size_t i = 0;
    for (; i + 2 * VN <= n; i += 2 * VN) {
        const vf x = m_weight(v_fma(v_load(s + i), by, shift)), y = m_weight(v_fma(v_load(s + i + VN), by, shift));
        v_store(s + i, x), v_store(s + i + VN, y);
        a = v_add(a, x), b = v_add(b, y);
    }
    for (; i + VN <= n; i += VN) {
        const vf x = m_weight(v_fma(v_load(s + i), by, shift));
        v_store(s + i, x);
        a = v_add(a, x);
    }
    if (i < n) {
        v_store(lane, m_weight(v_fma(v_load_n(s + i, n - i), by, shift)));
        for (size_t k = 0; i + k < n; k++) s[i + k] = lane[k], all += lane[k];
    }
    *sum = *sum * back + (v_sum(v_add(a, b)) + all);
    *top = m;
    return back;
}

VKERNEL void NAME(softcap)(size_t n, const float *x, float cap, float *y) {
    const vf c = v_set(cap);
    size_t i = 0;
    for (; i + VN <= n; i += VN) v_store(y + i, v_mul(c, m_tanh(v_div(v_load(x + i), c))));
    if (i < n) v_store_n(y + i, v_mul(c, m_tanh(v_div(v_load_n(x + i, n - i), c))), n - i);
}

VKERNEL void NAME(scale)(size_t n, const float *x, float a, float *y) {
    const vf by = v_set(a);
    size_t i = 0;
    for (; i + VN <= n; i += VN) v_store(y + i, v_mul(by, v_load(x + i)));
    if (i < n) v_store_n(y + i, v_mul(by, v_load_n(x + i, n - i)), n - i);
}

VKERNEL void NAME(add_mask)(size_t n, float *s, const void *mask) {
    const float *m = mask;
    size_t i = 0;
    for (; i + VN <= n; i += VN) v_store(s + i, v_add(v_load(s + i), v_load(m + i)));
    if (i < n) v_store_n(s + i, v_add(v_load_n(s + i, n - i), v_load_n(m + i, n - i)), n - i);
}

VKERNEL void NAME(bool_mask)(size_t n, float *s, const void *mask) {
    const uint8_t *m = mask;
    size_t i = 0;
#if defined(__aarch64__) /* sixteen flags are loaded and widened together */
    for (; i + 16 <= n; i += 16) {
        const int8x16_t hide = vreinterpretq_s8_u8(vceqzq_u8(vld1q_u8(m + i)));
        const int16x8_t half[2] = {vmovl_s8(vget_low_s8(hide)), vmovl_high_s8(hide)};
        for (int h = 0; h < 2; h++) {
            float *const at = s + i + 8 * h;
            const uint32x4_t low = vreinterpretq_u32_s32(vmovl_s16(vget_low_s16(half[h]))), high = vreinterpretq_u32_s32(vmovl_high_s16(half[h]));
            v_store(at, vbslq_f32(low, v_set(-INFINITY), v_load(at)));
            v_store(at + 4, vbslq_f32(high, v_set(-INFINITY), v_load(at + 4)));
        }
    }
#endif
    for (; i + VN <= n; i += VN)
        v_store(s + i, v_sel(v_eq(v_float(v_load_u8(m + i)), v_set(0)), v_set(-INFINITY), v_load(s + i)));
    for (; i < n; i++) s[i] = m[i] ? s[i] : -INFINITY;
}
