/* lut.h: float32 products whose weight is kept as codes of 1, 2, 3, 4 or 8 bits: codebooks (a code is the number of a palette's
 * entry), and integers with a scale for each output or block of inputs. The codes are what is kept and read; weights exist only
 * in registers, or as one panel in the cache while rows pass by it.
 *
 *     w[q][j] = (book[code] - zero[b][j]) * scale[b][j],   b = q / block
 *
 * A panel is nr columns. Codes of up to 4 bits stand in words of 32, [depth / per][nr], each for `per` = 32 / bits rows q of
 * one column, the first lowest (3 bits: 10 of them; the top two bits are 0); every block begins with a word of its own. A vector
 * of words gives a vector of weights by a look-up and a shift, whatever q. Codes of 8 bits stand in bytes, [depth][nr].
 *
 * Of 1 and 2 bits, four and two rows together have 16 possible products with x: mcc_lut_tables_fn makes them once for all
 * columns, and a look-up and an addition do what else takes two or four of each (the idea of T-MAC, arXiv 2407.00088). */
#ifndef MCC_LUT_H
#define MCC_LUT_H

#include "../gemm/gemm.h"

#define MCC_LUT_BOOK 256 /* floats of one book: the palette, repeated up to 16 entries; 256 for 8 bits */
/* Codes may be read up to this far past the end of the last panel. */
#define MCC_LUT_SLACK 64

typedef struct mcc_lut_panel {
    unsigned bits;
    size_t depth, nr, block; /* block: depth, or a part of it */
    const uint8_t *codes;
    const float *book;        /* NULL with 8 bits: the code is the number, int8 */
    const float *scale;       /* NULL: ones, and no zeros */
    const float *zero;        /* NULL: zeros */
} mcc_lut_panel;

/* Rows whose codes share a word. */
static inline size_t mcc_lut_per(unsigned bits) { return bits == 8 ? 1 : 32 / bits; }
/* Bytes of a panel's codes. */
static inline size_t mcc_lut_bytes(unsigned bits, size_t depth, size_t nr, size_t block) {
    if (bits == 8) return depth * nr;
    const size_t per = mcc_lut_per(bits), rest = block ? depth % block : 0;
    return 4 * nr * ((block ? depth / block : 0) * ((block + per - 1) / per) + (rest + per - 1) / per);
}

/* out[q * nr + j] = w[q][j] */
typedef void mcc_lut_expand_fn(const mcc_lut_panel *panel, float *out);
/* y[j] = bias[j] + sum over q < depth of x[q] * w[q][j], j < nr. sums[b]: of the x of block b; read when there are zeros. */
typedef void mcc_lut_gemv_fn(const mcc_lut_panel *panel, const float *x, const float *sums, const float *bias, float *y);
/* The same from tables; 1, 2 bits. */
typedef void mcc_lut_tabled_fn(const mcc_lut_panel *panel, const float *tables, const float *sums, const float *bias, float *y);
/* tables[t * 16 + i] = sum over e < 4 / bits of book[i >> e * bits & mask] * x[t * 4 / bits + e], x = 0 from depth on. */
typedef void mcc_lut_tables_fn(unsigned bits, size_t depth, const float *x, const float *book, float *tables);

typedef struct mcc_lut_kernel {
    mcc_name name;
    uint32_t isa;
    size_t lanes; /* nr is one or two times this, or more */
    mcc_lut_expand_fn *expand;
    mcc_lut_gemv_fn *gemv;
    mcc_lut_tabled_fn *tabled; /* NULL where it does not pay */
    mcc_lut_tables_fn *tables;
} mcc_lut_kernel;
const mcc_lut_kernel *mcc_lut_kernels(size_t *count);
const mcc_lut_kernel *mcc_lut_pick(void);

#define LUT(lanes, isa)                          \
    mcc_lut_expand_fn mcc_lut_f32_expand_##isa;  \
    mcc_lut_gemv_fn mcc_lut_f32_gemv_##isa;
#define LUT_TABLED(lanes, isa)                   \
    LUT(lanes, isa)                              \
    mcc_lut_tabled_fn mcc_lut_f32_tabled_##isa;  \
    mcc_lut_tables_fn mcc_lut_f32_tables_##isa;
#include "lut.def"
#undef LUT
#undef LUT_TABLED

#endif
