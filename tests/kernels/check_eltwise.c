/* check_eltwise.c: every elementwise kernel against the function in double, over odd lengths, in place, and over values that
 * matter: all exponents, both signs, infinities, NaN, and the neighbourhoods where a formula changes. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "../../kernels/core/element.h"
#include "../../kernels/eltwise/eltwise.h"
#include "check.h"

enum { LENGTHS = 70 };

/* Parameters for functions that have some. */
static void parameters(const char *what, float *a, float *b) {
    *a = 0.3f, *b = 0.7f;
    if (strcmp(what, "clip") == 0) *a = -0.75f, *b = 1.25f;
    if (strcmp(what, "selu") == 0) *a = 1.6732632f, *b = 1.050701f;
}

static float sample(size_t i) {
    static const float edges[] = {0.0f, -0.0f, INFINITY, -INFINITY, NAN, 1.0f, -1.0f, 0.5f, -0.5f, 88.8f, -88.8f, 104.0f, -104.0f, 3.4e38f,
                                  -3.4e38f, 1e-40f, -1e-40f, 1.17549435e-38f, 2.5f, 3.5f, -2.5f, 1.4142135f, -1.4142135f, 5.6568f, -5.6568f};
    if (i < sizeof edges / sizeof *edges) return edges[i];
    switch (i % 3) {
    case 0: return 3 * check_normal();
    case 1: return 30 * check_normal();
    default: return mcc_bits_f32(check_u32()); /* any bits at all */
    }
}

/* How far a result may be from the true one: in units of its last place, and an absolute part. core/simd_math.h says why. */
static bool near(const char *what, float x, float got, double want) {
    static const struct { const char *what; double ulp, absolute; } limits[] = {
        {"exp", 2, 0}, {"log", 2, 0}, {"tanh", 4, 0}, {"erf", 4, 0}, {"sigmoid", 4, 1.2e-38}, {"silu", 5, 1e-35}, {"elu", 4, 0}, {"celu", 5, 0},
        {"selu", 5, 0}, {"softplus", 4, 0}, {"mish", 6, 1e-35}, {"gelu", 8, 2e-7}, {"gelu_tanh", 8, 2e-7}, {"softsign", 2, 0},
        {"hard_sigmoid", 3, 6e-8}};
    double ulp = 1, absolute = 0;
    for (size_t i = 0; i < sizeof limits / sizeof *limits; i++)
        if (strcmp(limits[i].what, what) == 0) ulp = limits[i].ulp, absolute = limits[i].absolute;
    if (want != want) return got != got;
    if (strcmp(what, "hard_swish") == 0) return got == x * fminf(1, fmaxf(0, x / 6 + 0.5f)); /* all of its roundings, since int8 layers have it */
    const bool gelu = strncmp(what, "gelu", 4) == 0;
    if (gelu) absolute *= fmax(1, fabs((double)x));
    const float rounded = (float)want;
    if (isinf(rounded)) return got == rounded || fabs((double)got) > 3.40e38;
    if (isinf(got)) return fabs(want) > 3.40e38;
    if (got != got) return false;
    const double place = fmax(ldexp(1, ilogb(fabs(want) < 1.2e-38 ? 1.2e-38 : want) - 23), 1.5e-45);
    return fabs((double)got - want) <= ulp * place + absolute;
}

/* Inputs on which the formula is not asked for the limit: infinities where the function is not monotonic. */
static bool defined(const char *what, float x) {
    static const char *const bounded[] = {"silu", "mish", "gelu", "gelu_tanh", "softsign", "hard_swish"};
    if (isfinite(x)) return strcmp(what, "gelu_tanh") != 0 || fabsf(x) < 1e12f;
    for (size_t i = 0; i < sizeof bounded / sizeof *bounded; i++)
        if (strcmp(what, bounded[i]) == 0) return false;
    return true;
}

