/* eltwise.c: the table of elementwise kernels, their choice, and the plain C ones. */
#include "eltwise.h"

#include "../core/element.h"
#include "../core/isa.h"
#include "../core/registry.h"

static const mcc_eltwise_kernel table[] = {
#define LINE(type, fn, is, of) \
    {.name = "eltwise_" #type "_" #fn "_" #is, .what = #fn, .isa = MCC_ISA_##is, \
     .kind = MCC_ELTWISE_##of, .of = mcc_eltwise_##type##_##fn##_##is},
#define UNARY(type, what, is) LINE(type, what, is, unary)
#define BINARY(type, what, is) LINE(type, what, is, binary)
#define CONVERT(type, what, is) LINE(type, what, is, convert)
#define QUANTIZE(type, what, is) LINE(type, what, is, quantize)
#include "eltwise.def"
};

const mcc_eltwise_kernel *mcc_eltwise_kernels(size_t *count) {
    *count = sizeof table / sizeof *table;
    return table;
}

const mcc_eltwise_kernel *mcc_eltwise_pick(const char *type_what) {
    const uint32_t have = mcc_isa();
    const size_t n = strlen(type_what), skip = sizeof "eltwise_" - 1;
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        const char *name = table[i].name + skip, *end = strrchr(name, '_');
        if ((table[i].isa & have) == table[i].isa && (size_t)(end - name) == n && memcmp(name, type_what, n) == 0)
            return &table[i];
    }
    return NULL;
}

/* --- functions of one value, as float kernels and as double scalars --------------------------------------------- */

static inline float unit_f(float x) { return x < 0 ? 0 : x > 1 ? 1 : x; }
static inline double unit_d(double x) { return x < 0 ? 0 : x > 1 ? 1 : x; }
static inline float mish_f(float x) {
    const float n = expf(x > 20 ? 20 : x), t = n * (n + 2);
    return x * (t / (t + 2));
}
static inline double mish_d(double x) {
    const double n = exp(x > 40 ? 40 : x), t = n * (n + 2);
    return x * (t / (t + 2));
}

#define T float
#define M(name) name##f
#define unit unit_f
#define mish mish_f
#define D(name, value)
#define F(name, value) \
    void mcc_eltwise_f32_##name##_c(size_t n, const float *xs, float *ys, float a, float b) { \
        (void)a, (void)b; \
        for (size_t i = 0; i < n; i++) { const float x = xs[i]; ys[i] = value; } \
    }
#include "functions.def"
#undef F
#undef D
#undef mish
#undef unit
#undef M
#undef T

#define T double
#define M(name) name
#define unit unit_d
#define mish(v) mish_d(v)
#define F(name, value) static double scalar_##name(double x, double a, double b) { (void)a, (void)b; return value; }
#define D F
#include "functions.def"
#undef F
#undef T
#undef unit
#undef mish
#undef M

enum {
#define F(name, value) F_##name,
#include "functions.def"
#undef F
};

/* A switch: core/ops.c says why. */
__attribute__((noinline)) static mcc_scalar_fn scalar(size_t i) {
    switch (i) {
#define F(name, value) case F_##name: return scalar_##name;
#include "functions.def"
#undef F
    default: return NULL;
    }
}

mcc_scalar_fn mcc_eltwise_scalar(const char *what) {
    static const char names[] =
#define F(name, value) #name "\0"
#include "functions.def"
#undef F
#undef D
        ;
    const char *at = names;
    for (size_t i = 0; *at; i++, at += strlen(at) + 1)
        if (strcmp(at, what) == 0) return scalar(i);
    return NULL;
}

/* --- functions of two values ------------------------------------------------------------------------------------ */

#define TWO(name, value) \
    void mcc_eltwise_f32_##name##_c(size_t n, const float *as, size_t a_step, const float *bs, size_t b_step, float *y) { \
        for (size_t i = 0; i < n; i++) { const float a = as[i * a_step], b = bs[i * b_step]; y[i] = value; } \
    }
TWO(add, a + b)
TWO(sub, a - b)
TWO(mul, a * b)
TWO(div, a / b)
TWO(min, a != a || a < b ? a : b)
TWO(max, a != a || a > b ? a : b)
TWO(prelu, a < 0 ? a * b : a)

/* --- conversions ------------------------------------------------------------------------------------------------ */

#define CONVERSION(name, from, to, value) \
    void mcc_eltwise_##name##_c(size_t n, const void *from_, void *to_) { \
        const from *x = from_; \
        to *y = to_; \
        for (size_t i = 0; i < n; i++) y[i] = value; \
    }
CONVERSION(f16_to_f32, uint16_t, float, mcc_f32_of_f16(x[i]))
CONVERSION(f32_to_f16, float, uint16_t, mcc_f16_of_f32(x[i]))
CONVERSION(bf16_to_f32, uint16_t, float, mcc_f32_of_bf16(x[i]))
CONVERSION(f32_to_bf16, float, uint16_t, mcc_bf16_of_f32(x[i]))

static inline int32_t quantized(float x, float scale, int32_t zero, int32_t lo, int32_t hi) {
    const float v = x / scale, least = (float)(lo - zero), most = (float)(hi - zero);
    return (int32_t)nearbyintf(v > most ? most : v > least ? v : least) + zero;
}

#define QUANTIZER(name, from, to, value) \
    void mcc_eltwise_##name##_c(size_t n, const void *from_, void *to_, float scale, int32_t zero) { \
        const from *x = from_; \
        to *y = to_; \
        for (size_t i = 0; i < n; i++) y[i] = (to)(value); \
    }
QUANTIZER(f32_to_s8, float, int8_t, quantized(x[i], scale, zero, -128, 127))
QUANTIZER(f32_to_u8, float, uint8_t, quantized(x[i], scale, zero, 0, 255))
QUANTIZER(s8_to_f32, int8_t, float, (float)(x[i] - zero) * scale)
QUANTIZER(u8_to_f32, uint8_t, float, (float)(x[i] - zero) * scale)

bool mcc_kernels_eltwise(size_t i, mcc_kernel_info *info) {
    if (i >= sizeof table / sizeof *table) return false;
    *info = (mcc_kernel_info){table[i].name, table[i].isa};
    return true;
}
