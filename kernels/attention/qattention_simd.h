/* qattention_simd.h: the kernels of qattention.h on vectors; a file defines MCC_SIMD and includes this. */
#define MCC_NAME_STEM mcc_qattention
#include "../core/simd.h"
#include "qattention.h"

VFN vf floats(const int32_t *p, size_t n, vi minus) {
    return v_float(vi_sub(v_bits(n < VN ? v_load_n((const float *)(const void *)p, n) : v_load((const float *)(const void *)p)), minus));
}

VFN void put(int8_t *y, vi codes, size_t n) {
    int8_t t[VN];
    if (n >= VN) {
        v_store_8(y, codes);
        return;
    }
    v_store_8(t, codes);
    memcpy(y, t, n);
}

VKERNEL float NAME(peak)(size_t n, const float *t) {
    vf best = v_set(t[0]);
    size_t i = 0;
    for (; i + VN <= n; i += VN) best = v_max(best, v_load(t + i));
    float top = v_peak(best);
    for (; i < n; i++) top = t[i] > top ? t[i] : top;
    return top;
}

VKERNEL float NAME(scores)(size_t n, const int32_t *acc, int32_t minus, float scale, float *t) {
    const vi m = vi_set(minus);
    const vf s = v_set(scale);
    size_t i = 0;
    for (; i + VN <= n; i += VN) v_store(t + i, v_mul(floats(acc + i, VN, m), s));
    if (i < n) v_store_n(t + i, v_mul(floats(acc + i, n - i, m), s), n - i);
    return NAME(peak)(n, t);
}

VKERNEL void NAME(away)(size_t n, const float *t, float top, float steps, int8_t *codes) {
    const vf high = v_set(top), s = v_set(steps);
    for (size_t i = 0; i < n; i += VN) {
        const vf d = v_mul(v_sub(high, n - i < VN ? v_load_n(t + i, n - i) : v_load(t + i)), s);
        put(codes + i, vi_sub(v_int(v_min(d, v_set(255))), vi_set(128)), n - i);
    }
}

VKERNEL int32_t NAME(total)(size_t n, const int8_t *p, uint8_t flip) {
    vf sum = v_set(0); /* exact: below 2^24 in each lane */
    const vi turn = vi_set(flip ? 255 - flip + 1 : 0);
    size_t i = 0;
    for (; i + VN <= n; i += VN) sum = v_add(sum, v_float(vi_and(vi_add(v_load_u8((const uint8_t *)p + i), turn), vi_set(255))));
    int32_t all = 0;
    float lane[VN];
    v_store(lane, sum);
    for (int k = 0; k < VN; k++) all += (int32_t)lane[k];
    for (; i < n; i++) all += (uint8_t)p[i] ^ flip;
    return all;
}

VKERNEL void NAME(weighted)(size_t n, const int32_t *acc, int32_t minus, float rate, int32_t zero, int8_t *y) {
    const vi m = vi_set(minus), z = vi_set(zero);
    const vf r = v_set(rate), low = v_set((float)(-128 - zero)), high = v_set((float)(127 - zero));
    for (size_t i = 0; i < n; i += VN) put(y + i, vi_add(v_int(v_min(v_max(v_mul(floats(acc + i, n - i, m), r), low), high)), z), n - i);
}
