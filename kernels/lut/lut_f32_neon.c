/* lut_f32_neon.c: TBL looks bytes up in 64 bytes, which is 16 floats: an index becomes the four bytes 4i .. 4i + 3. */
#if defined(__aarch64__)
#define MCC_SIMD neon
#include "../core/simd.h"
#include "lut.h"

typedef struct book_t { uint8x16x4_t bytes; const float *far; } book_t;

VFN book_t book_4(const float *book) {
    const uint8_t *p = (const uint8_t *)(const void *)book;
    return (book_t){{{vld1q_u8(p), vld1q_u8(p + 16), vld1q_u8(p + 32), vld1q_u8(p + 48)}}, book};
}
VFN book_t book_1(const float *book) { return book_4(book); }
VFN book_t book_2(const float *book) { return book_4(book); }
VFN book_t book_8(const float *book) { return book_4(book); }

/* The four codes of `width` bits at bit `shift` of word. */
VFN vf look_up(const book_t *b, uint32_t word, int shift, int width) {
    const int32_t by[4] = {-shift, -shift - width, -shift - 2 * width, -shift - 3 * width};
    const uint32x4_t code = vandq_u32(vshlq_u32(vdupq_n_u32(word), vld1q_s32(by)), vdupq_n_u32((1u << width) - 1));
    const uint32x4_t bytes = vmlaq_n_u32(vdupq_n_u32(0x03020100u), code, 0x04040404u);
    return vreinterpretq_f32_u8(vqtbl4q_u8(b->bytes, vreinterpretq_u8_u32(bytes)));
}

VFN vf take_1(const book_t *b, const uint8_t *index, size_t at) { return look_up(b, index[at / 8], at % 8 ? 4 : 0, 1); }
VFN vf take_2(const book_t *b, const uint8_t *index, size_t at) { return look_up(b, index[at / 4], 0, 2); }
VFN vf take_4(const book_t *b, const uint8_t *index, size_t at) {
    return look_up(b, (uint32_t)(index[at / 2] | index[at / 2 + 1] << 8), 0, 4);
}
VFN vf take_8(const book_t *b, const uint8_t *index, size_t at) {
    const float four[4] = {b->far[index[at]], b->far[index[at + 1]], b->far[index[at + 2]], b->far[index[at + 3]]};
    return vld1q_f32(four);
}

#include "lut_f32_simd.h"
#endif
