/* gemm_s8_avx512vnni.c: int8 gemm on VPDPBUSD, which multiplies uint8 by int8, four k at a time. Rows come as uint8 =
 * int8 + 128 (gemm.h), so that a step is nothing but broadcast loads and products: 24 to 28 accumulators, the weights of
 * the step in registers.
 *
 * Sums become bytes by VPACKSSDW and VPACKSSWB, which work within 128-bit lanes. The columns of a panel stand in the
 * order that makes the packed bytes right (mcc_gemm_s8_column): of V vectors, lane l of vector v is 4 columns from
 * 4 * (V * l + v). */
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
        const int8_t *residual, const mcc_requant *q, size_t ahead

INLINE __m512i four(const int8_t *p) {
    int32_t x;
    memcpy(&x, p, 4);
    return _mm512_set1_epi32(x);
}

/* How sums become bytes: both bounds wait for them, since |t| < 2^31 and saturation keeps the order. */
typedef struct finish {
    const float *scale;
    __m512 r_scale, r_less;   /* of residuals: see `residuals` */
    __m512i zero, lo, hi;
    __m512i compress, expand; /* int32 of V-wide lanes to the front, and back */
    __mmask64 some;
} finish;

INLINE finish finish_of(const mcc_requant *q, const float *scale, size_t n, int V) {
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

INLINE __m512 addend(const finish *f, __m512i bits) {
    return _mm512_mul_ps(_mm512_sub_ps(_mm512_castsi512_ps(bits), f->r_less), f->r_scale);
}

INLINE addends residuals(const finish *f, int V, const int8_t *residual) {
    __m512i r = _mm512_xor_si512(_mm512_maskz_loadu_epi8(f->some, residual), _mm512_set1_epi8((char)0x80));
    if (V < 4) r = _mm512_permutexvar_epi32(f->expand, r);
    const __m512i none = _mm512_setzero_si512(), top = _mm512_set1_epi16(0x4B00);
    const __m512i low = _mm512_unpacklo_epi8(r, none), high = _mm512_unpackhi_epi8(r, none);
    return (addends){{addend(f, _mm512_unpacklo_epi16(low, top)), addend(f, _mm512_unpackhi_epi16(low, top)),
                      addend(f, _mm512_unpacklo_epi16(high, top)), addend(f, _mm512_unpackhi_epi16(high, top))}};
}

/* Vector v before `zero` is added. */
INLINE __m512i code(const finish *f, int v, __m512i acc, const addends *add) {
    const __m512 t = _mm512_mul_ps(_mm512_cvtepi32_ps(acc), _mm512_loadu_ps(f->scale + 16 * v));
    return _mm512_cvtps_epi32(add ? _mm512_add_ps(t, add->v[v]) : t);
}

/* One row of V vectors. */
INLINE void put(const finish *f, int V, int8_t *c, const int8_t *residual, __m512i a0, __m512i a1, __m512i a2, __m512i a3) {
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
INLINE void spread(int32_t *c, int V, int v, __m512i a) {
    _mm_storeu_si128((__m128i *)(void *)(c + 4 * v), _mm512_castsi512_si128(a));
    _mm_storeu_si128((__m128i *)(void *)(c + 4 * (V + v)), _mm512_extracti32x4_epi32(a, 1));
    _mm_storeu_si128((__m128i *)(void *)(c + 4 * (2 * V + v)), _mm512_extracti32x4_epi32(a, 2));
    _mm_storeu_si128((__m128i *)(void *)(c + 4 * (3 * V + v)), _mm512_extracti32x4_epi32(a, 3));
}

/* The same for four vectors: their lanes transposed. */
INLINE void spread4(int32_t *c, __m512i a0, __m512i a1, __m512i a2, __m512i a3) {
    const __m512i b0 = _mm512_shuffle_i32x4(a0, a1, 0x44), b1 = _mm512_shuffle_i32x4(a0, a1, 0xEE);
    const __m512i b2 = _mm512_shuffle_i32x4(a2, a3, 0x44), b3 = _mm512_shuffle_i32x4(a2, a3, 0xEE);
    _mm512_storeu_si512(c, _mm512_shuffle_i32x4(b0, b2, 0x88));
    _mm512_storeu_si512(c + 16, _mm512_shuffle_i32x4(b0, b2, 0xDD));
    _mm512_storeu_si512(c + 32, _mm512_shuffle_i32x4(b1, b3, 0x88));
    _mm512_storeu_si512(c + 48, _mm512_shuffle_i32x4(b1, b3, 0xDD));
}

/* The sums of a row as they are. */
INLINE void put_raw(int32_t *c, size_t n, int V, __m512i a0, __m512i a1, __m512i a2, __m512i a3) {
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