static size_t check_unary(const mcc_eltwise_kernel *k) {
    const mcc_scalar_fn f = mcc_eltwise_scalar(k->what);
    float a, b;
    parameters(k->what, &a, &b);
    size_t cases = 0;
    for (size_t n = 0; n < LENGTHS && !check_failed(); n++) {
        float *x = check_alloc_end((n ? n : 1) * sizeof *x), *y = check_alloc_end((n ? n : 1) * sizeof *y);
        float xs[LENGTHS], ys[LENGTHS];
        for (int rounds = n > 40 ? 20 : 1; rounds-- > 0 && !check_failed(); cases++) {
            for (size_t i = 0; i < n; i++) xs[i] = sample((i + n) % 400);
            if (n) memcpy(x, xs, n * sizeof *x);
            const bool in_place = n % 4 == 3;
            k->unary(n, x, in_place ? x : y, a, b);
            if (n) memcpy(ys, in_place ? x : y, n * sizeof *ys);
            for (size_t i = 0; i < n; i++) {
                const double want = f((double)xs[i], (double)a, (double)b);
                if (!defined(k->what, xs[i]) || near(k->what, xs[i], ys[i], want)) continue;
                check_fail(k->name, "n=%zu at %zu: f(%.9g) is %.9g, want %.9g", n, i, (double)xs[i], (double)ys[i], want);
                break;
            }
        }
        check_free_all(k->name);
    }
    return cases;
}

static double two(const char *what, double a, double b) {
    if (strcmp(what, "add") == 0) return a + b;
    if (strcmp(what, "sub") == 0) return a - b;
    if (strcmp(what, "mul") == 0) return a * b;
    if (strcmp(what, "div") == 0) return a / b;
    if (strcmp(what, "min") == 0) return a != a || a < b ? a : b;
    if (strcmp(what, "max") == 0) return a != a || a > b ? a : b;
    return a < 0 ? a * b : a; /* prelu */
}

static size_t check_binary(const mcc_eltwise_kernel *k) {
    size_t cases = 0;
    for (size_t n = 0; n < LENGTHS && !check_failed(); n++)
        for (unsigned steps = n > 1; steps < 4 && !check_failed(); steps++, cases++) {
            const size_t as = steps & 1, bs = steps >> 1, an = as ? n : 1, bn = bs ? n : 1;
            float *a = check_alloc(an * sizeof *a), *b = check_alloc(bn * sizeof *b), *y = check_alloc(n * sizeof *y);
            float wa[LENGTHS], wb[LENGTHS];
            for (size_t i = 0; i < an; i++) a[i] = sample((i + 5 * n) % 90);
            for (size_t i = 0; i < bn; i++) b[i] = sample((7 * i + 3 * n) % 90);
            for (size_t i = 0; i < n; i++) wa[i] = a[i * as], wb[i] = b[i * bs];
            float *out = as && n % 3 == 2 ? a : bs && n % 3 == 1 ? b : y;
            k->binary(n, a, as, b, bs, out);
            for (size_t i = 0; i < n; i++) {
                const float want = (float)two(k->what, (double)wa[i], (double)wb[i]);
                if (out[i] == want || (want != want && out[i] != out[i])) continue;
                check_fail(k->name, "n=%zu at %zu: f(%.9g, %.9g) is %.9g, want %.9g", n, i, (double)wa[i], (double)wb[i], (double)out[i], (double)want);
                break;
            }
            check_free_all(k->name);
        }
    return cases;
}

static mcc_type type_of(const char *word) {
    return word[0] == 'f' ? (word[1] == '3' ? MCC_F32 : MCC_F16) : word[0] == 'b' ? MCC_BF16 : word[0] == 's' ? MCC_S8 : MCC_U8;
}

/* "eltwise_<from>_to_<to>_<isa>": the two types. */
static void ends(const char *name, mcc_type *from, mcc_type *to) {
    *from = type_of(name + sizeof "eltwise_" - 1);
    *to = type_of(strstr(name, "_to_") + 4);
}

static bool same_bits(mcc_type t, const void *a, const void *b, size_t i) {
    if (mcc_is_float(t) && mcc_load_f64(t, a, i) != mcc_load_f64(t, a, i)) return mcc_load_f64(t, b, i) != mcc_load_f64(t, b, i);
    const size_t bytes = mcc_type_bytes(t);
    return memcmp((const uint8_t *)a + i * bytes, (const uint8_t *)b + i * bytes, bytes) == 0;
}

