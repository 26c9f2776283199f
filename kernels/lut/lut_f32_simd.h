/* lut_f32_simd.h: the walk that all vector kernels share. A file defines MCC_SIMD, includes core/simd.h, and defines
 *     book_t, book_of(bits, book)   the palette of up to 4 bits in registers
 *     look(bits, b, word)           VN weights by the low bits of VN words
 *     take_book(book, p)            VN weights by VN bytes
 * before it includes this. `bits` and `wide` (vectors of a panel that go together) are constants wherever they are used. */
#define MANY_ _Pragma("GCC unroll 16")
/* Of the `per` codes in a word: what is written out, the rest is a loop. A file may say fewer, for products (an even number,
 * since sums take turns) and for what is expanded. */
#ifndef GEMV_STEPS
#define GEMV_STEPS(per, wide) ((per) > 10 ? 8 : (per))
#define EXPAND_STEPS(per) ((per) > 10 ? 8 : (per))
#endif

VFN vi words(const uint8_t *p) { return v_bits(v_load((const float *)(const void *)p)); } /* loaded as bits */
VFN size_t least_(size_t a, size_t b) { return a < b ? a : b; }

/* What a block's sum starts from, and what becomes of it. */
VFN vf from_zero(const mcc_lut_panel *p, const float *sums, size_t b, size_t j) {
    return p->zero ? v_mul(v_set(-sums[b]), v_load(p->zero + b * p->nr + j)) : v_set(0);
}
VFN vf scaled(const mcc_lut_panel *p, size_t b, size_t j, vf sum, vf y) {
    return p->scale ? v_fma(sum, v_load(p->scale + b * p->nr + j), y) : v_add(sum, y);
}

/* Two chains of sums for each vector, so that a sum does not wait for the one before. */
#define ADD(s)                                                                       \
    {                                                                                \
        const vf t = v_set(x[q + at + s]);                                           \
        a[s & 1] = v_fma(t, look(bits, &book, w), a[s & 1]), w = vi_srl(w, bits);    \
        if (wide) c[s & 1] = v_fma(t, look(bits, &book, u), c[s & 1]), u = vi_srl(u, bits); \
    }

#define GEMV_WORDS(BITS, WIDE)                                                                                            \
    VFN void gemv_##BITS##_##WIDE(const mcc_lut_panel *p, const float *x, const float *sums, const float *bias, float *y, \
                                  size_t j) {                                                                             \
        enum { bits = BITS, per = 32 / BITS, wide = WIDE };                                                               \
        const book_t book = book_of(bits, p->book);                                                                       \
        const uint8_t *codes = p->codes + 4 * j;                                                                          \
        vf y0 = v_load(bias + j), y1 = wide ? v_load(bias + j + VN) : y0;                                                 \
        for (size_t q = 0, b = 0; q < p->depth; q += p->block, b++) {                                                     \
            const size_t run = least_(p->depth - q, p->block);                                                            \
            vf a[2] = {from_zero(p, sums, b, j), v_set(0)}, c[2] = {wide ? from_zero(p, sums, b, j + VN) : v_set(0), v_set(0)}; \
            size_t at = 0;                                                                                                \
            for (; at + per <= run; codes += 4 * p->nr) {                                                                 \
                vi w = words(codes), u = words(codes + 4 * VN * wide);                                                    \
                for (size_t end = at + per; at < end; at += GEMV_STEPS(per, wide)) \
                    MANY_ for (int s = 0; s < GEMV_STEPS(per, wide); s++) ADD(s)                                              \
            }                                                                                                             \
            if (at < run) {                                                                                               \
                vi w = words(codes), u = words(codes + 4 * VN * wide);                                                    \
                for (; at < run; at++) ADD(0)                                                                             \
                codes += 4 * p->nr;                                                                                       \
            }                                                                                                             \
            y0 = scaled(p, b, j, v_add(a[0], a[1]), y0);                                                                  \
            if (wide) y1 = scaled(p, b, j + VN, v_add(c[0], c[1]), y1);                                                   \
        }                                                                                                                 \
        v_store(y + j, y0);                                                                                               \
        if (wide) v_store(y + j + VN, y1);                                                                                \
    }
GEMV_WORDS(1, 0) GEMV_WORDS(1, 1)
GEMV_WORDS(2, 0) GEMV_WORDS(2, 1)
GEMV_WORDS(3, 0) GEMV_WORDS(3, 1)
GEMV_WORDS(4, 0) GEMV_WORDS(4, 1)

/* VN weights of 8 bits; of a palette or, without one, the numbers themselves. */
VFN vf take_byte(const float *book, const uint8_t *p) {
    return book ? take_book(book, p) : v_float(v_load_s8((const int8_t *)p));
}

