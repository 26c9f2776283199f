/* dwconv_s8.h: int8 depthwise convolution: usual windows by rows, any window one output pixel of all channels at a time. */
#ifndef MCC_DWCONV_S8_H
#define MCC_DWCONV_S8_H

#include "../gemm/qgemm.h"
#include "dwconv.h"

/* Any window. acc[c] = bias[c] + sum over t < taps of rows[t][c] * w[t][c];  y[c] = requantized acc (gemm.h), c < n.
 * The weights stand in blocks of NC channels: int32 bias[NC], float scale[NC], then per pair of taps what the kernel
 * wants (`mcc_dwconv_s8_pack`); missing channels and an odd last tap are zero. rows has `taps` pointers, made even by
 * repeating any readable one. Reads exactly n bytes of each row, writes exactly n of y. residual may be NULL. */
typedef void mcc_dwconv_s8_fn(size_t n, size_t taps, const int8_t *const *rows, const void *weights, int8_t *y,
                              const int8_t *residual, const mcc_requant *q);

/* How a kernel wants bias, scale and the pairs of taps of its NC channels:
 *   PLAIN   bias, scale in order; w int8 [taps][NC]
 *   MADD    for widening multiply-adds of interleaved int16: channels in the order of unpacklo/unpackhi over 128-bit
 *           lanes (`mcc_dwconv_s8_order`); w int16 [taps / 2][NC][2] */
typedef enum mcc_dwconv_layout { MCC_DW_PLAIN, MCC_DW_MADD } mcc_dwconv_layout;

typedef struct mcc_dwconv_s8_kernel {
    mcc_name name;
    uint32_t isa;
    size_t nc;
    mcc_dwconv_layout layout;
    mcc_dwconv_s8_fn *fn;
} mcc_dwconv_s8_kernel;

const mcc_dwconv_s8_kernel *mcc_dwconv_s8_kernels(size_t *count);
const mcc_dwconv_s8_kernel *mcc_dwconv_s8_pick(void);

/* Bytes of the packed weights of n channels; and the packing: w [n][taps] int8. SIZE_MAX when it overflows. */
size_t mcc_dwconv_s8_bytes(const mcc_dwconv_s8_kernel *kernel, size_t n, size_t taps);
void mcc_dwconv_s8_pack(const mcc_dwconv_s8_kernel *kernel, void *out, size_t n, size_t taps, const int8_t *w, const int32_t *bias,
                        const float *scale, int32_t x_zero);

/* --- rows ---------------------------------------------------------------------------------------------------------- */

/* A run of outputs of one row (mcc_dwconv_in, dwconv.h). For p < pixels, c < channels:
 *     acc = bias[c] + sum over ky, kx of in(ky, p * stride + kx)[c] * w[ky][kx][c]
 * with q: y is int8, y[p * channels + c] = requantized acc (gemm.h), residual like y or NULL; without: y is int32 and gets
 * acc. Reads exactly `channels` bytes of each cell, writes exactly pixels * channels. residual may be y.
 * The weights stand in blocks of VC channels (what remains: in blocks of half as many where the kernel says so): int32
 * bias[VC], float scale[VC], then w[kx][ceil(kh / VT)][VC][VT], VT taps of a column together, int16 for VT 2, else int8.
 * All of a block is in one order of channels: with VC = 4 * VA * lanes, position i * 4 * lanes + l * 4 + e holds channel
 * l * 4 * VA + i * 4 + e, which is how unpacking within 128-bit lanes leaves them. */
#define MCC_DWCONV_S8_ROW_ARGS \
    size_t pixels, size_t channels, const mcc_dwconv_in *in, const void *weights, void *y, const int8_t *residual, const mcc_requant *q
typedef void mcc_dwconv_s8_row_fn(MCC_DWCONV_S8_ROW_ARGS);

typedef struct mcc_dwconv_s8_row {
    mcc_name name;
    uint32_t isa;
    /* half: channels of the last blocks; 0: as many as the others; VC: as many, and where there are as many channels the last
     * ends with them, so that some stand in two blocks */
    uint8_t kh, kw, stride, vc, half, va, vt, offset; /* offset: what it adds to x */
    mcc_dwconv_s8_row_fn *fn;
} mcc_dwconv_s8_row;

const mcc_dwconv_s8_row *mcc_dwconv_s8_rows(size_t *count);
/* NULL when there is none for the window. */
const mcc_dwconv_s8_row *mcc_dwconv_s8_row_pick(const mcc_window *window);
size_t mcc_dwconv_s8_row_bytes(const mcc_dwconv_s8_row *kernel, size_t n);
/* w [n][kh * kw]; bias and scale may be NULL: zeros and ones. */
void mcc_dwconv_s8_row_pack(const mcc_dwconv_s8_row *kernel, void *out, size_t n, const int8_t *w, const int32_t *bias,
                            const float *scale, int32_t x_zero);

#define DWCONV_S8(nc, layout, isa) mcc_dwconv_s8_fn mcc_dwconv_s8_##nc##_##isa;
#define DWROW_S8(kh, kw, stride, vc, half, va, vt, offset, isa) mcc_dwconv_s8_row_fn mcc_dwconv_s8_##kh##x##kw##s##stride##_##isa;
#include "dwconv_s8.def"
#undef DWCONV_S8
#undef DWROW_S8

#endif
