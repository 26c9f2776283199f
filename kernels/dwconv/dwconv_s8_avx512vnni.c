/* dwconv_s8_avx512vnni.c: rows of int8 depthwise on VPDPBUSD: four taps of a column are interleaved by bytes, as uint8 = int8 + 128
 * (the packed bias takes that back). Blocks of 64 channels; what remains in blocks of 32, masked. Unpacking leaves accumulator
 * i with the channels 16 l + 4 i .. + 3 in its 128-bit lane l, and the packs that store undo it. */
#if defined(__x86_64__)
#include <immintrin.h>

#include "../core/isa.h"
#include "dwconv_s8.h"

#define VROW MCC_FN(avx512vnni) static inline __attribute__((always_inline))

/* --- 64 channels ---------------------------------------------------------------------------------------------- */

#define W(name) name##64
typedef __m512i xv64, iv64;
enum { VC64 = 64, VA64 = 4, VT64 = 4 };

VROW __m512i x_load64(const int8_t *p, size_t n) {
    (void)n;
    return _mm512_xor_si512(_mm512_loadu_si512(p), _mm512_set1_epi8(-128));
}
VROW __m512i i_load64(const int32_t *p, size_t i) { return _mm512_loadu_si512(p + 16 * i); }
VROW __m512i mac64(__m512i acc, __m512i x, const uint8_t *w) { return _mm512_dpbusd_epi32(acc, x, _mm512_loadu_si512(w)); }

/* A missing row repeats one that is there: its weights are 0. */
VROW void group64(const __m512i *x, size_t rows, __m512i *out) {
    const __m512i b = x[rows > 1 ? 1 : 0], c = x[rows > 2 ? 2 : 0], d = x[rows > 3 ? 3 : rows > 2 ? 2 : 0];
    const __m512i ab0 = _mm512_unpacklo_epi8(x[0], b), ab1 = _mm512_unpackhi_epi8(x[0], b);
    const __m512i cd0 = rows > 2 ? _mm512_unpacklo_epi8(c, d) : ab0, cd1 = rows > 2 ? _mm512_unpackhi_epi8(c, d) : ab1;
    out[0] = _mm512_unpacklo_epi16(ab0, cd0), out[1] = _mm512_unpackhi_epi16(ab0, cd0);
    out[2] = _mm512_unpacklo_epi16(ab1, cd1), out[3] = _mm512_unpackhi_epi16(ab1, cd1);
}

/* rint and the upper bound as gemm.h says; zero and the lower bound follow on saturated integers, which gives the same. */
VROW __m512i code64(__m512i acc, const float *scale, __m512 hi) {
    return _mm512_cvtps_epi32(_mm512_min_ps(_mm512_mul_ps(_mm512_cvtepi32_ps(acc), _mm512_loadu_ps(scale)), hi));
}
VROW __m512i code_add64(__m512i acc, const float *scale, __m512i residual, const mcc_requant *q) {
    __m512 y = _mm512_mul_ps(_mm512_cvtepi32_ps(acc), _mm512_loadu_ps(scale));
    const __m512 shifted = _mm512_cvtepi32_ps(_mm512_sub_epi32(residual, _mm512_set1_epi32(q->r_zero)));
    y = _mm512_add_ps(y, _mm512_mul_ps(shifted, _mm512_set1_ps(q->r_scale)));
    return _mm512_cvtps_epi32(_mm512_min_ps(_mm512_max_ps(y, _mm512_set1_ps(q->lo)), _mm512_set1_ps(q->hi)));
}

