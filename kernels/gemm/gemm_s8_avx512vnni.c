/* gemm_s8_avx512vnni.c: int8 gemm on VPDPBUSD, which multiplies uint8 by int8, four k at a time. Rows come as uint8 =
 * int8 + 128 (gemm.h), so that a step is nothing but broadcast loads and products: 24 to 28 accumulators, the weights of
 * the step in registers. */
#if defined(__x86_64__)
#include "gemm_s8_avx512.h"
#include "rows.h"

#define FN MCC_FN(avx512vnni)
#define INLINE FN static inline __attribute__((always_inline))
#define ARGS                                                                                                          \
    size_t m, size_t n, size_t k, size_t taps, const int8_t *const *rows, const void *panel, void *c, size_t c_stride, \
        const int8_t *residual, const mcc_requant *q, size_t ahead

INLINE __m512i four(const int8_t *p) {
    int32_t x;
    memcpy(&x, p, 4);
    return _mm512_set1_epi32(x);
}

#define POINT(i) const int8_t *const p##i = rows[i];
#define BIAS(v) const __m512i b##v = _mm512_loadu_si512(bias + 16 * v);
#define LOAD(v) const __m512i w##v = _mm512_loadu_si512(w + 64 * v);
#define DOT(s, i, v) s##i = _mm512_dpbusd_epi32(s##i, x, w##v);
#define INIT1(i) __m512i a##i = b0;
#define INIT2(i) INIT1(i) __m512i e##i = b1;
#define INIT3(i) INIT2(i) __m512i f##i = b2;
#define INIT4(i) INIT3(i) __m512i g##i = b3;
#define DOT1(i) DOT(a, i, 0)
#define DOT2(i) DOT1(i) DOT(e, i, 1)
#define DOT3(i) DOT2(i) DOT(f, i, 2)
#define DOT4(i) DOT3(i) DOT(g, i, 3)
#define STEP1(i) { const __m512i x = four(p##i + d); DOT1(i) }
#define STEP2(i) { const __m512i x = four(p##i + d); DOT2(i) }
#define STEP3(i) { const __m512i x = four(p##i + d); DOT3(i) }
#define STEP4(i) { const __m512i x = four(p##i + d); DOT4(i) }
#define ALL1(X) X(0)
#define ALL2(X) ALL1(X) X(1)
#define ALL3(X) ALL2(X) X(2)
#define ALL4(X) ALL3(X) X(3)
#define PUT1(i) PUT(i, 1, a##i, a##i, a##i, a##i)
#define PUT2(i) PUT(i, 2, a##i, e##i, a##i, a##i)
#define PUT3(i) PUT(i, 3, a##i, e##i, f##i, a##i)
#define PUT4(i) PUT(i, 4, a##i, e##i, f##i, g##i)
#define PUT(i, V, ...) if (i < m) put(&finish, V, out + i * c_stride, NULL, __VA_ARGS__);
#define ADD1(i) ADD(i, 1, a##i, a##i, a##i, a##i)
#define ADD2(i) ADD(i, 2, a##i, e##i, a##i, a##i)
#define ADD3(i) ADD(i, 3, a##i, e##i, f##i, a##i)
#define ADD4(i) ADD(i, 4, a##i, e##i, f##i, g##i)
#define ADD(i, V, ...) if (i < m) put(&finish, V, out + i * c_stride, residual + i * c_stride, __VA_ARGS__);
#define RAW1(i) RAW(i, 1, a##i, a##i, a##i, a##i)
#define RAW2(i) RAW(i, 2, a##i, e##i, a##i, a##i)
#define RAW3(i) RAW(i, 3, a##i, e##i, f##i, a##i)
#define RAW4(i) RAW(i, 4, a##i, e##i, f##i, g##i)
#define RAW(i, V, ...) if (i < m) put_raw((int32_t *)c + i * c_stride, n, V, __VA_ARGS__);

/* Every second step asks for one line of what comes `ahead`: a panel that is new to the second-level cache arrives while
 * the last one is in use. (A line in every step takes the line fill buffers that the weights themselves need.) */
#define TILE(MR, NR, V)                                                                \
    FN void mcc_gemm_s8_##MR##x##NR##c4_avx512vnni(ARGS) {                             \
        const int32_t *bias = panel;                                                   \
        const float *scale = (const float *)(bias + NR);                               \
        const int8_t *w = (const int8_t *)(scale + NR);                                \
        ALL##V(BIAS)                                                                   \
        GEMM_ROWS(MR, INIT##V)                                                         \
        for (; taps; taps--, rows += MR) {                                             \
            GEMM_ROWS(MR, POINT)                                                       \
            for (size_t d = 0; d < k; d += 4, w += 4 * NR) {                           \
                if (d & 4) _mm_prefetch((const char *)w + ahead, _MM_HINT_T1);         \
                ALL##V(LOAD)                                                           \
                GEMM_ROWS(MR, STEP##V)                                                 \
            }                                                                          \
        }                                                                              \
        if (!q) {                                                                      \
            GEMM_ROWS(MR, RAW##V)                                                      \
            return;                                                                    \
        }                                                                              \
        int8_t *out = c;                                                               \
        const finish finish = finish_of(q, scale, n, V);                               \
        if (residual) {                                                                \
            GEMM_ROWS(MR, ADD##V)                                                      \
        } else {                                                                       \
            GEMM_ROWS(MR, PUT##V)                                                      \
        }                                                                              \
    }

TILE(7, 64, 4)
TILE(6, 64, 4)
TILE(4, 64, 4)
TILE(2, 64, 4)
TILE(1, 64, 4)
TILE(9, 48, 3)
TILE(8, 48, 3)
TILE(6, 48, 3)
TILE(4, 48, 3)
TILE(2, 48, 3)
TILE(1, 48, 3)
TILE(14, 32, 2)
TILE(12, 32, 2)
TILE(10, 32, 2)
TILE(8, 32, 2)
TILE(6, 32, 2)
TILE(4, 32, 2)
TILE(2, 32, 2)
TILE(1, 32, 2)
TILE(12, 16, 1)
TILE(8, 16, 1)
TILE(4, 16, 1)
TILE(2, 16, 1)
TILE(1, 16, 1)
#endif
