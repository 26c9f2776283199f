/* qsparse_s8_neondot.c: a block is one SDOT for 4 rows. */
#if defined(__aarch64__)
#include <arm_neon.h>

#include "../core/isa.h"
#include "qsparse.h"

#define INLINE MCC_FN(neondot) static inline __attribute__((always_inline))
enum { LANES = 4, X_BYTES = 4 };
typedef int32x4_t vector;
typedef int8x16_t weights;

INLINE vector start(int32_t bias) { return vdupq_n_s32(bias); }
INLINE weights weights_of(const int32_t *value) { return vreinterpretq_s8_s32(vld1q_s32(value)); }
#define BLOCK(b, w, x, step, sum) sum = vdotq_laneq_s32(sum, vld1q_s8((const int8_t *)(x)), w, b);
INLINE void put(int32_t *y, vector a) { vst1q_s32(y, a); }

#include "qsparse_rows.h"
QSPARSE_KERNEL(neondot)
#endif
