/* element.h: one element of any type, and shapes seen as [outer, axis, inner]. For the ops that must take every
 * type but need speed for one only: load as double or int64, compute, store.
 *
 * Half precision rounds to nearest, ties to even. A float that does not fit an integer type saturates to int64 (uint64
 * for that type) and is then cut to the type's bits; NaN gives 0. Integers wrap. So every conversion has one result. */
#ifndef MCC_CORE_ELEMENT_H
#define MCC_CORE_ELEMENT_H

#include <math.h>
#include <string.h>

#include "net.h"

static inline bool mcc_is_float(mcc_type t) { return t == MCC_F32 || t == MCC_F64 || t == MCC_F16 || t == MCC_BF16; }
static inline bool mcc_is_index(mcc_type t) { return mcc_type_bytes(t) != 0 && !mcc_is_float(t) && t != MCC_BOOL; }
static inline bool mcc_is_unsigned(mcc_type t) {
    return t == MCC_U8 || t == MCC_U16 || t == MCC_U32 || t == MCC_U64 || t == MCC_BOOL;
}

static inline float mcc_bits_f32(uint32_t u) { float f; memcpy(&f, &u, 4); return f; }
static inline uint32_t mcc_f32_bits(float f) { uint32_t u; memcpy(&u, &f, 4); return u; }

static inline float mcc_f32_of_bf16(uint16_t h) { return mcc_bits_f32((uint32_t)h << 16); }

static inline uint16_t mcc_bf16_of_f32(float f) {
    const uint32_t u = mcc_f32_bits(f);
    if (f != f) return (uint16_t)(u >> 16 | 0x40);
    return (uint16_t)((u + 0x7FFF + (u >> 16 & 1)) >> 16);
}

static inline float mcc_f32_of_f16(uint16_t h) {
    const uint32_t sign = (uint32_t)(h & 0x8000) << 16, e = h >> 10 & 31, m = h & 1023;
    if (e == 0) { /* zero and subnormals: m * 2^-24 is exact */
        const float v = (float)m * 0x1p-24f;
        return sign ? -v : v;
    }
    return mcc_bits_f32(sign | (e == 31 ? 0x7F800000u : (e + 112) << 23) | m << 13);
}

static inline uint16_t mcc_f16_of_f32(float f) {
    const uint32_t u = mcc_f32_bits(f), a = u & 0x7FFFFFFF;
    const uint16_t sign = (uint16_t)(u >> 16 & 0x8000);
    if (a > 0x7F800000) return (uint16_t)(sign | 0x7E00 | (a >> 13 & 0x1FF));
    if (a >= 0x477FF000) return sign | 0x7C00;            /* 65520 and more round to infinity */
    if (a < 0x38800000) {                                  /* below 2^-14: the sum rounds at 2^-24 for us */
        const uint32_t r = mcc_f32_bits(mcc_bits_f32(a) + 0.5f) - 0x3F000000;
        return (uint16_t)(sign | r);
    }
    return (uint16_t)(sign | (a + 0xFFF + (a >> 13 & 1) - (112u << 23)) >> 13);
}

/* double to float rounding to odd: a later rounding to fewer bits is then as if it were the only one. */
static inline float mcc_f32_odd(double d) {
    const float f = (float)d;
    if ((double)f == d || d != d) return f;
    uint32_t u = mcc_f32_bits(f);
    if (!(u & 1)) u = fabs((double)f) < fabs(d) ? u + 1 : u - 1;
    return mcc_bits_f32(u);
}

static inline int64_t mcc_s64_of_f64(double v) {
    if (v != v) return 0;
    return v >= 0x1p63 ? INT64_MAX : v <= -0x1p63 ? INT64_MIN : (int64_t)v;
}

static inline uint64_t mcc_u64_of_f64(double v) { /* negative values wrap, as those of int64 do */
    if (!(v > 0)) return (uint64_t)mcc_s64_of_f64(v);
    return v >= 0x1p64 ? UINT64_MAX : (uint64_t)v;
}

/* n elements from `at` on, every step-th (0: the same one), as double; as int64: integers and bool exactly (u64 keeps its bits),
 * floats truncated. */
void mcc_read_f64(mcc_type t, const void *p, size_t at, size_t step, size_t n, double *out);
void mcc_read_s64(mcc_type t, const void *p, size_t at, size_t step, size_t n, int64_t *out);

/* n values into the elements from `at` on. */
void mcc_write_f64(mcc_type t, void *p, size_t at, size_t n, const double *values);
void mcc_write_s64(mcc_type t, void *p, size_t at, size_t n, const int64_t *values);

static inline double mcc_load_f64(mcc_type t, const void *p, size_t i) { double v; mcc_read_f64(t, p, i, 0, 1, &v); return v; }
static inline int64_t mcc_load_s64(mcc_type t, const void *p, size_t i) { int64_t v; mcc_read_s64(t, p, i, 0, 1, &v); return v; }
static inline void mcc_store_f64(mcc_type t, void *p, size_t i, double v) { mcc_write_f64(t, p, i, 1, &v); }
static inline void mcc_store_s64(mcc_type t, void *p, size_t i, int64_t v) { mcc_write_s64(t, p, i, 1, &v); }

/* --- shapes ------------------------------------------------------------------------------------ */

/* The axis attribute `value` of a tensor of that rank: 0..rank-1, or -1 when it is out of range. */
static inline int mcc_axis(int64_t value, uint32_t rank) {
    if (value < 0) value += rank;
    return value >= 0 && value < (int64_t)rank ? (int)value : -1;
}

/* Product of dims [from, to). */
static inline size_t mcc_span(const mcc_tensor *t, uint32_t from, uint32_t to) {
    size_t n = 1;
    for (uint32_t i = from; i < to; i++) n *= t->dim[i];
    return n;
}

/* a * b, or false when it does not fit size_t. */
static inline bool mcc_times(size_t a, size_t b, size_t *product) {
    if (b && a > SIZE_MAX / b) return false;
    *product = a * b;
    return true;
}

/* --- prepare ----------------------------------------------------------------------------------- */

/* Makes the dense values of every constant input, so that `run` finds them in tensor->data. */
mcc_status mcc_dense_inputs(mcc_net *net, const mcc_node *node);

/* Inputs between `least` and `most`, the first `least` of them present, and `outputs` outputs. */
bool mcc_arity(const mcc_node *node, uint32_t least, uint32_t most, uint32_t outputs);

/* Optional input i, or NULL. */
static inline mcc_tensor *mcc_in(const mcc_node *node, uint32_t i) { return i < node->inputs ? node->in[i] : NULL; }

#endif