VROW void put64(const __m512i *acc, const float *scale, size_t n, void *y, size_t at, const int8_t *residual, const mcc_requant *q) {
    (void)n;
    if (!q) { /* 4 x 4 lanes, transposed */
        const __m512i a = _mm512_shuffle_i32x4(acc[0], acc[1], 0x44), b = _mm512_shuffle_i32x4(acc[0], acc[1], 0xEE);
        const __m512i c = _mm512_shuffle_i32x4(acc[2], acc[3], 0x44), d = _mm512_shuffle_i32x4(acc[2], acc[3], 0xEE);
        int32_t *to = (int32_t *)y + at;
        _mm512_storeu_si512(to, _mm512_shuffle_i32x4(a, c, 0x88));
        _mm512_storeu_si512(to + 16, _mm512_shuffle_i32x4(a, c, 0xDD));
        _mm512_storeu_si512(to + 32, _mm512_shuffle_i32x4(b, d, 0x88));
        _mm512_storeu_si512(to + 48, _mm512_shuffle_i32x4(b, d, 0xDD));
        return;
    }
    __m512i i0, i1, i2, i3;
    if (residual) {
        const __m512i r = _mm512_loadu_si512(residual), sign = _mm512_movm_epi8(_mm512_movepi8_mask(r));
        const __m512i r0 = _mm512_unpacklo_epi8(r, sign), r1 = _mm512_unpackhi_epi8(r, sign);
        const __m512i s0 = _mm512_srai_epi16(r0, 15), s1 = _mm512_srai_epi16(r1, 15);
        i0 = code_add64(acc[0], scale, _mm512_unpacklo_epi16(r0, s0), q), i1 = code_add64(acc[1], scale + 16, _mm512_unpackhi_epi16(r0, s0), q);
        i2 = code_add64(acc[2], scale + 32, _mm512_unpacklo_epi16(r1, s1), q), i3 = code_add64(acc[3], scale + 48, _mm512_unpackhi_epi16(r1, s1), q);
    } else {
        const __m512 hi = _mm512_set1_ps(q->hi);
        i0 = code64(acc[0], scale, hi), i1 = code64(acc[1], scale + 16, hi);
        i2 = code64(acc[2], scale + 32, hi), i3 = code64(acc[3], scale + 48, hi);
    }
    const __m512i zero = _mm512_set1_epi16((int16_t)q->zero), lo = _mm512_set1_epi8((int8_t)((int)q->lo + q->zero));
    const __m512i a = _mm512_adds_epi16(_mm512_packs_epi32(i0, i1), zero), b = _mm512_adds_epi16(_mm512_packs_epi32(i2, i3), zero);
    _mm512_storeu_si512((int8_t *)y + at, _mm512_max_epi8(_mm512_packs_epi16(a, b), lo));
}

#include "dwconv_s8_simd.h"
#undef W

/* --- up to 32 channels ------------------------------------------------------------------------------------------ */

#define W(name) name##32
typedef __m256i xv32, iv32;
enum { VC32 = 32, VA32 = 4, VT32 = 4 };

VROW __mmask32 first32(size_t n) { return n >= 32 ? 0xFFFFFFFFu : (1u << n) - 1; }
VROW __m256i x_load32(const int8_t *p, size_t n) {
    return _mm256_xor_si256(_mm256_maskz_loadu_epi8(first32(n), p), _mm256_set1_epi8(-128));
}
VROW __m256i i_load32(const int32_t *p, size_t i) { return _mm256_loadu_si256((const __m256i *)(const void *)(p + 8 * i)); }
VROW __m256i mac32(__m256i acc, __m256i x, const uint8_t *w) {
    return _mm256_dpbusd_epi32(acc, x, _mm256_loadu_si256((const __m256i *)(const void *)w));
}

VROW void group32(const __m256i *x, size_t rows, __m256i *out) {
    const __m256i b = x[rows > 1 ? 1 : 0], c = x[rows > 2 ? 2 : 0], d = x[rows > 3 ? 3 : rows > 2 ? 2 : 0];
    const __m256i ab0 = _mm256_unpacklo_epi8(x[0], b), ab1 = _mm256_unpackhi_epi8(x[0], b);
    const __m256i cd0 = rows > 2 ? _mm256_unpacklo_epi8(c, d) : ab0, cd1 = rows > 2 ? _mm256_unpackhi_epi8(c, d) : ab1;
    out[0] = _mm256_unpacklo_epi16(ab0, cd0), out[1] = _mm256_unpackhi_epi16(ab0, cd0);
    out[2] = _mm256_unpacklo_epi16(ab1, cd1), out[3] = _mm256_unpackhi_epi16(ab1, cd1);
}

