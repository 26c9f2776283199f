/* move.c: the table of kernels, and the plain C kernels. */
#include "move.h"

#include <string.h>

#include "../core/isa.h"
#include "../core/registry.h"

static const mcc_move_kernel table[] = {
#define TRANSPOSE(type, fn, is) \
    {.name = "move_" #type "_" #fn "_" #is, .what = #type, .isa = MCC_ISA_##is, .transpose = mcc_move_##type##_##fn##_##is},
#define INTERLEAVE(type, is) \
    {.name = "move_" #type "_interleave_" #is, .what = #type, .isa = MCC_ISA_##is, .interleave = mcc_move_##type##_interleave_##is},
#include "move.def"
};
enum { KERNELS = sizeof table / sizeof *table };

const mcc_move_kernel *mcc_move_kernels(size_t *count) {
    *count = KERNELS;
    return table;
}

bool mcc_kernels_move(size_t i, mcc_kernel_info *info) {
    if (i >= KERNELS) return false;
    *info = (mcc_kernel_info){table[i].name, table[i].isa};
    return true;
}

static const mcc_move_kernel *pick(size_t bytes, bool transpose) {
    const char *what = bytes == 1 ? "x8" : bytes == 2 ? "x16" : bytes == 4 ? "x32" : "x64";
    const uint32_t have = mcc_isa();
    const mcc_move_kernel *k = table; /* plain C is there for every size, so the search ends */
    while ((k->isa & have) != k->isa || strcmp(k->what, what) != 0 || (k->transpose != NULL) != transpose) k++;
    return k;
}

mcc_transpose_fn mcc_move_transpose(size_t bytes, const char **name) {
    const mcc_move_kernel *k = pick(bytes, true);
    *name = k->name;
    return k->transpose;
}

mcc_interleave_fn mcc_move_interleave(size_t bytes, const char **name) {
    const mcc_move_kernel *k = pick(bytes, false);
    *name = k->name;
    return k->interleave;
}

#define PLAIN(bits) \
    void mcc_move_x##bits##_transpose_c(size_t rows, size_t columns, const void *from, size_t x_stride, void *to, size_t y_stride) { \
        const uint##bits##_t *x = from; \
        uint##bits##_t *y = to; \
        for (size_t i = 0; i < rows; i++) \
            for (size_t j = 0; j < columns; j++) y[i * y_stride + j] = x[i + j * x_stride]; \
    } \
    void mcc_move_x##bits##_interleave_c(size_t rows, size_t n, const void *a_, size_t a_stride, const void *b_, size_t b_stride, \
                                         void *y_, size_t y_stride) { \
        for (size_t r = 0; r < rows; r++) { \
            const uint##bits##_t *a = (const uint##bits##_t *)a_ + r * a_stride, *b = (const uint##bits##_t *)b_ + r * b_stride; \
            uint##bits##_t *y = (uint##bits##_t *)y_ + r * y_stride; \
            for (size_t i = 0; i < n; i++) y[2 * i] = a[i], y[2 * i + 1] = b[i]; \
        } \
    }
PLAIN(8)
PLAIN(16)
PLAIN(32)
PLAIN(64)
