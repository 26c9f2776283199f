/* lut.h: float32 products whose weight is a codebook: packed indices of 1, 2, 4 or 8 bits and a palette. The indices are
 * what is kept and read; weights exist only in registers, or as one panel in the cache while rows pass by it.
 *
 * The indices of a panel stand in the order of the float panel of gemm.h, [depth][NR], packed little-endian. A `book` is
 * the palette as the kernels want it: 16 floats with the entries repeated for up to 4 bits, 256 for 8. */
#ifndef MCC_LUT_H
#define MCC_LUT_H

#include "../gemm/gemm.h"

#define MCC_LUT_BOOK 256 /* floats of one book */
/* Index bytes may be read up to this far past the end of the last panel. */
#define MCC_LUT_SLACK 16

/* out[i] = book[index i], i < count; count is a multiple of 4 x the vector. */
typedef void mcc_lut_expand_fn(unsigned bits, size_t count, const uint8_t *index, const float *book, float *out);
/* y[j] = bias[j] + sum over q < depth of x[q] * book[index (q, j)], j < nr; nr is one or two vectors of the gemm kernels. */
typedef void mcc_lut_gemv_fn(unsigned bits, size_t depth, size_t nr, const float *x, const uint8_t *index, const float *book,
                             const float *bias, float *y);

typedef struct mcc_lut_kernel {
    const char *name;
    uint32_t isa;
    size_t lanes; /* count and nr are multiples of this */
    mcc_lut_expand_fn *expand;
    mcc_lut_gemv_fn *gemv;
} mcc_lut_kernel;
const mcc_lut_kernel *mcc_lut_kernels(size_t *count);
const mcc_lut_kernel *mcc_lut_pick(void);

#define LUT(lanes, isa)                          \
    mcc_lut_expand_fn mcc_lut_f32_expand_##isa;  \
    mcc_lut_gemv_fn mcc_lut_f32_gemv_##isa;
#include "lut.def"
#undef LUT

#endif
