/* hashed.h: float32 products whose weights share values by a hash of their place (HashedNets, Chen et al., arXiv 1504.04788).
 * Only the buckets are kept, and a key for each row and column; weights exist in registers, or as a panel in the cache while rows
 * pass by it.
 *
 *     x = mcc_hash(row[q] ^ column[j])
 *     w[q][j] = bucket[4 * mcc_hash_run(x, runs) + place[j]], negative if mcc_hash_negative(x)
 *
 * core/hash.h has the hash. Columns go by fours as long as no output was taken away: they share a key, and their places are 0 to
 * 3, so that four weights are one load. */
#ifndef MCC_HASHED_H
#define MCC_HASHED_H

#include "../core/hash.h"
#include "../gemm/gemm.h"

typedef struct mcc_hashed_panel {
    size_t depth, nr;
    uint32_t runs;                        /* of four buckets, up to 2^26 */
    const uint32_t *row, *column, *place; /* [depth], [nr], [nr] */
    const float *bucket;
    bool fours; /* columns 4 i to 4 i + 3 are such four */
} mcc_hashed_panel;

/* out[q * nr + j] = w[q][j] */
typedef void mcc_hashed_expand_fn(const mcc_hashed_panel *panel, float *out);
/* y[j] = bias[j] + sum over q < depth of x[q] * w[q][j], j < nr; nr is a multiple of 16, and columns go by fours. */
typedef void mcc_hashed_gemv_fn(const mcc_hashed_panel *panel, const float *x, const float *bias, float *y);

typedef struct mcc_hashed_kernel {
    mcc_name name;
    uint32_t isa;
    size_t lanes; /* nr is a multiple of this */
    mcc_hashed_expand_fn *expand;
    mcc_hashed_gemv_fn *gemv;
} mcc_hashed_kernel;
const mcc_hashed_kernel *mcc_hashed_kernels(size_t *count);
const mcc_hashed_kernel *mcc_hashed_pick(void);

#define HASHED(lanes, isa)                            \
    mcc_hashed_expand_fn mcc_hashed_f32_expand_##isa; \
    mcc_hashed_gemv_fn mcc_hashed_f32_gemv_##isa;
#include "hashed.def"
#undef HASHED

#endif
