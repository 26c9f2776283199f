/* move_neon.c: the transpose of 4x4 tiles of 32 bits, and interleaving stores; what is left over goes element by element. */
#if defined(__aarch64__)
#include "../core/neon.h"

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

#define INTERLEAVED(bits, lanes, load, pair) \
    void mcc_move_x##bits##_interleave_neon(size_t rows, size_t n, const void *a_, size_t a_stride, const void *b_, size_t b_stride, \
                                            void *y_, size_t y_stride) { \
        for (size_t r = 0, i; r < rows; r++) { \
            const uint##bits##_t *a = (const uint##bits##_t *)a_ + r * a_stride, *b = (const uint##bits##_t *)b_ + r * b_stride; \
            uint##bits##_t *y = (uint##bits##_t *)y_ + r * y_stride; \
            for (i = 0; i + lanes <= n; i += lanes) pair(y + 2 * i, ((uint##bits##x##lanes##x2_t){{load(a + i), load(b + i)}})); \
            for (; i < n; i++) y[2 * i] = a[i], y[2 * i + 1] = b[i]; \
        } \
    }
INTERLEAVED(32, 4, vld1q_u32, vst2q_u32)
INTERLEAVED(8, 16, vld1q_u8, vst2q_u8)
#endif
