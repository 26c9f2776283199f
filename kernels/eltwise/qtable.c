/* qtable.c: the table of look-up kernels, and the plain one. */
#include "qtable.h"

#include "../core/isa.h"
#include "../core/registry.h"

static const mcc_qtable_kernel kernels[] = {
#define QTABLE(isa) {"qtable_s8_" #isa, MCC_ISA_##isa, mcc_qtable_s8_##isa},
#include "qtable.def"
#undef QTABLE
};
#define COUNT (sizeof kernels / sizeof *kernels)

const mcc_qtable_kernel *mcc_qtable_kernels(size_t *count) {
    *count = COUNT;
    return kernels;
}

bool mcc_kernels_qtable(size_t i, mcc_kernel_info *info) {
    if (i >= COUNT) return false;
    *info = (mcc_kernel_info){.name = kernels[i].name, .isa = kernels[i].isa};
    return true;
}

const mcc_qtable_kernel *mcc_qtable_pick(void) {
    const uint32_t have = mcc_isa();
    const mcc_qtable_kernel *k = kernels;
    while ((k->isa & have) != k->isa) k++; /* the last line needs nothing */
    return k;
}

void mcc_qtable_s8_c(size_t n, const int8_t *x, int8_t *y, const int8_t *table) {
    for (size_t i = 0; i < n; i++) y[i] = table[x[i] + 128];
}
