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

VKERNEL void POOL_NAME(f32, max, MCC_SIMD)(POOL_ARGS) {
    size_t c = 0;
    (void)divisor;
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
