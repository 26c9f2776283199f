/* qresize_simd.h: the kernel of qresize.h on vectors; a file defines MCC_SIMD and includes this. Its sums are exact in floats. */
#define MCC_NAME_STEM mcc_qblend
#include "../core/simd.h"
#include "qresize.h"

VKERNEL void NAME(s8)(size_t n, const int8_t *const *x, const int16_t *w, int8_t *y, const mcc_qblend *p) {
    const vf w0 = v_set(w[0]), w1 = v_set(w[1]), w2 = v_set(w[2]), w3 = v_set(w[3]);
    const vf lo = v_set((float)(-128 - p->zero)), hi = v_set((float)(127 - p->zero));
    const vi zero = vi_set(p->x_zero);
    for (size_t i = 0; i < n; i += VN) {
        int8_t pixel[4][VN], out[VN];
        const int8_t *a = x[0] + i, *b = x[1] + i, *c = x[2] + i, *d = x[3] + i;
        if (n - i < VN) {
            memset(pixel, 0, sizeof pixel);
            for (int k = 0; k < 4; k++) memcpy(pixel[k], x[k] + i, n - i);
            a = pixel[0], b = pixel[1], c = pixel[2], d = pixel[3];
        }
        vf sum = v_mul(v_float(vi_sub(v_load_s8(a), zero)), w0);
        sum = v_fma(v_float(vi_sub(v_load_s8(b), zero)), w1, sum);
        sum = v_fma(v_float(vi_sub(v_load_s8(c), zero)), w2, sum);
        sum = v_fma(v_float(vi_sub(v_load_s8(d), zero)), w3, sum);
        const vf t = v_min(v_max(v_mul(sum, v_set(p->scale)), lo), hi);
        const vi code = vi_add(v_int(t), vi_set(p->zero));
        if (n - i >= VN) {
            v_store_8(y + i, code);
            continue;
        }
        v_store_8(out, code);
        memcpy(y + i, out, n - i);
    }
}
