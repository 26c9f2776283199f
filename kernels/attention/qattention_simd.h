/* qattention_simd.h: the kernels of qattention.h on vectors; a file defines MCC_SIMD and includes this. */
#define MCC_NAME_STEM mcc_qattention
#include "../core/simd.h"
#include "qattention.h"

VFN vi whole(const int32_t *p, size_t n) { return n < VN ? v_bits(v_load_n((const float *)(const void *)p, n)) : v_bits(v_load((const float *)(const void *)p)); }

VKERNEL void NAME(scores)(size_t n, const int32_t *acc, int32_t minus, float scale, float *t) {
    const vi m = vi_set(minus);
    const vf s = v_set(scale);
    size_t i = 0;
    for (; i + VN <= n; i += VN) v_store(t + i, v_mul(v_float(vi_sub(whole(acc + i, VN), m)), s));
    if (i < n) v_store_n(t + i, v_mul(v_float(vi_sub(whole(acc + i, n - i), m)), s), n - i);
}

VFN vi index_of(vf t, vf top, vf steps) { /* v_min: 255 wins where both are -inf */
    return vi_sub(v_int(v_min(v_mul(v_sub(top, t), steps), v_set(255))), vi_set(128));
}

VKERNEL float NAME(away)(size_t n, const float *t, float steps, int8_t *codes) {
    vf best = v_set(t[0]);
    size_t i = 0;
    for (; i + VN <= n; i += VN) best = v_max(best, v_load(t + i));
    float top = v_peak(best);
    for (; i < n; i++) top = t[i] > top ? t[i] : top;
    const vf high = v_set(top), s = v_set(steps);
    for (i = 0; i + VN <= n; i += VN) v_store_8(codes + i, index_of(v_load(t + i), high, s));
    if (i < n) {
        int8_t some[VN];
        v_store_8(some, index_of(v_load_n(t + i, n - i), high, s));
        memcpy(codes + i, some, n - i);
    }
    return top;
}

VKERNEL int32_t NAME(total)(size_t n, const int8_t *p, uint8_t flip) {
    int32_t sum = 0;
    for (size_t i = 0; i < n; i++) sum += (uint8_t)p[i] ^ flip;
    return sum;
}

VKERNEL void NAME(weighted)(size_t n, const int32_t *acc, int32_t minus, float rate, float lo, float hi, int32_t zero, int8_t *y) {
    const vi m = vi_set(minus), z = vi_set(zero);
    const vf r = v_set(rate), low = v_set(lo), high = v_set(hi);
    for (size_t i = 0; i < n; i += VN) {
        const vf t = v_mul(v_float(vi_sub(whole(acc + i, n - i), m)), r);
        const vi code = vi_add(v_int(v_min(v_max(t, low), high)), z);
        if (n - i >= VN) {
            v_store_8(y + i, code);
            continue;
        }
        int8_t some[VN];
        v_store_8(some, code);
        memcpy(y + i, some, n - i);
    }
}
