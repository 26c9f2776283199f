/* move_neon.c: the transpose of 4x4 tiles of 32 bits; what is left over goes element by element. */
#if defined(__aarch64__)
#include <arm_neon.h>

#include "move.h"

void mcc_move_x32_transpose_neon(size_t rows, size_t columns, const void *from, size_t xs, void *to, size_t ys) {
    const uint32_t *x = from;
    uint32_t *y = to;
    const size_t r4 = rows & ~(size_t)3, c4 = columns & ~(size_t)3;
    for (size_t i = 0; i < r4; i += 4)
        for (size_t j = 0; j < c4; j += 4) {
            const uint32_t *p = x + i + j * xs;
            const uint32x4x2_t a = vtrnq_u32(vld1q_u32(p), vld1q_u32(p + xs));
            const uint32x4x2_t b = vtrnq_u32(vld1q_u32(p + 2 * xs), vld1q_u32(p + 3 * xs));
            uint32_t *q = y + i * ys + j;
            vst1q_u32(q, vcombine_u32(vget_low_u32(a.val[0]), vget_low_u32(b.val[0])));
            vst1q_u32(q + ys, vcombine_u32(vget_low_u32(a.val[1]), vget_low_u32(b.val[1])));
            vst1q_u32(q + 2 * ys, vcombine_u32(vget_high_u32(a.val[0]), vget_high_u32(b.val[0])));
            vst1q_u32(q + 3 * ys, vcombine_u32(vget_high_u32(a.val[1]), vget_high_u32(b.val[1])));
        }
    for (size_t i = 0; i < rows; i++)
        for (size_t j = i < r4 ? c4 : 0; j < columns; j++) y[i * ys + j] = x[i + j * xs];
}
#endif
