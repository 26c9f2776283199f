/* qrow_simd.h: the kernels of qrow.h on vectors; a file defines MCC_SIMD and includes this. The product of two shifted
 * int8 is below 2^24, so it is exact in float. */
#define MCC_NAME_STEM mcc_qrow_s8
#include "../core/simd.h"
#include "qrow.h"

/* VN int8 as floats, less their zero point; fewer than VN near the end. */
VFN vf shifted(const int8_t *p, size_t step, size_t n, int32_t zero) {
    if (step == 0) return v_set((float)(*p - zero));
    if (n >= VN) return v_float(vi_sub(v_load_s8(p), vi_set(zero)));
    int8_t t[VN] = {0};
    memcpy(t, p, n);
    return v_float(vi_sub(v_load_s8(t), vi_set(zero)));
}

VFN void finish(int8_t *y, vf t, size_t n, const mcc_qrow *p) {
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

VKERNEL void NAME(add)(size_t n, const int8_t *a, size_t a_step, const int8_t *b, size_t b_step, int8_t *y, const mcc_qrow *p) {
    size_t i = 0;
    if (a_step && b_step) {
        const vi za = vi_set(p->a_zero), zb = vi_set(p->b_zero);
        for (; i + VN <= n; i += VN) {
            const vf x = v_mul(v_float(vi_sub(v_load_s8(a + i), za)), v_set(p->a_scale));
            finish(y + i, v_add(x, v_mul(v_float(vi_sub(v_load_s8(b + i), zb)), v_set(p->b_scale))), VN, p);
        }
    }
    for (; i < n; i += VN) {
        const vf x = v_mul(shifted(a + i * a_step, a_step, n - i, p->a_zero), v_set(p->a_scale));
        const vf z = v_mul(shifted(b + i * b_step, b_step, n - i, p->b_zero), v_set(p->b_scale));
        finish(y + i, v_add(x, z), n - i, p);
    }
}

VKERNEL void NAME(mul)(size_t n, const int8_t *a, size_t a_step, const int8_t *b, size_t b_step, int8_t *y, const mcc_qrow *p) {
    size_t i = 0;
    if (a_step && b_step) {
        const vi za = vi_set(p->a_zero), zb = vi_set(p->b_zero);
        for (; i + VN <= n; i += VN) {
            const vf x = v_float(vi_sub(v_load_s8(a + i), za)), z = v_float(vi_sub(v_load_s8(b + i), zb));
            finish(y + i, v_mul(v_mul(x, z), v_set(p->scale)), VN, p);
        }
    }
    for (; i < n; i += VN) {
        const vf x = shifted(a + i * a_step, a_step, n - i, p->a_zero), z = shifted(b + i * b_step, b_step, n - i, p->b_zero);
        finish(y + i, v_mul(v_mul(x, z), v_set(p->scale)), n - i, p);
    }
}
