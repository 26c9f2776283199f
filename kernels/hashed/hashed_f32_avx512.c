/* hashed_f32_avx512.c: 16 lanes; the upper halves of products come from two products of 8 lanes. */
#if defined(__x86_64__)
#define MCC_SIMD avx512
#include "../core/simd.h"
#include "hashed.h"

VFN vi mixed(vi keys, vi rows) {
    return _mm512_mullo_epi32(_mm512_xor_si512(keys, rows), vi_set((int32_t)MCC_HASH_MULTIPLIER));
}
VFN vi upper(vi x, uint32_t runs) {
    const vi b = vi_set((int32_t)runs);
    const vi even = _mm512_srli_epi64(_mm512_mul_epu32(x, b), 32), odd = _mm512_mul_epu32(_mm512_srli_epi64(x, 32), b);
    return _mm512_mask_mov_epi32(even, 0xAAAA, odd);
}
VFN vf take(const float *bucket, vi index) { return _mm512_i32gather_ps(index, bucket, 4); }
VFN vf flipped(vf w, vi bits) { return v_of_bits(_mm512_xor_si512(v_bits(w), bits)); }

VFN vi by_fours(vi a, int first) {
    return _mm512_permutexvar_epi32(vi_add(vi_set(first), _mm512_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3)), a);
}
VFN vi spread(const uint32_t *row) {
    return by_fours(_mm512_castsi128_si512(_mm_loadu_si128((const __m128i *)(const void *)row)), 0);
}
VFN vf joined(const float *bucket, const uint32_t *at) {
    vf w = _mm512_castps128_ps512(_mm_loadu_ps(bucket + at[0]));
    w = _mm512_insertf32x4(w, _mm_loadu_ps(bucket + at[1]), 1);
    w = _mm512_insertf32x4(w, _mm_loadu_ps(bucket + at[2]), 2);
    return _mm512_insertf32x4(w, _mm_loadu_ps(bucket + at[3]), 3);
}

#include "hashed_f32_simd.h"
#endif
