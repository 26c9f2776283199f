/* lut_f32_neon.c: TBL looks bytes up in 64 bytes, which is 16 floats: a code becomes the four bytes 4i .. 4i + 3. Books of up
 * to 4 entries take one register of bytes, of 8 two. */
#if defined(__aarch64__)
#define MCC_SIMD neon
#include "../core/simd.h"
#include "lut.h"

typedef uint8x16x4_t book_t;
VFN book_t book_of(int bits, const float *book) {
    const uint8_t *p = (const uint8_t *)(const void *)book;
    (void)bits;
    return (book_t){{vld1q_u8(p), vld1q_u8(p + 16), vld1q_u8(p + 32), vld1q_u8(p + 48)}};
}
VFN vf look(int bits, const book_t *b, vi word) {
    const uint32x4_t code = vandq_u32(vreinterpretq_u32_s32(word), vdupq_n_u32((1u << bits) - 1));
    const uint8x16_t bytes = vreinterpretq_u8_u32(vmlaq_n_u32(vdupq_n_u32(0x03020100u), code, 0x04040404u));
    if (bits <= 2) return vreinterpretq_f32_u8(vqtbl1q_u8(b->val[0], bytes));
    if (bits == 3) return vreinterpretq_f32_u8(vqtbl2q_u8((uint8x16x2_t){{b->val[0], b->val[1]}}, bytes));
    return vreinterpretq_f32_u8(vqtbl4q_u8(*b, bytes));
}
VFN vf take_book(const float *book, const uint8_t *p) {
    const float four[4] = {book[p[0]], book[p[1]], book[p[2]], book[p[3]]};
    return vld1q_f32(four);
}

/* Single vectors are the end of a panel; and stores keep what is expanded waiting, not its loop. */
#define GEMV_STEPS(per, wide) (!(wide) ? 2 : (per) > 10 ? 8 : (per))
#define EXPAND_STEPS(per) ((per) % 4 ? 5 : 4)
#include "lut_f32_simd.h"
#endif
