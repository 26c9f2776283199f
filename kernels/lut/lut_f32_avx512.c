/* lut_f32_avx512.c: VPERMPS looks 16 codes up in a register of 16 entries; it reads the low 4 bits of a word, so smaller
 * books are repeated and what stands above a code needs no masking. */
#if defined(__x86_64__)
#define MCC_SIMD avx512
#include "../core/simd.h"
#include "lut.h"

typedef vf book_t;
VFN book_t book_of(int bits, const float *book) { (void)bits; return v_load(book); }
VFN vf look(int bits, const book_t *b, vi word) { (void)bits; return _mm512_permutexvar_ps(word, *b); }
VFN vf take_book(const float *book, const uint8_t *p) { return _mm512_i32gather_ps(v_load_u8(p), book, 4); }

#include "lut_f32_simd.h"

/* x and the book, and the sums of the rows of one table, spread over their 16 entries. */
MCC_FN(avx512) void mcc_lut_f32_tables_avx512(unsigned bits, size_t depth, const float *x, const float *book, float *tables) {
    const vi i = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    const vf entries = v_load(book), b0 = _mm512_permutexvar_ps(i, entries);
    if (bits == 2) {
        const vf b1 = _mm512_permutexvar_ps(vi_srl(i, 2), entries);
        for (size_t q = 0; q < depth; q += 2, tables += 16)
            v_store(tables, v_fma(v_set(x[q]), b0, v_mul(v_set(q + 1 < depth ? x[q + 1] : 0), b1)));
        return;
    }
    const vf b1 = _mm512_permutexvar_ps(vi_srl(i, 1), entries), b2 = _mm512_permutexvar_ps(vi_srl(i, 2), entries);
    const vf b3 = _mm512_permutexvar_ps(vi_srl(i, 3), entries);
    for (size_t q = 0; q < depth; q += 4, tables += 16) {
        vf t = v_mul(v_set(x[q]), b0);
        if (q + 1 < depth) t = v_fma(v_set(x[q + 1]), b1, t);
        if (q + 2 < depth) t = v_fma(v_set(x[q + 2]), b2, t);
        if (q + 3 < depth) t = v_fma(v_set(x[q + 3]), b3, t);
        v_store(tables, t);
    }
}

/* A word is eight numbers of tables, whatever the bits; blocks and depth end where they end, since codes past it are 0 and
 * belong to x = 0 (only the whole depth may end inside of a table: blocks are multiples of 4). */
#define TABLED(WIDE)                                                                                               \
    VFN void tabled_##WIDE(const mcc_lut_panel *p, const float *table, const float *sums, const float *bias, float *y, size_t j) { \
        enum { wide = WIDE };                                                                                      \
        const size_t nr = p->nr, each = 4 / p->bits;                                                               \
        const uint8_t *codes = p->codes + 4 * j;                                                                   \
        vf y0 = v_load(bias + j), y1 = wide ? v_load(bias + j + VN) : y0;                                          \
        for (size_t q = 0, b = 0; q < p->depth; q += p->block, b++) {                                              \
            size_t left = (least_(p->depth - q, p->block) + each - 1) / each;                                      \
            vf a[2] = {from_zero(p, sums, b, j), v_set(0)}, c[2] = {wide ? from_zero(p, sums, b, j + VN) : v_set(0), v_set(0)}; \
            for (; left >= 8; left -= 8, codes += 4 * nr) {                                                        \
                vi w = words(codes), u = words(codes + 4 * VN * wide);                                             \
                MANY_ for (int s = 0; s < 8; s++, table += 16) STEP(s)                                             \
            }                                                                                                      \
            if (left) {                                                                                            \
                vi w = words(codes), u = words(codes + 4 * VN * wide);                                             \
                for (; left; left--, table += 16) STEP(0)                                                          \
                codes += 4 * nr;                                                                                   \
            }                                                                                                      \
            y0 = scaled(p, b, j, v_add(a[0], a[1]), y0);                                                           \
            if (wide) y1 = scaled(p, b, j + VN, v_add(c[0], c[1]), y1);                                            \
        }                                                                                                          \
        v_store(y + j, y0);                                                                                        \
        if (wide) v_store(y + j + VN, y1);                                                                         \
    }
#define STEP(s)                                                                         \
    {                                                                                   \
        const vf t = v_load(table);                                                     \
        a[s & 1] = v_add(a[s & 1], _mm512_permutexvar_ps(w, t)), w = vi_srl(w, 4);      \
        if (wide) c[s & 1] = v_add(c[s & 1], _mm512_permutexvar_ps(u, t)), u = vi_srl(u, 4); \
    }
TABLED(0)
TABLED(1)

MCC_FN(avx512) void mcc_lut_f32_tabled_avx512(const mcc_lut_panel *p, const float *tables, const float *sums, const float *bias,
                                              float *y) {
    for (size_t j = 0; j < p->nr; j += 2 * VN) {
        if (p->nr - j >= 2 * VN) tabled_1(p, tables, sums, bias, y, j);
        else tabled_0(p, tables, sums, bias, y, j);
    }
}
#endif
