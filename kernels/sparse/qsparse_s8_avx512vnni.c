/* qsparse_s8_avx512vnni.c: a block is one VPDPBUSD for 16 rows. */
#if defined(__x86_64__)
#include <immintrin.h>

#include "../core/isa.h"
#include "qsparse.h"

#define INLINE MCC_FN(avx512vnni) static inline __attribute__((always_inline))
enum { LANES = 16, X_BYTES = 4 };
typedef __m512i vector, weights;

INLINE vector start(int32_t bias) { return _mm512_set1_epi32(bias); }
/* One load for all four: loads are what bounds this. */
INLINE weights weights_of(const int32_t *value) { return _mm512_broadcast_i32x4(_mm_loadu_si128((const __m128i *)(const void *)value)); }
#define BLOCK(b, w, x, step, sum) sum = _mm512_dpbusd_epi32(sum, _mm512_loadu_si512(x), _mm512_shuffle_epi32(w, (b) * 0x55));
INLINE void put(int32_t *y, vector a) { _mm512_storeu_si512(y, a); }

/* Two sums of each vector: one would wait for itself. */
#define MORE(i) vector b##i = start(0);
#define FIRST(i) BLOCK(0, w, x0 + 64 * (i), step, a##i)
#define SECOND(i) BLOCK(1, w, x1 + 64 * (i), step, b##i)
#define THIRD(i) BLOCK(2, w, x2 + 64 * (i), step, a##i)
#define FOURTH(i) BLOCK(3, w, x3 + 64 * (i), step, b##i)
#define JOIN(i) a##i = _mm512_add_epi32(a##i, b##i);
#define QSPARSE_BEGIN(C) GEMM_ROWS(C, MORE)
#define QSPARSE_BLOCKS(C) GEMM_ROWS(C, FIRST) GEMM_ROWS(C, SECOND) GEMM_ROWS(C, THIRD) GEMM_ROWS(C, FOURTH)
#define QSPARSE_END(C) GEMM_ROWS(C, JOIN)
#include "qsparse_rows.h"
QSPARSE_KERNEL(avx512vnni)
#endif
