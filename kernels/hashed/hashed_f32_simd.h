/* hashed_f32_simd.h: the kernels that all vector ISAs share. A file defines MCC_SIMD, includes core/simd.h, and defines
 *     mixed(keys, rows)         mcc_hash(keys ^ rows) of VN keys
 *     upper(x, runs)            the upper half of x * runs, unsigned, of VN x
 *     take(bucket, index)       VN floats
 *     flipped(w, bits)          w xor bits
 * before it includes this; and expand_fours and gemv_fours for 16 columns that go by fours, or on x86
 *     spread(row)               VN / 4 keys, each in four lanes
 *     joined(bucket, at)        four floats from each of VN / 4 places
 *     by_fours(a, first)        of a, VN / 4 lanes from `first` on, each in four lanes */

VFN vi keys_(const uint32_t *p) { return v_bits(v_load((const float *)(const void *)p)); } /* loaded as bits */

/* VN weights of one row. */
VFN vf weights_(const mcc_hashed_panel *p, vi keys, vi places, size_t q) {
    const vi x = mixed(keys, vi_set((int32_t)p->row[q])), sign = vi_and(vi_shl(x, 31 - MCC_HASH_SIGN), vi_set(INT32_MIN));
    return flipped(take(p->bucket, vi_add(vi_shl(upper(x, p->runs), 2), places)), sign);
}

#if defined(__x86_64__)
#include "hashed_f32_fours.h"
#endif

#define HASHED_NAME_(what, isa) mcc_hashed_f32_##what##_##isa
#define HASHED_NAME(what, isa) HASHED_NAME_(what, isa)

VKERNEL void HASHED_NAME(expand, MCC_SIMD)(const mcc_hashed_panel *panel, float *out) {
    const mcc_hashed_panel copy = *panel, *const p = &copy; /* its members stay in registers: `out` is none of them */
    size_t j = 0;
    for (; p->fours && j + 16 <= p->nr; j += 16) expand_fours(p, j, out + j);
    for (; j < p->nr; j += VN) {
        const vi keys = keys_(p->column + j), places = keys_(p->place + j);
        for (size_t q = 0; q < p->depth; q++) v_store(out + q * p->nr + j, weights_(p, keys, places, q));
    }
}

VKERNEL void HASHED_NAME(gemv, MCC_SIMD)(const mcc_hashed_panel *panel, const float *x, const float *bias, float *y) {
    const mcc_hashed_panel copy = *panel, *const p = &copy;
    for (size_t j = 0; j < p->nr; j += 16) gemv_fours(p, j, x, bias + j, y + j);
}
