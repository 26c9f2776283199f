/* pool_simd.h: pooling for one vector ISA. A file defines MCC_SIMD, includes core/simd.h, defines for bytes
 *   vb, VB   a vector of VB bytes; b_load, b_store, and b_load_n, b_store_n of n < VB
 *   b_set, b_max_s8, b_max_u8
 * and includes this. */
#include <math.h>

#include "pool.h"

#define POOL_NAME_(type, what, isa) mcc_pool_##type##_##what##_##isa
#define POOL_NAME(type, what, isa) POOL_NAME_(type, what, isa)
#define POOL_ARGS size_t channels, size_t taps, const void *const *table, void *y, unsigned parts, float divisor

VFN vf get(const float *p, size_t n) { return n == VN ? v_load(p) : v_load_n(p, n); }

VFN void max_f32(size_t c, size_t n, size_t taps, const float *const *table, float *y, unsigned parts) {
    vf top = parts & MCC_POOL_FIRST ? v_set(-INFINITY) : get(y + c, n);
    for (size_t t = 0; t < taps; t++) top = v_maxn(top, get(table[t] + c, n));
    if (n == VN) v_store(y + c, top);
    else v_store_n(y + c, top, n);
}

/* Four vectors at a time: a tap's pointer is read once for all of them. */
VFN void max_four_f32(size_t c, size_t taps, const float *const *table, float *y, unsigned parts) {
    vf a = v_set(-INFINITY), b = a, d = a, e = a;
    if (!(parts & MCC_POOL_FIRST))
        a = v_load(y + c), b = v_load(y + c + VN), d = v_load(y + c + 2 * VN), e = v_load(y + c + 3 * VN);
    for (size_t t = 0; t < taps; t++) {
        const float *x = table[t] + c;
        a = v_maxn(a, v_load(x)), b = v_maxn(b, v_load(x + VN));
        d = v_maxn(d, v_load(x + 2 * VN)), e = v_maxn(e, v_load(x + 3 * VN));
    }
    v_store(y + c, a), v_store(y + c + VN, b), v_store(y + c + 2 * VN, d), v_store(y + c + 3 * VN, e);
}

/* Three taps, as every row and every column of a 3 x 3 window has: no loop over them, and nothing to begin from. */
VFN size_t max_of_three_f32(size_t channels, const float *const *table, float *y) {
    const float *p = table[0], *q = table[1], *r = table[2];
    size_t c = 0;
    for (; c + 2 * VN <= channels; c += 2 * VN) {
        v_store(y + c, v_maxn(v_maxn(v_load(p + c), v_load(q + c)), v_load(r + c)));
        v_store(y + c + VN, v_maxn(v_maxn(v_load(p + c + VN), v_load(q + c + VN)), v_load(r + c + VN)));
    }
    return c;
}

VKERNEL void POOL_NAME(f32, max, MCC_SIMD)(POOL_ARGS) {
    size_t c = 0;
    (void)divisor;
    if (taps == 3 && parts & MCC_POOL_FIRST) c = max_of_three_f32(channels, (const float *const *)table, y);
    for (; c + 4 * VN <= channels; c += 4 * VN) max_four_f32(c, taps, (const float *const *)table, y, parts);
    for (; c + VN <= channels; c += VN) max_f32(c, VN, taps, (const float *const *)table, y, parts);
    if (c < channels) max_f32(c, channels - c, taps, (const float *const *)table, y, parts);
}

VFN void avg_f32(size_t c, size_t n, size_t taps, const float *const *table, float *y, unsigned parts, vf divisor) {
    vf a = parts & MCC_POOL_FIRST ? v_set(0.0f) : get(y + c, n), b = v_set(0.0f);
    size_t t = 0;
    for (; t + 2 <= taps; t += 2) {
        a = v_add(a, get(table[t] + c, n));
        b = v_add(b, get(table[t + 1] + c, n));
    }
    if (t < taps) a = v_add(a, get(table[t] + c, n));
    a = v_add(a, b);
    if (parts & MCC_POOL_LAST) a = v_div(a, divisor);
    if (n == VN) v_store(y + c, a);
    else v_store_n(y + c, a, n);
}