VFN void gemv_bytes(const mcc_lut_panel *p, const float *x, const float *sums, const float *bias, float *y, size_t j, const float *book) {
    const uint8_t *codes = p->codes + j;
    vf y0 = v_load(bias + j);
    for (size_t q = 0, b = 0; q < p->depth; q += p->block, b++) {
        const size_t run = least_(p->depth - q, p->block);
        vf a0 = from_zero(p, sums, b, j), a1 = v_set(0), a2 = a1, a3 = a1;
        size_t at = 0;
        for (; at + 4 <= run; at += 4, codes += 4 * p->nr) {
            const float *t = x + q + at;
            a0 = v_fma(v_set(t[0]), take_byte(book, codes), a0);
            a1 = v_fma(v_set(t[1]), take_byte(book, codes + p->nr), a1);
            a2 = v_fma(v_set(t[2]), take_byte(book, codes + 2 * p->nr), a2);
            a3 = v_fma(v_set(t[3]), take_byte(book, codes + 3 * p->nr), a3);
        }
        for (; at < run; at++, codes += p->nr) a0 = v_fma(v_set(x[q + at]), take_byte(book, codes), a0);
        y0 = scaled(p, b, j, v_add(v_add(a0, a1), v_add(a2, a3)), y0);
    }
    v_store(y + j, y0);
}

#define LUT_NAME_(what, isa) mcc_lut_f32_##what##_##isa
#define LUT_NAME(what, isa) LUT_NAME_(what, isa)

VKERNEL void LUT_NAME(gemv, MCC_SIMD)(const mcc_lut_panel *p, const float *x, const float *sums, const float *bias, float *y) {
    for (size_t j = 0; j < p->nr;) {
        const int wide = p->nr - j >= 2 * VN;
        switch (p->bits) {
        case 1: wide ? gemv_1_1(p, x, sums, bias, y, j) : gemv_1_0(p, x, sums, bias, y, j); break;
        case 2: wide ? gemv_2_1(p, x, sums, bias, y, j) : gemv_2_0(p, x, sums, bias, y, j); break;
        case 3: wide ? gemv_3_1(p, x, sums, bias, y, j) : gemv_3_0(p, x, sums, bias, y, j); break;
        case 4: wide ? gemv_4_1(p, x, sums, bias, y, j) : gemv_4_0(p, x, sums, bias, y, j); break;
        default:
            if (p->book) gemv_bytes(p, x, sums, bias, y, j, p->book);
            else gemv_bytes(p, x, sums, bias, y, j, NULL);
            j += VN;
            continue;
        }
        j += wide ? 2 * VN : VN;
    }
}

/* --- expand ------------------------------------------------------------------------------------------------------- */

VFN vf finished(const mcc_lut_panel *p, vf w, vf zero, vf scale) { return p->scale ? v_mul(p->zero ? v_sub(w, zero) : w, scale) : w; }

#define EXPAND_WORDS(BITS)                                                                          \
    VFN void expand_##BITS(const mcc_lut_panel *p, float *out, size_t j) {                          \
        enum { bits = BITS, per = 32 / BITS };                                                      \
        const book_t book = book_of(bits, p->book);                                                 \
        const uint8_t *codes = p->codes + 4 * j;                                                    \
        const size_t nr = p->nr;                                                                    \
        float *to = out + j;                                                                        \
        for (size_t q = 0, b = 0; q < p->depth; q += p->block, b++) {                               \
            const size_t run = least_(p->depth - q, p->block);                                      \
            const vf scale = p->scale ? v_load(p->scale + b * nr + j) : v_set(1);                   \
            const vf zero = p->zero ? v_load(p->zero + b * nr + j) : v_set(0);                      \
            size_t at = 0;                                                                          \
            for (; at + per <= run; at += per, codes += 4 * nr) {                                   \
                vi w = words(codes);                                                                \
                for (int i = 0; i < per; i += EXPAND_STEPS(per)) MANY_ for (int s = 0; s < EXPAND_STEPS(per); s++, to += nr) { \
                    v_store(to, finished(p, look(bits, &book, w), zero, scale));                    \
                    w = vi_srl(w, bits);                                                            \
                }                                                                                   \
            }                                                                                       \
            if (at == run) continue;                                                                \
            vi w = words(codes);                                                                    \
            for (; at < run; at++, to += nr, w = vi_srl(w, bits)) v_store(to, finished(p, look(bits, &book, w), zero, scale)); \
            codes += 4 * nr;                                                                        \
        }                                                                                           \
    }
EXPAND_WORDS(1)
EXPAND_WORDS(2)
EXPAND_WORDS(3)
EXPAND_WORDS(4)

VFN void expand_bytes(const mcc_lut_panel *p, float *out, size_t j, const float *book) {
    const uint8_t *codes = p->codes + j;
    for (size_t q = 0, b = 0; q < p->depth; q += p->block, b++) {
        const vf scale = p->scale ? v_load(p->scale + b * p->nr + j) : v_set(1);
        const vf zero = p->zero ? v_load(p->zero + b * p->nr + j) : v_set(0);
        for (size_t end = least_(q + p->block, p->depth), at = q; at < end; at++, codes += p->nr)
            v_store(out + at * p->nr + j, finished(p, take_byte(book, codes), zero, scale));
    }
}

VKERNEL void LUT_NAME(expand, MCC_SIMD)(const mcc_lut_panel *p, float *out) {
    for (size_t j = 0; j < p->nr; j += VN)
        switch (p->bits) {
        case 1: expand_1(p, out, j); break;
        case 2: expand_2(p, out, j); break;
        case 3: expand_3(p, out, j); break;
        case 4: expand_4(p, out, j); break;
        default:
            if (p->book) expand_bytes(p, out, j, p->book);
            else expand_bytes(p, out, j, NULL);
        }
}
