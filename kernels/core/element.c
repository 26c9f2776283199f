/* element.c: runs of elements of any type as double and int64, floats and integers fast as what they are. */
#include "element.h"

/* `value` of every x of the run, into out. */
#define READ(type, value) \
    for (size_t i = 0; i < n; i++) { \
        const type x = ((const type *)p)[at + i * step]; \
        out[i] = value; \
    } \
    return

void mcc_read_s64(mcc_type t, const void *p, size_t at, size_t step, size_t n, int64_t *out) {
    switch (t) {
    case MCC_U8: READ(uint8_t, x);
    case MCC_BOOL: READ(uint8_t, x != 0);
    case MCC_S8: READ(int8_t, x);
    case MCC_U16: READ(uint16_t, x);
    case MCC_S16: READ(int16_t, x);
    case MCC_S32: READ(int32_t, x);
    case MCC_U32: READ(uint32_t, x);
    case MCC_S64: case MCC_U64: READ(int64_t, x);
    default:
        for (size_t i = 0; i < n; i++) out[i] = mcc_s64_of_f64(mcc_load_f64(t, p, at + i * step));
    }
}

void mcc_read_f64(mcc_type t, const void *p, size_t at, size_t step, size_t n, double *out) {
    switch (t) {
    case MCC_F32: READ(float, x);
    case MCC_F64: READ(double, x);
    case MCC_F16: READ(uint16_t, mcc_f32_of_f16(x));
    case MCC_BF16: READ(uint16_t, mcc_f32_of_bf16(x));
    case MCC_U64: READ(uint64_t, (double)x);
    default:
        for (size_t i = 0; i < n; i++) out[i] = (double)mcc_load_s64(t, p, at + i * step);
    }
}

#define WRITE(type, value) \
    for (size_t i = 0; i < n; i++) ((type *)p)[at + i] = (type)(value); \
    return

void mcc_write_s64(mcc_type t, void *p, size_t at, size_t n, const int64_t *values) {
    switch (t) {
    case MCC_U8: case MCC_S8: WRITE(uint8_t, values[i]);
    case MCC_BOOL: WRITE(uint8_t, values[i] != 0);
    case MCC_U16: case MCC_S16: WRITE(uint16_t, values[i]);
    case MCC_U32: case MCC_S32: WRITE(uint32_t, values[i]);
    case MCC_U64: case MCC_S64: WRITE(uint64_t, values[i]);
    case MCC_F32: WRITE(float, values[i]);
    case MCC_F64: WRITE(double, values[i]);
    case MCC_F16: WRITE(uint16_t, mcc_f16_of_f32(mcc_f32_odd((double)values[i])));
    case MCC_BF16: WRITE(uint16_t, mcc_bf16_of_f32(mcc_f32_odd((double)values[i])));
    }
}

void mcc_write_f64(mcc_type t, void *p, size_t at, size_t n, const double *values) {
    switch (t) {
    case MCC_F32: WRITE(float, values[i]);
    case MCC_F64: WRITE(double, values[i]);
    case MCC_F16: WRITE(uint16_t, mcc_f16_of_f32(mcc_f32_odd(values[i])));
    case MCC_BF16: WRITE(uint16_t, mcc_bf16_of_f32(mcc_f32_odd(values[i])));
    case MCC_BOOL: WRITE(uint8_t, values[i] != 0);
    case MCC_U8: case MCC_S8: WRITE(uint8_t, mcc_s64_of_f64(values[i]));
    case MCC_U16: case MCC_S16: WRITE(uint16_t, mcc_s64_of_f64(values[i]));
    case MCC_U32: case MCC_S32: WRITE(uint32_t, mcc_s64_of_f64(values[i]));
    case MCC_S64: WRITE(uint64_t, mcc_s64_of_f64(values[i]));
    case MCC_U64: WRITE(uint64_t, mcc_u64_of_f64(values[i]));
    }
}

mcc_status mcc_dense_inputs(mcc_net *net, const mcc_node *node) {
    for (uint32_t i = 0; i < node->inputs; i++) {
        mcc_status status;
        if (node->in[i] && node->in[i]->constant && node->in[i]->count && !mcc_dense(net, node->in[i], &status)) return status;
    }
    return MCC_OK;
}

bool mcc_arity(const mcc_node *node, uint32_t least, uint32_t most, uint32_t outputs) {
    if (node->inputs < least || node->inputs > most || node->outputs != outputs) return false;
    for (uint32_t i = 0; i < least; i++)
        if (!node->in[i]) return false;
    return true;
}
