/* qattention.c: the table of the kernels of int8 attention, and their choice. */
#include "qattention.h"

#include "../core/isa.h"
#include "../core/registry.h"

static const mcc_qattention_kernel kernels[] = {
#define QATTENTION(isa) {"qattention_s8_" #isa, MCC_ISA_##isa, mcc_qattention_scores_##isa, mcc_qattention_peak_##isa, mcc_qattention_away_##isa, \
                         mcc_qattention_total_##isa, mcc_qattention_weighted_##isa},
#include "qattention.def"
#undef QATTENTION
};
#define COUNT (sizeof kernels / sizeof *kernels)

const mcc_qattention_kernel *mcc_qattention_kernels(size_t *count) {
    *count = COUNT;
    return kernels;
}

bool mcc_kernels_qattention(size_t i, mcc_kernel_info *info) {
    if (i >= COUNT) return false;
    *info = (mcc_kernel_info){.name = kernels[i].name, .isa = kernels[i].isa};
    return true;
}

const mcc_qattention_kernel *mcc_qattention_pick(void) {
    const uint32_t have = mcc_isa();
    const mcc_qattention_kernel *k = kernels;
    while ((k->isa & have) != k->isa) k++; /* the last line needs nothing */
    return k;
}
