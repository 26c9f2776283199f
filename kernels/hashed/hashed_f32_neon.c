/* hashed_f32_neon.c: 4 lanes, whose buckets are loaded one by one. */
#if defined(__aarch64__)
#define MCC_SIMD neon
#include "../core/simd.h"
#include "hashed.h"

VFN vi mixed(vi keys, uint32_t row) {
    const uint32x4_t x = veorq_u32(vreinterpretq_u32_s32(keys), vdupq_n_u32(row));
    return vreinterpretq_s32_u32(vmulq_u32(x, vdupq_n_u32(MCC_HASH_MULTIPLIER)));
}
VFN vi upper(vi x, uint32_t buckets) {
    const uint32x4_t u = vreinterpretq_u32_s32(x);
    const uint64x2_t low = vmull_n_u32(vget_low_u32(u), buckets), high = vmull_n_u32(vget_high_u32(u), buckets);
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

#include "hashed_f32_simd.h"
#endif
