/* hashed_f32_avx2.c: 8 lanes; the upper halves of products come from two products of 4 lanes. */
#if defined(__x86_64__)
#define MCC_SIMD avx2
#include "../core/simd.h"
#include "hashed.h"

VFN vi mixed(vi keys, vi rows) {
    return _mm256_mullo_epi32(_mm256_xor_si256(keys, rows), vi_set((int32_t)MCC_HASH_MULTIPLIER));
}
VFN vi upper(vi x, uint32_t runs) {
    const vi b = vi_set((int32_t)runs);
    const vi even = _mm256_srli_epi64(_mm256_mul_epu32(x, b), 32), odd = _mm256_mul_epu32(_mm256_srli_epi64(x, 32), b);
    return _mm256_blend_epi32(even, odd, 0xAA);
}
VFN vf take(const float *bucket, vi index) { return _mm256_i32gather_ps(bucket, index, 4); }
VFN vf flipped(vf w, vi bits) { return v_of_bits(_mm256_xor_si256(v_bits(w), bits)); }

VFN vi by_fours(vi a, int first) {
    return _mm256_permutevar8x32_epi32(a, vi_add(vi_set(first), _mm256_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1)));
}
VFN vi spread(const uint32_t *row) {
    return by_fours(_mm256_castsi128_si256(_mm_loadl_epi64((const __m128i *)(const void *)row)), 0);
}
VFN vf joined(const float *bucket, const uint32_t *at) {
    return _mm256_insertf128_ps(_mm256_castps128_ps256(_mm_loadu_ps(bucket + at[0])), _mm_loadu_ps(bucket + at[1]), 1);
}

#include "hashed_f32_simd.h"
#endif
