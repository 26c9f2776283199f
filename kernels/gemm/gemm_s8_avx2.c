/* gemm_s8_avx2.c: int8 gemm on VPMADDWD: both sides widened to int16, two k at a time. (VPMADDUBSW would be twice as
 * fast and can saturate; the results here are exact.) Rows are widened by blocks on the stack, weights as loaded. */
#if defined(__x86_64__)
#include <immintrin.h>
#include <string.h>

#include "../core/isa.h"
#include "qgemm.h"
#include "rows.h"

#define FN MCC_FN(avx2)
#define INLINE FN static inline __attribute__((always_inline))
#define ARGS                                                                                                          \
    size_t m, size_t n, size_t k, size_t taps, const int8_t *const *rows, const void *panel, void *c, size_t c_stride, \
        const int8_t *residual, const mcc_requant *q, size_t ahead

#define BLOCK 256 /* k of one stack block: 6 rows are 3 KB */

/* `count` int8 to int16, zero-padded to a multiple of 16. */
INLINE void widen(int16_t *out, const int8_t *p, size_t count) {
    size_t d = 0;
    for (; d + 16 <= count; d += 16)
        _mm256_storeu_si256((__m256i *)(void *)(out + d),
                            _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(const void *)(p + d))));
    if (d < count) {
        int8_t last[16] = {0};
        memcpy(last, p + d, count - d);
        _mm256_storeu_si256((__m256i *)(void *)(out + d),
                            _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(const void *)last)));
    }
}

INLINE __m256i pair(const int16_t *p) {
    int32_t x;
    memcpy(&x, p, 4);
    return _mm256_set1_epi32(x);
}

INLINE void put(void *c, size_t at, const int8_t *residual, __m256i acc, const float *scale, size_t n, const mcc_requant *q) {
    n = n < 8 ? n : 8;
    if (!q) {
        const __m256i some = _mm256_cmpgt_epi32(_mm256_set1_epi32((int)n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
        _mm256_maskstore_epi32((int32_t *)c + at, some, acc);
        return;
    }
    __m256 y = _mm256_mul_ps(_mm256_cvtepi32_ps(acc), _mm256_loadu_ps(scale));
    int8_t code[8];
    if (residual) {
        memcpy(code, residual + at, n);
        memset(code + n, 0, 8 - n);
        const __m256i r = _mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)(const void *)code));
        const __m256 shifted = _mm256_cvtepi32_ps(_mm256_sub_epi32(r, _mm256_set1_epi32(q->r_zero)));
        y = _mm256_add_ps(y, _mm256_mul_ps(shifted, _mm256_set1_ps(q->r_scale)));
    }
    y = _mm256_min_ps(_mm256_max_ps(y, _mm256_set1_ps(q->lo)), _mm256_set1_ps(q->hi));
    const __m256i z = _mm256_add_epi32(_mm256_cvtps_epi32(y), _mm256_set1_epi32(q->zero));
    const __m128i s16 = _mm_packs_epi32(_mm256_castsi256_si128(z), _mm256_extracti128_si256(z, 1));
    _mm_storel_epi64((__m128i *)(void *)code, _mm_packs_epi16(s16, s16));
    memcpy((int8_t *)c + at, code, n);
}

#define INIT1(i) __m256i u##i = b0;
#define INIT2(i) __m256i u##i = b0, v##i = b1;
#define WIDEN(i) widen(a[i], rows[i] + at, run);
#define STEP1(i) { const __m256i x = pair(a[i] + d); u##i = _mm256_add_epi32(u##i, _mm256_madd_epi16(x, w0)); }
#define STEP2(i)                                                       \
    {                                                                  \
        const __m256i x = pair(a[i] + d);                              \
        u##i = _mm256_add_epi32(u##i, _mm256_madd_epi16(x, w0));       \
        v##i = _mm256_add_epi32(v##i, _mm256_madd_epi16(x, w1));       \
    }
#define WIDE(p) _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(const void *)(p)))
#define LOAD1 const __m256i w0 = WIDE(w);
#define LOAD2 LOAD1 const __m256i w1 = WIDE(w + 16);
#define BIAS1 const __m256i b0 = _mm256_loadu_si256((const __m256i *)(const void *)bias);
#define BIAS2 BIAS1 const __m256i b1 = _mm256_loadu_si256((const __m256i *)(const void *)(bias + 8));
#define PUT1(i) if (i < m) put(c, i * c_stride, residual, u##i, scale, n, q);
#define PUT2(i)                                                                              \
    if (i < m) {                                                                             \
        put(c, i * c_stride, residual, u##i, scale, n, q);                                   \
        if (n > 8) put(c, i * c_stride + 8, residual, v##i, scale + 8, n - 8, q);            \
    }

#define TILE(MR, NR, V)                                                                      \
    FN void mcc_gemm_s8_##MR##x##NR##c2_avx2(ARGS) {                                         \
        (void)ahead;                                                                         \
        const int32_t *bias = panel;                                                         \
        const float *scale = (const float *)(bias + NR);                                     \
        const int8_t *w = (const int8_t *)(scale + NR);                                      \
        int16_t a[MR][BLOCK];                                                                \
        BIAS##V                                                                              \
        GEMM_ROWS(MR, INIT##V)                                                               \
        for (; taps; taps--, rows += MR) {                                                   \
            for (size_t at = 0; at < k; at += BLOCK) {                                       \
                const size_t run = k - at < BLOCK ? k - at : BLOCK;                          \
                GEMM_ROWS(MR, WIDEN)                                                         \
                for (size_t d = 0; d < run; d += 2, w += 2 * NR) {                           \
                    LOAD##V                                                                  \
                    GEMM_ROWS(MR, STEP##V)                                                   \
                }                                                                            \
            }                                                                                \
        }                                                                                    \
        GEMM_ROWS(MR, PUT##V)                                                                \
    }

TILE(6, 16, 2)
TILE(3, 16, 2)
TILE(1, 16, 2)
TILE(6, 8, 1)
TILE(1, 8, 1)
#endif
