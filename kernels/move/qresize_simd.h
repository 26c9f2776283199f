/* qresize_simd.h: the kernel of qresize.h on vectors; a file defines MCC_SIMD and includes this. */
#define MCC_NAME_STEM mcc_qblend
#include "../core/simd.h"
#include "qresize.h"

VKERNEL void NAME(s8)(size_t n, const int8_t *const *x, const float *w, int8_t *y, const mcc_qblend *p) {
    const vf w0 = v_set(w[0]), w1 = v_set(w[1]), w2 = v_set(w[2]), w3 = v_set(w[3]);
    const vi zero = vi_set(p->x_zero);
    for (size_t i = 0; i < n; i += VN) {
        int8_t pixel[4][VN], out[VN];
        const int8_t *a = x[0] + i, *b = x[1] + i, *c = x[2] + i, *d = x[3] + i;
        if (n - i < VN) {
            memset(pixel, 0, sizeof pixel);
            for (int k = 0; k < 4; k++) memcpy(pixel[k], x[k] + i, n - i);
            a = pixel[0], b = pixel[1], c = pixel[2], d = pixel[3];
        }
        const vf high = v_add(v_mul(v_float(vi_sub(v_load_s8(a), zero)), w0), v_mul(v_float(vi_sub(v_load_s8(b), zero)), w1));
        const vf low = v_add(v_mul(v_float(vi_sub(v_load_s8(c), zero)), w2), v_mul(v_float(vi_sub(v_load_s8(d), zero)), w3));
        const vf t = v_min(v_max(v_mul(v_add(high, low), v_set(p->scale)), v_set(p->lo)), v_set(p->hi));
        const vi code = vi_add(v_int(t), vi_set(p->zero));
        if (n - i >= VN) {
            v_store_8(y + i, code);
            continue;
        }
        v_store_8(out, code);
        memcpy(y + i, out, n - i);
    }
}
