/* qsparse_s8_neondot.c: a block is one SDOT for 4 rows. */
#if defined(__aarch64__)
#include "../core/neon.h"

#include "../core/isa.h"
#include "qsparse.h"

#define INLINE MCC_FN(neondot) static inline __attribute__((always_inline))
enum { LANES = 4, X_BYTES = 4 };
typedef int32x4_t vector;
typedef int8x16_t weights;

INLINE vector start(int32_t bias) { return vdupq_n_s32(bias); }
INLINE weights weights_of(const int32_t *value) { return vreinterpretq_s8_s32(vld1q_s32(value)); }
INLINE void put(int32_t *y, vector a) { vst1q_s32(y, a); }

#define VECTORS(n) int8x16x##n##_t
#define LOAD(n) LOAD##n
#define LOAD1 vld1q_s8
#define LOAD2 vld1q_s8_x2
#define LOAD4 vld1q_s8_x4
#define LANE_STEP 16
#define USE(i, x, b) a##i = vdotq_laneq_s32(a##i, x, w, b);
#define QSPARSE_BLOCKS(C)                                                                                      \
    NEON_PIECES(C, 0, (const int8_t *)x0) NEON_PIECES(C, 1, (const int8_t *)x1) NEON_PIECES(C, 2, (const int8_t *)x2) \
    NEON_PIECES(C, 3, (const int8_t *)x3)
#include "neon_pieces.h"
#define QSPARSE_COUNTS(X) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8)
#include "qsparse_rows.h"
QSPARSE_KERNEL(neondot)
#endif
