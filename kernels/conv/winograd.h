/* winograd.h: 3x3 convolution of stride 1 by Winograd's minimal filtering (Lavin and Gray, "Fast Algorithms for
 * Convolutional Neural Networks", arXiv 1509.09308): F(m x m, 3 x 3), m = 2 or 4, makes m x m outputs of a tile from
 * (m + 2)^2 products where the direct sum takes 9 m^2: 2.25 and 4 times fewer.
 *
 *     y = A^T [ sum over channels of (G g G^T) .* (B^T d B) ] A
 *
 * The products of one point of all tiles and channels are a matrix product, made by the kernels of gemm.h.
 *
 * Error against float64, measured on normal data with 16 to 512 channels, as a part of the largest |y|: m = 2 gives 2e-7 to
 * 9e-7, m = 4 9e-7 to 5e-6, the direct sum 5e-7 to 3e-6. In float16, whose sums are float16 too: see gemm.h. */
#ifndef MCC_CONV_WINOGRAD_H
#define MCC_CONV_WINOGRAD_H

#include "conv.h"

/* Numbers x, v, bias, residual and y are float32, or float16 of the kernels for that; `step`, `line` and `pixel` count numbers.
 *
 * One tile's input: with t = m + 2, v[p * step + c] = (B^T d B)[p / t][p % t], d[i][j] = x[i * t + j][c], for c < n and
 * p < t * t. Reads n numbers at each x. */
typedef void mcc_winograd_in_fn(size_t n, const void *const *x, void *v, size_t step);

/* One tile's output, rows x columns of it (1..m each): for c < n,
 *     y[i * line + j * pixel + c] = clamp((A^T M A)[i][j] + bias[c] + residual[...], lo, hi), M[i][j] = v[(i * t + j) * step + c]
 * residual is like y, or NULL; it may be y. */
typedef void mcc_winograd_out_fn(size_t n, const void *v, size_t step, const void *bias, const void *residual, void *y, size_t line,
                                 size_t pixel, size_t rows, size_t columns, float lo, float hi);

/* F(4x4) interpolates at 0, +-A, +-B and infinity: with A = 1/B = sqrt(1/2) its rounding errors are a quarter of those
 * that +-1 and +-2 give, for as many operations. (F(2x2): 0, +-1 and infinity.) */
#define WINOGRAD_A 0.70710678118654752f
#define WINOGRAD_B 1.41421356237309505f

typedef struct mcc_winograd_kernel {
    mcc_name name;
    uint32_t isa;
    mcc_type type;
    uint8_t m;
    mcc_winograd_in_fn *in;
    mcc_winograd_out_fn *out;
} mcc_winograd_kernel;

/* All lines of winograd.def, in order. */
const mcc_winograd_kernel *mcc_winograd_kernels(size_t *count);

/* nhwc_conv by Winograd, where that is possible and worth it, or the node asks for it by its attribute winograd: 2 or 4
 * says which, 0 forbids. Sets up the node like mcc_layer_formats. Transformed weights take 16/9 or 4 times the memory. */
mcc_status mcc_winograd_try(mcc_net *net, mcc_node *node, const mcc_layer *layer, bool *taken);

#define WINOGRAD(type, m, isa) \
    mcc_winograd_in_fn mcc_winograd_##type##_in##m##_##isa; \
    mcc_winograd_out_fn mcc_winograd_##type##_out##m##_##isa;
#include "winograd.def"
#undef WINOGRAD

#endif
