/* qnorm_simd.h: the kernels of qnorm.h on vectors; a file defines MCC_SIMD and includes this. */
#define MCC_NAME_STEM mcc_qnorm
#include <stdbool.h>

#include "../core/simd.h"
#include "qnorm.h"

enum { EXACT = 256 }; /* squares that a float sums without rounding: 2^14 2^8 < 2^24 */

VFN int32_t all(vi v) {
    int32_t lane[VN], sum = 0;
    memcpy(lane, &v, sizeof lane);
    for (int i = 0; i < VN; i++) sum += lane[i];
    return sum;
}

VFN vi codes_at(const int8_t *p, size_t n, int8_t fill) { /* what is past n: fill */
    int8_t t[VN];
    if (n >= VN) return v_load_s8(p);
    memset(t, fill, sizeof t);
    memcpy(t, p, n);
    return v_load_s8(t);
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

VKERNEL void NAME(moments)(size_t n, const int8_t *x, int32_t *sums) {
    vi s = vi_set(0), square = s;
    for (size_t i = 0; i < n;) {
        const size_t end = n - i < EXACT * VN ? n : i + EXACT * VN;
        vf part = v_set(0);
        for (; i < end; i += VN) {
            const vi v = codes_at(x + i, n - i, 0);
            const vf f = v_float(v);
            s = vi_add(s, v), part = v_fma(f, f, part);
        }
        square = vi_add(square, v_int(part));
    }
    sums[0] = all(s), sums[1] = all(square);
}

VFN vi code(vf t, const mcc_qnorm_out *p) { return vi_add(v_int(v_min(v_max(t, v_set(p->lo)), v_set(p->hi))), vi_set(p->zero)); }

VKERNEL void NAME(affine)(size_t n, const int8_t *x, float a, float b, const float *gamma, const float *beta, size_t step,
                          int8_t *y, const mcc_qnorm_out *p) {
    const vf va = v_set(a), vb = v_set(b);
    for (size_t i = 0; i < n; i += VN) {
        const vf t = v_add(v_mul(v_float(codes_at(x + i, n - i, 0)), va), vb);
        const bool whole = n - i >= VN;
        const vf g = !step ? v_set(*gamma) : whole ? v_load(gamma + i) : v_load_n(gamma + i, n - i);
        const vf m = !step ? v_set(*beta) : whole ? v_load(beta + i) : v_load_n(beta + i, n - i);
        put(y + i, code(v_add(v_mul(t, g), m), p), n - i);
    }
}

enum { PART = 64 };

VKERNEL void NAME(softmax)(size_t n, const int8_t *x, const mcc_qnorm_exp *e, float scale, int8_t *y, const mcc_qnorm_out *p) {
    vf best = v_set(-128);
    int32_t sum = 0;
    for (size_t i = 0; i < n; i += VN) best = v_max(best, v_float(codes_at(x + i, n - i, -128)));
    const int32_t top = (int32_t)v_peak(best);
    for (size_t i = 0; i < n; i++) sum += e->e[top - x[i]];
    const vf rate = v_set(scale / (float)sum);
    for (size_t i = 0; i < n; i += PART) {
        int32_t values[PART] = {0};
        const size_t count = n - i < PART ? n - i : PART;
        for (size_t k = 0; k < count; k++) values[k] = e->e[top - x[i + k]];
        for (size_t k = 0; k < count; k += VN) {
            vi v;
            memcpy(&v, values + k, sizeof v);
            put(y + i + k, code(v_mul(v_float(v), rate), p), count - k);
        }
    }
}
