/* lut_f32_simd.h: the walk that all vector kernels share. A file defines MCC_SIMD, includes core/simd.h, and defines
 *     book_t                 the palette in registers
 *     book_<bits>(book)      loads it
 *     take_<bits>(b, index, at)   VN weights from element `at` on (a multiple of VN)
 * for bits 1, 2, 4 and 8 before it includes this. */
#define EXPAND(bits)                                                                  \
    {                                                                                 \
        const book_t b = book_##bits(book);                                           \
        for (size_t i = 0; i < count; i += VN) v_store(out + i, take_##bits(&b, index, i)); \
    }

/* Four k in flight, so that a sum does not wait for the one before. */
#define GEMV(bits)                                                                                        \
    {                                                                                                     \
        const book_t b = book_##bits(book);                                                               \
        for (size_t j = 0; j < nr; j += VN) {                                                             \
            vf s0 = v_load(bias + j), s1 = v_set(0), s2 = s1, s3 = s1;                                    \
            size_t q = 0;                                                                                 \
            for (; q + 4 <= depth; q += 4) {                                                              \
                s0 = v_fma(v_set(x[q]), take_##bits(&b, index, q * nr + j), s0);                          \
                s1 = v_fma(v_set(x[q + 1]), take_##bits(&b, index, (q + 1) * nr + j), s1);                \
                s2 = v_fma(v_set(x[q + 2]), take_##bits(&b, index, (q + 2) * nr + j), s2);                \
                s3 = v_fma(v_set(x[q + 3]), take_##bits(&b, index, (q + 3) * nr + j), s3);                \
            }                                                                                             \
            for (; q < depth; q++) s0 = v_fma(v_set(x[q]), take_##bits(&b, index, q * nr + j), s0);       \
            v_store(y + j, v_add(v_add(s0, s1), v_add(s2, s3)));                                          \
        }                                                                                                 \
    }

#define LUT_NAME_(what, isa) mcc_lut_f32_##what##_##isa
#define LUT_NAME(what, isa) LUT_NAME_(what, isa)

VKERNEL void LUT_NAME(expand, MCC_SIMD)(unsigned bits, size_t count, const uint8_t *index, const float *book, float *out) {
    if (bits == 1) EXPAND(1)
    else if (bits == 2) EXPAND(2)
    else if (bits == 4) EXPAND(4)
    else EXPAND(8)
}

VKERNEL void LUT_NAME(gemv, MCC_SIMD)(unsigned bits, size_t depth, size_t nr, const float *x, const uint8_t *index,
                                      const float *book, const float *bias, float *y) {
    if (bits == 1) GEMV(1)
    else if (bits == 2) GEMV(2)
    else if (bits == 4) GEMV(4)
    else GEMV(8)
}
