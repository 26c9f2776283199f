/* check_hashed.c: the hash against numbers on record, every kernel of hashed weights against it and a direct double sum. */
#include <math.h>

#include "../../kernels/hashed/hashed.h"
#include "check.h"

/* Files depend on these; passes/hashing.py has the same (tests/unit/test_hashed.py). */
static void check_numbers(void) {
    static const struct { uint32_t seed, axis, at, key; } known[] = {
        {0, 0, 0, 0x00000000u}, {1, 0, 0, 0x24009C6Du}, {1, 1, 7, 0x842BAFEBu}, {0xFFFFFFFFu, 3, 65536, 0x440B733Eu},
        {123456789u, 2, 0xFFFFFFFFu, 0xD4BDE7C3u}, {5, MCC_HASH_NO_AXIS, 9, 0},
    };
    const char *name = "hash";
    if (!check_can(name, 0)) return;
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        const uint32_t key = mcc_hash_key(known[i].seed, known[i].axis, known[i].at);
        if (key != known[i].key) check_fail(name, "key %zu: %08x, want %08x", i, key, known[i].key);
    }
    if (mcc_hash(3) != 0xDAA66D13u || mcc_hash_run(0xFFFFFFFFu, 1u << 26) != (1u << 26) - 1 ||
        mcc_hash_run(0x80000000u, 3) != 1 || !mcc_hash_negative(0x8000) || mcc_hash_negative(0xFFFF7FFFu))
        check_fail(name, "hash, run or sign");
    check_ok(name, sizeof known / sizeof *known);
}

static void check_one(const mcc_hashed_kernel *k, size_t depth, size_t nr, uint32_t runs, bool fours) {
    const size_t buckets = (size_t)runs * MCC_HASH_RUN;
    uint32_t *row = (uint32_t *)check_alloc_end((depth + 1) * sizeof *row) + 1, *column = check_alloc_end(nr * sizeof *column);
    uint32_t *place = check_alloc_end(nr * sizeof *place);
    float *bucket = check_alloc_end(buckets * sizeof *bucket), *x = (float *)check_alloc_end((depth + 1) * sizeof *x) + 1;
    float *bias = check_alloc_end(nr * sizeof *bias), *y = check_alloc_end(nr * sizeof *y);
    float *dense = (float *)check_alloc_end((depth * nr + 1) * sizeof *dense) + 1;
    for (size_t q = 0; q < depth; q++) row[q] = check_u32();
    for (size_t j = 0; j < nr; j++) {
        column[j] = fours && j % 4 ? column[j - 1] : check_u32();
        place[j] = fours ? j % 4 : check_u32() % 4;
    }
    check_fill_f32(bucket, buckets);
    check_fill_f32(x, depth);
    check_fill_f32(bias, nr);
    const mcc_hashed_panel p = {depth, nr, runs, row, column, place, bucket, fours};
    k->expand(&p, dense);
    const bool gemv = fours && nr % 16 == 0;
    if (gemv) k->gemv(&p, x, bias, y);
    for (size_t j = 0; j < nr && !check_failed(); j++) {
        double want = bias[j], size = fabs(bias[j]);
        for (size_t q = 0; q < depth; q++) {
            const uint32_t h = (row[q] ^ column[j]) * 0x9E3779B1u; /* as core/hash.h says */
            const float b = bucket[((uint64_t)h * runs >> 32) * 4 + place[j]], w = h & 0x8000 ? -b : b;
            if (dense[q * nr + j] != w)
                check_fail(k->name, "expand: depth=%zu nr=%zu runs=%u fours=%d at [%zu,%zu]: %g, want %g",
                           depth, nr, runs, fours, q, j, dense[q * nr + j], w);
            want += (double)x[q] * w, size += fabs((double)x[q] * w);
        }
        if (gemv && !(fabs(y[j] - want) <= 1e-6 * sqrt((double)depth + 4) * size))
            check_fail(k->name, "gemv: depth=%zu nr=%zu runs=%u fours=%d at %zu: %.9g, want %.9g",
                       depth, nr, runs, fours, j, y[j], want);
    }
    check_free_all(k->name);
}

void check_hashed(void) {
    static const uint32_t numbers[] = {1, 2, 3, 37, 4608, 1 << 18}; /* the last, large, with the least and the largest depth */
    static const size_t depths[] = {0, 1, 2, 3, 4, 5, 7, 8, 9, 15, 17, 31, 33, 40};
    check_numbers();
    size_t count;
    const mcc_hashed_kernel *k = mcc_hashed_kernels(&count);
    for (; count--; k++) {
        if (!check_can(k->name, k->isa)) continue;
        size_t cases = 0;
        for (size_t d = 0; d < sizeof depths / sizeof *depths; d++)
            for (size_t nr = k->lanes; nr <= 48 && !check_failed(); nr += k->lanes)
                for (size_t b = 0; b < sizeof numbers / sizeof *numbers - (depths[d] % 40 != 0) && !check_failed(); b++)
                    for (int fours = 0; fours < 2 && !check_failed(); fours++, cases++)
                        check_one(k, depths[d], nr, numbers[b], fours);
        check_ok(k->name, cases);
    }
}