VROW __m256i code32(__m256i acc, const float *scale, __m256 hi) {
    return _mm256_cvtps_epi32(_mm256_min_ps(_mm256_mul_ps(_mm256_cvtepi32_ps(acc), _mm256_loadu_ps(scale)), hi));
}
VROW __m256i code_add32(__m256i acc, const float *scale, __m256i residual, const mcc_requant *q) {
    __m256 y = _mm256_mul_ps(_mm256_cvtepi32_ps(acc), _mm256_loadu_ps(scale));
    const __m256 shifted = _mm256_cvtepi32_ps(_mm256_sub_epi32(residual, _mm256_set1_epi32(q->r_zero)));
    y = _mm256_add_ps(y, _mm256_mul_ps(shifted, _mm256_set1_ps(q->r_scale)));
    return _mm256_cvtps_epi32(_mm256_min_ps(_mm256_max_ps(y, _mm256_set1_ps(q->lo)), _mm256_set1_ps(q->hi)));
}

VROW void put32(const __m256i *acc, const float *scale, size_t n, void *y, size_t at, const int8_t *residual, const mcc_requant *q) {
    const __mmask32 some = first32(n);
    if (!q) {
        int32_t *to = (int32_t *)y + at;
        const __m256i a = _mm256_permute2x128_si256(acc[0], acc[1], 0x20), b = _mm256_permute2x128_si256(acc[2], acc[3], 0x20);
        const __m256i c = _mm256_permute2x128_si256(acc[0], acc[1], 0x31), d = _mm256_permute2x128_si256(acc[2], acc[3], 0x31);
        _mm256_mask_storeu_epi32(to, (__mmask8)some, a);
        _mm256_mask_storeu_epi32(to + 8, (__mmask8)(some >> 8), b);
        _mm256_mask_storeu_epi32(to + 16, (__mmask8)(some >> 16), c);
        _mm256_mask_storeu_epi32(to + 24, (__mmask8)(some >> 24), d);
        return;
    }
    __m256i i0, i1, i2, i3;
    if (residual) {
        const __m256i r = _mm256_maskz_loadu_epi8(some, residual), sign = _mm256_cmpgt_epi8(_mm256_setzero_si256(), r);
        const __m256i r0 = _mm256_unpacklo_epi8(r, sign), r1 = _mm256_unpackhi_epi8(r, sign);
        const __m256i s0 = _mm256_srai_epi16(r0, 15), s1 = _mm256_srai_epi16(r1, 15);
        i0 = code_add32(acc[0], scale, _mm256_unpacklo_epi16(r0, s0), q), i1 = code_add32(acc[1], scale + 8, _mm256_unpackhi_epi16(r0, s0), q);
        i2 = code_add32(acc[2], scale + 16, _mm256_unpacklo_epi16(r1, s1), q), i3 = code_add32(acc[3], scale + 24, _mm256_unpackhi_epi16(r1, s1), q);
    } else {
        const __m256 hi = _mm256_set1_ps(q->hi);
        i0 = code32(acc[0], scale, hi), i1 = code32(acc[1], scale + 8, hi);
        i2 = code32(acc[2], scale + 16, hi), i3 = code32(acc[3], scale + 24, hi);
    }
    const __m256i zero = _mm256_set1_epi16((int16_t)q->zero), lo = _mm256_set1_epi8((int8_t)((int)q->lo + q->zero));
    const __m256i a = _mm256_adds_epi16(_mm256_packs_epi32(i0, i1), zero), b = _mm256_adds_epi16(_mm256_packs_epi32(i2, i3), zero);
    _mm256_mask_storeu_epi8((int8_t *)y + at, some, _mm256_max_epi8(_mm256_packs_epi16(a, b), lo));
}

#include "dwconv_s8_simd.h"
#undef W

#define ROW(KH, KW, S)                                                                                                           \
    MCC_FN(avx512vnni) void mcc_dwconv_s8_##KH##x##KW##s##S##_avx512vnni(MCC_DWCONV_S8_ROW_ARGS) {                               \
        const uint8_t *block = weights;                                                                                          \
        const size_t groups = (KH + 3) / 4;                                                                                      \
        size_t c = 0;                                                                                                            \
        for (; c + 64 <= channels; c += 64, block += 64 * (8 + KW * groups * 4))                                                 \
            run64(KH, KW, S, in, pixels, c, 64, block, channels, y, residual, q);                                                \
        for (; c < channels; c += 32, block += 32 * (8 + KW * groups * 4))                                                       \
            run32(KH, KW, S, in, pixels, c, channels - c < 32 ? channels - c : 32, block, channels, y, residual, q);             \
    }
ROW(3, 3, 1)
ROW(3, 3, 2)
ROW(5, 5, 1)
ROW(5, 5, 2)
#endif
