/* move.c: the table of kernels, and the plain C transposes. */
#include "move.h"

#include <string.h>

#include "../core/isa.h"
#include "../core/registry.h"

static const mcc_move_kernel table[] = {
#define TRANSPOSE(type, fn, is) \
    {.name = "move_" #type "_" #fn "_" #is, .what = #type, .isa = MCC_ISA_##is, .transpose = mcc_move_##type##_##fn##_##is},
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

const mcc_move_kernel *mcc_move_pick(size_t bytes) {
    const char *what = bytes == 1 ? "x8" : bytes == 2 ? "x16" : bytes == 4 ? "x32" : "x64";
    const uint32_t have = mcc_isa();
    for (const mcc_move_kernel *k = table; k < table + KERNELS; k++)
        if ((k->isa & have) == k->isa && strcmp(k->what, what) == 0) return k;
    return NULL;
}

#define PLAIN(bits) \
    void mcc_move_x##bits##_transpose_c(size_t rows, size_t columns, const void *from, size_t x_stride, void *to, size_t y_stride) { \
        const uint##bits##_t *x = from; \
        uint##bits##_t *y = to; \
        for (size_t i = 0; i < rows; i++) \
            for (size_t j = 0; j < columns; j++) y[i * y_stride + j] = x[i + j * x_stride]; \
    }
PLAIN(8)
PLAIN(16)
PLAIN(32)
PLAIN(64)
