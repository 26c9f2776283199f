/* hash.h: which bucket a hashed weight reads, and its sign (HashedNets, Chen et al., arXiv 1504.04788). The same in Python:
 * passes/hashing.py.
 *
 * Every index of every axis of a weight has a key. The xor of an element's keys (tabulation hashing) times an odd number is
 * its hash x: bit 15 is the sign, and the upper half of x * runs the run of four neighbouring buckets. Along one axis, that of
 * the outputs, four neighbours share a key (that of index / 4) and take the four buckets of the run; without such an axis all
 * elements take the first. So four weights take some eight instructions, and of a panel of weights one key per row and one per
 * column is kept. */
#ifndef MCC_CORE_HASH_H
#define MCC_CORE_HASH_H

#include <stdint.h>

#define MCC_HASH_MULTIPLIER 0x9E3779B1u
#define MCC_HASH_NO_AXIS 255 /* an axis of one element that the weight did not have when it was hashed */
#define MCC_HASH_SIGN 15     /* the bit */
#define MCC_HASH_RUN 4

static inline uint32_t mcc_hash_mixed(uint32_t x) {
    x = (x ^ x >> 16) * 0x7FEB352Du;
    x = (x ^ x >> 15) * 0x846CA68Bu;
    return x ^ x >> 16;
}

static inline uint32_t mcc_hash_key(uint32_t seed, uint32_t axis, uint32_t at) {
    if (axis == MCC_HASH_NO_AXIS) return 0;
    return mcc_hash_mixed(mcc_hash_mixed(at + mcc_hash_mixed(seed + axis * MCC_HASH_MULTIPLIER)) + axis);
}

static inline uint32_t mcc_hash(uint32_t keys) { return keys * MCC_HASH_MULTIPLIER; }
static inline uint32_t mcc_hash_run(uint32_t x, uint32_t runs) { return (uint32_t)((uint64_t)x * runs >> 32); }
static inline uint32_t mcc_hash_negative(uint32_t x) { return x >> MCC_HASH_SIGN & 1; }

#endif
