/* qtable.h: any function of one int8, by its table of 256 values. */
#ifndef MCC_QTABLE_H
#define MCC_QTABLE_H

#include <stddef.h>
#include <stdint.h>

#include "../core/names.h"

/* y[i] = table[x[i] + 128] for i < n. y may be x. */
typedef void mcc_qtable_fn(size_t n, const int8_t *x, int8_t *y, const int8_t *table);

typedef struct mcc_qtable_kernel {
    mcc_name name;
    uint32_t isa;
    mcc_qtable_fn *fn;
} mcc_qtable_kernel;
const mcc_qtable_kernel *mcc_qtable_kernels(size_t *count);
const mcc_qtable_kernel *mcc_qtable_pick(void);

#define QTABLE(isa) mcc_qtable_fn mcc_qtable_s8_##isa;
#include "qtable.def"
#undef QTABLE

#endif
