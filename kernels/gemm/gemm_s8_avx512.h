/* gemm_s8_avx512.h: what the int8 gemms of AVX-512 do with their sums.
 *
 * Sums become bytes by VPACKSSDW and VPACKSSWB, which work within 128-bit lanes. The columns of a panel stand in the
 * order that makes the packed bytes right (mcc_gemm_s8_column): of V vectors, lane l of vector v is 4 columns from
 * 4 * (V * l + v). */
#ifndef MCC_GEMM_S8_AVX512_H
#define MCC_GEMM_S8_AVX512_H

#include <immintrin.h>
#include <string.h>

#include "../core/isa.h"
#include "qgemm.h"

#define PUT_INLINE MCC_FN(avx512) static inline __attribute__((always_inline))

/* How sums become bytes: both bounds wait for them, since |t| < 2^31 and saturation keeps the order. */
typedef struct finish {
    const float *scale;
    __m512 r_scale, r_less;   /* of residuals: see `residuals` */
    __m512i zero, lo, hi;
    __m512i compress, expand; /* int32 of V-wide lanes to the front, and back */
    __mmask64 some;
} finish;

PUT_INLINE finish finish_of(const mcc_requant *q, const float *scale, size_t n, int V) {
    const __m512i i = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
    const __m512i compress3 = _mm512_set_epi32(0, 0, 0, 0, 14, 13, 12, 10, 9, 8, 6, 5, 4, 2, 1, 0);
    const __m512i compress2 = _mm512_set_epi32(0, 0, 0, 0, 0, 0, 0, 0, 13, 12, 9, 8, 5, 4, 1, 0);
    const __m512i compress1 = _mm512_set_epi32(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 12, 8, 4, 0);
    const __m512i expand3 = _mm512_set_epi32(0, 11, 10, 9, 0, 8, 7, 6, 0, 5, 4, 3, 0, 2, 1, 0);
    const __m512i expand2 = _mm512_set_epi32(0, 0, 7, 6, 0, 0, 5, 4, 0, 0, 3, 2, 0, 0, 1, 0);
    const __m512i expand1 = _mm512_set_epi32(0, 0, 0, 3, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 0);
    return (finish){.scale = scale, .r_scale = _mm512_set1_ps(q->r_scale),
                    .r_less = _mm512_set1_ps((float)(8388608 + 128 + q->r_zero)), .zero = _mm512_set1_epi16((short)q->zero),
                    .lo = _mm512_set1_epi8((char)((int32_t)q->lo + q->zero)),
                    .hi = _mm512_set1_epi8((char)((int32_t)q->hi + q->zero)),
                    .some = n >= 64 ? ~(__mmask64)0 : ((__mmask64)1 << n) - 1,
                    .compress = V == 4 ? i : V == 3 ? compress3 : V == 2 ? compress2 : compress1,
                    .expand = V == 4 ? i : V == 3 ? expand3 : V == 2 ? expand2 : expand1};
}

/* What a row's residual adds to vectors 0 to 3: its bytes, less their zero point, times r_scale. A byte + 128 behind the
 * exponent of 2^23 is the float 2^23 + byte + 128. */
typedef struct addends { __m512 v[4]; } addends;

PUT_INLINE __m512 addend(const finish *f, __m512i bits) {
    return _mm512_mul_ps(_mm512_sub_ps(_mm512_castsi512_ps(bits), f->r_less), f->r_scale);
}

PUT_INLINE addends residuals(const finish *f, int V, const int8_t *residual) {
    __m512i r = _mm512_xor_si512(_mm512_maskz_loadu_epi8(f->some, residual), _mm512_set1_epi8((char)0x80));
    if (V < 4) r = _mm512_permutexvar_epi32(f->expand, r);
    const __m512i none = _mm512_setzero_si512(), top = _mm512_set1_epi16(0x4B00);
    const __m512i low = _mm512_unpacklo_epi8(r, none), high = _mm512_unpackhi_epi8(r, none);
    return (addends){{addend(f, _mm512_unpacklo_epi16(low, top)), addend(f, _mm512_unpackhi_epi16(low, top)),
                      addend(f, _mm512_unpacklo_epi16(high, top)), addend(f, _mm512_unpackhi_epi16(high, top))}};
}

