/* hashed_f32_neon.c: 4 lanes. Of columns that go by fours a lane is a run of buckets, loaded at once, and its sign is in what it
 * is multiplied by; else the buckets are loaded one by one. */
#if defined(__aarch64__)
#define MCC_SIMD neon
#include "../core/simd.h"
#include "hashed.h"

VFN vi mixed(vi keys, vi rows) {
    const uint32x4_t x = vreinterpretq_u32_s32(veorq_s32(keys, rows));
    return vreinterpretq_s32_u32(vmulq_u32(x, vdupq_n_u32(MCC_HASH_MULTIPLIER)));
}
VFN vi upper(vi x, uint32_t runs) {
    const uint32x4_t u = vreinterpretq_u32_s32(x);
    const uint64x2_t low = vmull_n_u32(vget_low_u32(u), runs), high = vmull_n_u32(vget_high_u32(u), runs);
    return vreinterpretq_s32_u32(vuzp2q_u32(vreinterpretq_u32_u64(low), vreinterpretq_u32_u64(high)));
}
VFN vf take(const float *bucket, vi index) {
    const uint64x2_t pairs = vreinterpretq_u64_s32(index);
    const uint64_t a = vgetq_lane_u64(pairs, 0), b = vgetq_lane_u64(pairs, 1);
    vf w = vdupq_n_f32(bucket[(uint32_t)a]);
    w = vsetq_lane_f32(bucket[a >> 32], w, 1);
    w = vsetq_lane_f32(bucket[(uint32_t)b], w, 2);
    return vsetq_lane_f32(bucket[b >> 32], w, 3);
}
VFN vf flipped(vf w, vi bits) { return v_of_bits(veorq_s32(v_bits(w), bits)); }

/* Row q of 16 columns: the buckets of four runs, and `value` with the sign of each. */
typedef struct four { float32x4_t run[4], by; } four;
VFN four four_(const mcc_hashed_panel *p, vi keys, size_t q, float value) {
    const vi x = mixed(keys, vi_set((int32_t)p->row[q])), sign = vi_and(vi_shl(x, 31 - MCC_HASH_SIGN), vi_set(INT32_MIN));
    const uint64x2_t pairs = vreinterpretq_u64_s32(upper(x, p->runs));
    const uint64_t a = vgetq_lane_u64(pairs, 0), b = vgetq_lane_u64(pairs, 1);
    const float *of = p->bucket;
    return (four){{v_load(of + MCC_HASH_RUN * (a & UINT32_MAX)), v_load(of + MCC_HASH_RUN * (a >> 32)),
                   v_load(of + MCC_HASH_RUN * (b & UINT32_MAX)), v_load(of + MCC_HASH_RUN * (b >> 32))},
                  flipped(v_set(value), sign)};
}
VFN vi keys_of_(const mcc_hashed_panel *p, size_t j) { return vreinterpretq_s32_u32(vld4q_u32(p->column + j).val[0]); }

VFN void expand_fours(const mcc_hashed_panel *p, size_t j, float *out) {
    const vi keys = keys_of_(p, j);
    for (size_t q = 0; q < p->depth; q++, out += p->nr) {
        const four f = four_(p, keys, q, 1);
        v_store(out, vmulq_laneq_f32(f.run[0], f.by, 0));
        v_store(out + 4, vmulq_laneq_f32(f.run[1], f.by, 1));
        v_store(out + 8, vmulq_laneq_f32(f.run[2], f.by, 2));
        v_store(out + 12, vmulq_laneq_f32(f.run[3], f.by, 3));
    }
}

VFN void gemv_fours(const mcc_hashed_panel *p, size_t j, const float *x, const float *bias, float *y) {
    const vi keys = keys_of_(p, j);
    vf s0 = v_load(bias), s1 = v_load(bias + 4), s2 = v_load(bias + 8), s3 = v_load(bias + 12);
    for (size_t q = 0; q < p->depth; q++) {
        const four f = four_(p, keys, q, x[q]);
        s0 = vfmaq_laneq_f32(s0, f.run[0], f.by, 0), s1 = vfmaq_laneq_f32(s1, f.run[1], f.by, 1);
        s2 = vfmaq_laneq_f32(s2, f.run[2], f.by, 2), s3 = vfmaq_laneq_f32(s3, f.run[3], f.by, 3);
    }
    v_store(y, s0), v_store(y + 4, s1), v_store(y + 8, s2), v_store(y + 12, s3);
}

#include "hashed_f32_simd.h"
#endif