static size_t check_convert(const mcc_eltwise_kernel *k) {
    mcc_type from, to;
    ends(k->name, &from, &to);
    size_t cases = 0;
    for (size_t block = 0; block < 2200 && !check_failed(); block++, cases++) { /* all 65536 halves, and as many floats */
        const size_t n = block < 66 ? block : 31;
        uint8_t *x = check_alloc_end((n ? n : 1) * mcc_type_bytes(from)), *y = check_alloc_end((n ? n : 1) * mcc_type_bytes(to));
        _Alignas(8) uint8_t source[66 * 4], got[66 * 4], want[8];
        for (size_t i = 0; i < n; i++) {
            const float v = block % 2 ? sample(i + block) : ldexpf(check_normal(), check_int(-30, 17));
            const uint16_t half = (uint16_t)(block * 31 + i);
            if (from == MCC_F32) memcpy(source + 4 * i, &v, 4);
            else memcpy(source + 2 * i, &half, 2);
        }
        if (n) memcpy(x, source, n * mcc_type_bytes(from));
        k->convert(n, x, y);
        if (n) memcpy(got, y, n * mcc_type_bytes(to));
        for (size_t i = 0; i < n && !check_failed(); i++) {
            _Alignas(8) uint8_t one[8], other[8];
            memcpy(one, source + i * mcc_type_bytes(from), mcc_type_bytes(from));
            mcc_store_f64(to, want, 0, mcc_load_f64(from, one, 0));
            memcpy(other, got + i * mcc_type_bytes(to), mcc_type_bytes(to));
            if (!same_bits(to, want, other, 0))
                check_fail(k->name, "n=%zu at %zu: %.9g becomes %.9g, want %.9g", n, i, mcc_load_f64(from, one, 0), mcc_load_f64(to, other, 0),
                           mcc_load_f64(to, want, 0));
        }
        check_free_all(k->name);
    }
    return cases;
}

static size_t check_quantize(const mcc_eltwise_kernel *k) {
    mcc_type from, to;
    ends(k->name, &from, &to);
    const bool quantizes = from == MCC_F32;
    const mcc_type code = quantizes ? to : from;
    const int lo = code == MCC_S8 ? -128 : 0, hi = lo + 255;
    size_t cases = 0;
    for (size_t n = 0; n < LENGTHS && !check_failed(); n++)
        for (int z = lo; z <= hi && !check_failed(); z += 51, cases++) {
            const float scale = 0.01f * (float)check_int(1, 300);
            uint8_t *x = check_alloc_end((n ? n : 1) * mcc_type_bytes(from)), *y = check_alloc_end((n ? n : 1) * mcc_type_bytes(to));
            float values[LENGTHS], got[LENGTHS];
            uint8_t codes[LENGTHS];
            for (size_t i = 0; i < n; i++) {
                values[i] = i % 5 == 0 ? scale * ((float)check_int(-300, 300) + 0.5f) : i % 7 == 0 ? sample(i) : 100 * scale * check_normal();
                codes[i] = (uint8_t)check_u32();
            }
            if (n) memcpy(x, quantizes ? (const void *)values : codes, n * mcc_type_bytes(from));
            k->quantize(n, x, y, scale, z);
            if (n) memcpy(quantizes ? (void *)codes : got, y, n * mcc_type_bytes(to));
            for (size_t i = 0; i < n && !check_failed(); i++) {
                const int c = code == MCC_S8 ? (int8_t)codes[i] : codes[i];
                if (quantizes) {
                    const float t = values[i] / scale;
                    const int want = t > (float)(hi - z) ? hi : t > (float)(lo - z) ? (int)nearbyintf(t) + z : lo;
                    if (c != want) check_fail(k->name, "n=%zu zero=%d: %.9g / %.9g is %d, want %d", n, z, (double)values[i], (double)scale, c, want);
                } else if (got[i] != (float)(c - z) * scale) {
                    check_fail(k->name, "n=%zu zero=%d: code %d is %.9g", n, z, c, (double)got[i]);
                }
            }
            check_free_all(k->name);
        }
    return cases;
}

void check_eltwise(void) {
    size_t count;
    const mcc_eltwise_kernel *k = mcc_eltwise_kernels(&count);
    for (; count--; k++) {
        if (!check_can(k->name, k->isa)) continue;
        static size_t (*const checks[])(const mcc_eltwise_kernel *) = {check_unary, check_binary, check_convert, check_quantize};
        check_ok(k->name, checks[k->kind](k));
    }
}
