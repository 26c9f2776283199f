/* gemm_s8_avx512vnni.c: int8 gemm on VPDPBUSD, which multiplies uint8 by int8, four k at a time. Rows are read as
 * uint8 = int8 + 128: the flip of the sign bit rides on the broadcast load (vpxord with an embedded broadcast). */
#if defined(__x86_64__)
#include <immintrin.h>
#include <string.h>

#include "../core/isa.h"
#include "qgemm.h"
#include "rows.h"

#define FN MCC_FN(avx512vnni)
#define INLINE FN static inline __attribute__((always_inline))
#define ARGS                                                                                                          \
    size_t m, size_t n, size_t k, size_t taps, const int8_t *const *rows, const void *panel, void *c, size_t c_stride, \
        const int8_t *residual, const mcc_requant *q

INLINE __m512i four(const int8_t *p, __m512i flip) {
    int32_t x;
    memcpy(&x, p, 4);
    return _mm512_xor_si512(_mm512_set1_epi32(x), flip);
}

/* The last k & 3 bytes; what is past them meets weights of 0. */
INLINE __m512i rest(const int8_t *p, size_t count, __m512i flip) {
    uint32_t x = 0;
    for (size_t i = 0; i < count; i++) x |= (uint32_t)(uint8_t)p[i] << (8 * i);
    return _mm512_xor_si512(_mm512_set1_epi32((int32_t)x), flip);
}

INLINE void put(void *c, size_t at, const int8_t *residual, __m512i acc, const float *scale, size_t n, const mcc_requant *q) {
    const __mmask16 some = (__mmask16)(n >= 16 ? 0xFFFF : (1u << n) - 1);
    if (!q) {
        _mm512_mask_storeu_epi32((int32_t *)c + at, some, acc);
        return;
    }
    __m512 y = _mm512_mul_ps(_mm512_cvtepi32_ps(acc), _mm512_loadu_ps(scale));
    if (residual) {
        const __m512i r = _mm512_cvtepi8_epi32(_mm_maskz_loadu_epi8(some, residual + at));
        const __m512 shifted = _mm512_cvtepi32_ps(_mm512_sub_epi32(r, _mm512_set1_epi32(q->r_zero)));
        y = _mm512_add_ps(y, _mm512_mul_ps(shifted, _mm512_set1_ps(q->r_scale)));
    }
    y = _mm512_min_ps(_mm512_max_ps(y, _mm512_set1_ps(q->lo)), _mm512_set1_ps(q->hi));
    const __m512i code = _mm512_add_epi32(_mm512_cvtps_epi32(y), _mm512_set1_epi32(q->zero));
    _mm_mask_storeu_epi8((int8_t *)c + at, some, _mm512_cvtepi32_epi8(code));
}

#define POINT(i) const int8_t *const p##i = rows[i];
#define INIT1(i) __m512i a##i = b0;
#define INIT2(i) __m512i a##i = b0, e##i = b1;
#define INIT4(i) __m512i a##i = b0, e##i = b1, f##i = b2, g##i = b3;
#define DOT1(i, x) a##i = _mm512_dpbusd_epi32(a##i, x, w0);
#define DOT2(i, x) DOT1(i, x) e##i = _mm512_dpbusd_epi32(e##i, x, w1);
#define DOT4(i, x) DOT2(i, x) f##i = _mm512_dpbusd_epi32(f##i, x, w2); g##i = _mm512_dpbusd_epi32(g##i, x, w3);
#define STEP1(i) { const __m512i x = four(p##i + d, flip); DOT1(i, x) }
#define STEP2(i) { const __m512i x = four(p##i + d, flip); DOT2(i, x) }
#define STEP4(i) { const __m512i x = four(p##i + d, flip); DOT4(i, x) }
#define REST1(i) { const __m512i x = rest(p##i + d, k - d, flip); DOT1(i, x) }
#define REST2(i) { const __m512i x = rest(p##i + d, k - d, flip); DOT2(i, x) }
#define REST4(i) { const __m512i x = rest(p##i + d, k - d, flip); DOT4(i, x) }
#define LOAD1 const __m512i w0 = _mm512_loadu_si512(w);
#define LOAD2 LOAD1 const __m512i w1 = _mm512_loadu_si512(w + 64);
#define LOAD4 LOAD2 const __m512i w2 = _mm512_loadu_si512(w + 128), w3 = _mm512_loadu_si512(w + 192);
#define BIAS1 const __m512i b0 = _mm512_loadu_si512(bias);
#define BIAS2 BIAS1 const __m512i b1 = _mm512_loadu_si512(bias + 16);
#define BIAS4 BIAS2 const __m512i b2 = _mm512_loadu_si512(bias + 32), b3 = _mm512_loadu_si512(bias + 48);
#define PUT1(i) if (i < m) { put(c, i * c_stride, residual, a##i, scale, n, q); }
#define PUT2(i)                                                                                   \
    if (i < m) {                                                                                  \
        put(c, i * c_stride, residual, a##i, scale, n, q);                                        \
        if (n > 16) put(c, i * c_stride + 16, residual, e##i, scale + 16, n - 16, q);             \
    }
#define PUT4(i)                                                                                   \
    PUT2(i)                                                                                       \
    if (i < m) {                                                                                  \
        if (n > 32) put(c, i * c_stride + 32, residual, f##i, scale + 32, n - 32, q);             \
        if (n > 48) put(c, i * c_stride + 48, residual, g##i, scale + 48, n - 48, q);             \
    }

#define TILE(MR, NR, V)                                                            \
    FN void mcc_gemm_s8_##MR##x##NR##c4_avx512vnni(ARGS) {                         \
        const int32_t *bias = panel;                                               \
        const float *scale = (const float *)(bias + NR);                           \
        const int8_t *w = (const int8_t *)(scale + NR);                            \
        const __m512i flip = _mm512_set1_epi8((char)0x80);                         \
        BIAS##V                                                                    \
        GEMM_ROWS(MR, INIT##V)                                                     \
        for (; taps; taps--, rows += MR) {                                         \
            GEMM_ROWS(MR, POINT)                                                   \
            size_t d = 0;                                                          \
            for (; d + 4 <= k; d += 4, w += 4 * NR) {                              \
                LOAD##V                                                            \
                GEMM_ROWS(MR, STEP##V)                                             \
            }                                                                      \
            if (d < k) {                                                           \
                LOAD##V                                                            \
                GEMM_ROWS(MR, REST##V)                                             \
                w += 4 * NR;                                                       \
            }                                                                      \
        }                                                                          \
        GEMM_ROWS(MR, PUT##V)                                                      \
    }

TILE(6, 64, 4)
TILE(3, 64, 4)
TILE(1, 64, 4)
TILE(12, 32, 2)
TILE(6, 32, 2)
TILE(3, 32, 2)
TILE(1, 32, 2)
TILE(12, 16, 1)
TILE(6, 16, 1)
TILE(1, 16, 1)
#endif