VKERNEL void POOL_NAME(f32, avg, MCC_SIMD)(POOL_ARGS) {
    size_t c = 0;
    const vf d = v_set(divisor);
    for (; c + VN <= channels; c += VN) avg_f32(c, VN, taps, (const float *const *)table, y, parts, d);
    if (c < channels) avg_f32(c, channels - c, taps, (const float *const *)table, y, parts, d);
}

#define POOL_MAX_BYTES(type, max, lowest)                                                                          \
    VKERNEL void POOL_NAME(type, max, MCC_SIMD)(POOL_ARGS) {                                                       \
        uint8_t *out = y;                                                                                          \
        size_t c = 0;                                                                                              \
        (void)divisor;                                                                                             \
        for (; c + VB <= channels; c += VB) {                                                                      \
            vb top = parts & MCC_POOL_FIRST ? b_set(lowest) : b_load(out + c);                                     \
            for (size_t t = 0; t < taps; t++) top = b_max_##type(top, b_load((const uint8_t *)table[t] + c));      \
            b_store(out + c, top);                                                                                 \
        }                                                                                                          \
        if (c < channels) {                                                                                        \
            const size_t n = channels - c;                                                                         \
            vb top = parts & MCC_POOL_FIRST ? b_set(lowest) : b_load_n(out + c, n);                                \
            for (size_t t = 0; t < taps; t++) top = b_max_##type(top, b_load_n((const uint8_t *)table[t] + c, n)); \
            b_store_n(out + c, top, n);                                                                            \
        }                                                                                                          \
    }
POOL_MAX_BYTES(s8, max, INT8_MIN)
POOL_MAX_BYTES(u8, max, 0)

VFN vi get_s8(const int8_t *p, size_t n) {
    if (n >= VN) return v_load_s8(p);
    int8_t t[VN] = {0};
    memcpy(t, p, n);
    return v_load_s8(t);
}

VFN void put_mean(int8_t *y, vi sum, size_t n, const mcc_pool_mean *p) {
    vf t = v_mul(v_float(vi_sub(sum, vi_set(p->shift))), v_set(p->scale));
    t = v_min(v_max(t, v_set(p->lo)), v_set(p->hi));
    const vi code = vi_add(v_int(t), vi_set(p->zero));
    if (n >= VN) {
        v_store_8(y, code);
        return;
    }
    int8_t out[VN];
    v_store_8(out, code);
    memcpy(y, out, n);
}

VKERNEL void POOL_NAME(s8, mean, MCC_SIMD)(size_t channels, size_t lines, size_t rows, const int8_t *x, size_t line, size_t row,
                                           int8_t *y, const mcc_pool_mean *p) {
    size_t c = 0;
    for (; c + 4 * VN <= channels; c += 4 * VN) {
        vi s0 = vi_set(0), s1 = s0, s2 = s0, s3 = s0;
        for (size_t l = 0; l < lines; l++)
            for (size_t r = 0; r < rows; r++) {
                const int8_t *q = x + l * line + r * row + c;
                s0 = vi_add(s0, v_load_s8(q)), s1 = vi_add(s1, v_load_s8(q + VN));
                s2 = vi_add(s2, v_load_s8(q + 2 * VN)), s3 = vi_add(s3, v_load_s8(q + 3 * VN));
            }
        put_mean(y + c, s0, VN, p), put_mean(y + c + VN, s1, VN, p);
        put_mean(y + c + 2 * VN, s2, VN, p), put_mean(y + c + 3 * VN, s3, VN, p);
    }
    for (; c < channels; c += VN) {
        const size_t n = channels - c < VN ? channels - c : VN;
        vi sum = vi_set(0);
        for (size_t l = 0; l < lines; l++)
            for (size_t r = 0; r < rows; r++) sum = vi_add(sum, get_s8(x + l * line + r * row + c, n));
        put_mean(y + c, sum, n, p);
    }
}
