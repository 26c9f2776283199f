/* hashed_f32_avx2.c: 8 lanes; the upper halves of products come from two products of 4 lanes. */
#if defined(__x86_64__)
#define MCC_SIMD avx2
#include "../core/simd.h"
#include "hashed.h"

VFN vi mixed(vi keys, uint32_t row) {
    return _mm256_mullo_epi32(_mm256_xor_si256(keys, vi_set((int32_t)row)), vi_set((int32_t)MCC_HASH_MULTIPLIER));
}
VFN vi upper(vi x, uint32_t runs) {
    const vi b = vi_set((int32_t)runs);
    const vi even = _mm256_srli_epi64(_mm256_mul_epu32(x, b), 32), odd = _mm256_mul_epu32(_mm256_srli_epi64(x, 32), b);
    return _mm256_blend_epi32(even, odd, 0xAA);
}
VFN vf take(const float *bucket, vi index) { return _mm256_i32gather_ps(bucket, index, 4); }
VFN vf flipped(vf w, vi bits) { return v_of_bits(_mm256_xor_si256(v_bits(w), bits)); }

#include "hashed_f32_simd.h"
#endif