/* Vector v before `zero` is added. */
PUT_INLINE __m512i code(const finish *f, int v, __m512i acc, const addends *add) {
    const __m512 t = _mm512_mul_ps(_mm512_cvtepi32_ps(acc), _mm512_loadu_ps(f->scale + 16 * v));
    return _mm512_cvtps_epi32(add ? _mm512_add_ps(t, add->v[v]) : t);
}

/* One row of V vectors. */
PUT_INLINE void put(const finish *f, int V, int8_t *c, const int8_t *residual, __m512i a0, __m512i a1, __m512i a2, __m512i a3) {
    addends sums;
    const addends *add = NULL;
    if (residual) sums = residuals(f, V, residual), add = &sums;
    const __m512i c0 = code(f, 0, a0, add), c1 = V > 1 ? code(f, 1, a1, add) : c0;
    const __m512i low = _mm512_adds_epi16(_mm512_packs_epi32(c0, c1), f->zero);
    __m512i high = low;
    if (V > 2) {
        const __m512i c2 = code(f, 2, a2, add), c3 = V > 3 ? code(f, 3, a3, add) : c2;
        high = _mm512_adds_epi16(_mm512_packs_epi32(c2, c3), f->zero);
    }
    __m512i y = _mm512_min_epi8(_mm512_max_epi8(_mm512_packs_epi16(low, high), f->lo), f->hi);
    if (V < 4) y = _mm512_permutexvar_epi32(f->compress, y);
    _mm512_mask_storeu_epi8(c, f->some, y);
}

/* Vector v of a row of V, to where its columns stand. */
PUT_INLINE void spread(int32_t *c, int V, int v, __m512i a) {
    _mm_storeu_si128((__m128i *)(void *)(c + 4 * v), _mm512_castsi512_si128(a));
    _mm_storeu_si128((__m128i *)(void *)(c + 4 * (V + v)), _mm512_extracti32x4_epi32(a, 1));
    _mm_storeu_si128((__m128i *)(void *)(c + 4 * (2 * V + v)), _mm512_extracti32x4_epi32(a, 2));
    _mm_storeu_si128((__m128i *)(void *)(c + 4 * (3 * V + v)), _mm512_extracti32x4_epi32(a, 3));
}

/* The same for four vectors: their lanes transposed. */
PUT_INLINE void spread4(int32_t *c, __m512i a0, __m512i a1, __m512i a2, __m512i a3) {
    const __m512i b0 = _mm512_shuffle_i32x4(a0, a1, 0x44), b1 = _mm512_shuffle_i32x4(a0, a1, 0xEE);
    const __m512i b2 = _mm512_shuffle_i32x4(a2, a3, 0x44), b3 = _mm512_shuffle_i32x4(a2, a3, 0xEE);
    _mm512_storeu_si512(c, _mm512_shuffle_i32x4(b0, b2, 0x88));
    _mm512_storeu_si512(c + 16, _mm512_shuffle_i32x4(b0, b2, 0xDD));
    _mm512_storeu_si512(c + 32, _mm512_shuffle_i32x4(b1, b3, 0x88));
    _mm512_storeu_si512(c + 48, _mm512_shuffle_i32x4(b1, b3, 0xDD));
}

/* The sums of a row as they are. */
PUT_INLINE void put_raw(int32_t *c, size_t n, int V, __m512i a0, __m512i a1, __m512i a2, __m512i a3) {
    int32_t line[64], *out = n == 16 * (size_t)V ? c : line;
    if (V == 4) {
        spread4(out, a0, a1, a2, a3);
    } else {
        spread(out, V, 0, a0);
        if (V > 1) spread(out, V, 1, a1);
        if (V > 2) spread(out, V, 2, a2);
    }
    if (out == line) memcpy(c, line, n * sizeof *c);
}

#undef PUT_INLINE
#endif
