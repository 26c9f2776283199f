/* check_norm.c: every reduction and normalisation kernel against sums in double, over odd lengths and values that cancel. */
#include <math.h>
#include <string.h>

#include "../../kernels/norm/norm.h"
#include "check.h"

static const size_t lengths[] = {1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65, 127, 130, 1000, 1023, 1024, 1025, 2500};
enum { LENGTHS = sizeof lengths / sizeof *lengths, LONGEST = 2500 };

static void fill(float *x, size_t n, unsigned kind) {
    for (size_t i = 0; i < n; i++) x[i] = kind == 0 ? check_normal() : kind == 1 ? 1000 + check_normal() : kind == 2 ? -2.5f : ldexpf(check_normal(), check_int(-20, 20));
    if (kind == 3 && n > 2) x[check_int(0, (int)n - 1)] = NAN;
}

static double term(const char *what, double v) { return strcmp(what, "sum_abs") == 0 ? fabs(v) : strcmp(what, "sum_square") == 0 ? v * v : v; }
static bool extreme(const char *what) { return strcmp(what, "max") == 0 || strcmp(what, "min") == 0; }
static float better(const char *what, float a, float b) { return a != a || b != b ? NAN : strcmp(what, "max") == 0 ? fmaxf(a, b) : fminf(a, b); }
static bool same(float a, float b) { return a == b || (a != a && b != b); }

static void check_fold(const mcc_norm_kernel *k, size_t n, unsigned kind, const float *x) {
    const float got = k->fold(n, x);
    if (extreme(k->what)) {
        float want = x[0];
        for (size_t i = 1; i < n; i++) want = better(k->what, want, x[i]);
        if (!same(got, want)) check_fail(k->name, "n=%zu kind=%u: %g, want %g", n, kind, (double)got, (double)want);
        return;
    }
    double want = 0, size = 0;
    for (size_t i = 0; i < n; i++) want += term(k->what, (double)x[i]), size += fabs(term(k->what, (double)x[i]));
    if (!(fabs((double)got - want) <= 3e-6 * size) && !(want != want && got != got))
        check_fail(k->name, "n=%zu kind=%u: %.9g, want %.9g", n, kind, (double)got, want);
}

static void check_merge(const mcc_norm_kernel *k, size_t n, unsigned kind, const float *x) {
    const char *what = k->what + sizeof "merge_" - 1;
    float *acc = check_alloc(n * sizeof *acc), before[LONGEST];
    for (size_t i = 0; i < n; i++) before[i] = acc[i] = check_normal();
    k->merge(n, x, acc);
    for (size_t i = 0; i < n && !check_failed(); i++) {
        const double t = term(what, (double)x[i]);
        const float want = extreme(what) ? better(what, before[i], x[i]) : (float)((double)before[i] + t);
        if (!same(acc[i], want) && !(fabs((double)acc[i] - (double)want) <= 3e-7 * (fabs(t) + fabs((double)before[i]))))
            check_fail(k->name, "n=%zu kind=%u at %zu: %.9g, want %.9g", n, kind, i, (double)acc[i], (double)want);
    }
}

static void check_exp(const mcc_norm_kernel *k, size_t n, unsigned kind, float *x) {
    const size_t step = kind % 2;
    float *shift = check_alloc((step ? n : 1) * sizeof *shift), *y = check_alloc(n * sizeof *y), *sum = check_alloc(n * sizeof *sum);
    for (size_t i = 0; i < n; i++) {
        x[i] = 10 * check_normal(), sum[i] = 1;
        if (step || i == 0) shift[i] = 3 * check_normal();
    }
    if (n > 3) x[2] = -INFINITY;
    float *out = kind >= 2 ? x : y, from[LONGEST];
    memcpy(from, x, n * sizeof *x);
    const float all = k->exp(n, x, shift, step, out, kind == 3 ? NULL : sum);
    double total = 0;
    for (size_t i = 0; i < n && !check_failed(); i++) {
        const double want = exp((double)(from[i] - shift[i * step]));
        total += want;
        if (!(fabs((double)out[i] - want) <= 4e-7 * want)) check_fail(k->name, "n=%zu step=%zu at %zu: %.9g, want %.9g", n, step, i, (double)out[i], want);
        if (sum[i] != (kind == 3 ? 1 : 1 + out[i])) check_fail(k->name, "n=%zu at %zu: sum %.9g for %.9g", n, i, (double)sum[i], (double)out[i]);
    }
    if (!(fabs((double)all - total) <= 2e-6 * total)) check_fail(k->name, "n=%zu: all sum to %.9g, want %.9g", n, (double)all, total);
}

static void check_spread(const mcc_norm_kernel *k, size_t n, const float *x) {
    const float mean = 0.25f, got = k->spread(n, x, mean);
    double want = 0;
    for (size_t i = 0; i < n; i++) want += ((double)x[i] - mean) * ((double)x[i] - mean);
    if (!(fabs((double)got - want) <= 3e-6 * want) && !(want != want && got != got)) check_fail(k->name, "n=%zu: %.9g, want %.9g", n, (double)got, want);
}

static void check_affine(const mcc_norm_kernel *k, size_t n, unsigned kind, float *x) {
    const size_t step = kind % 2, m = step ? n : 1;
    float *scale = check_alloc(m * sizeof *scale), *bias = check_alloc(m * sizeof *bias), *y = check_alloc(n * sizeof *y);
    for (size_t i = 0; i < m; i++) scale[i] = check_normal(), bias[i] = check_normal();
    for (size_t i = 0; i < n; i++) x[i] = check_normal();
    float *out = kind >= 2 ? x : y, from[LONGEST];
    memcpy(from, x, n * sizeof *x);
    const bool has_scale = kind != 3, has_bias = kind != 2;
    k->affine(n, x, 0.5f, 2.25f, has_scale ? scale : NULL, has_bias ? bias : NULL, step, out);
    for (size_t i = 0; i < n && !check_failed(); i++) {
        const double s = has_scale ? (double)scale[i * step] : 1, b = has_bias ? (double)bias[i * step] : 0, t = ((double)from[i] - 0.5) * 2.25 * s;
        if (!(fabs((double)out[i] - (t + b)) <= 4e-7 * (fabs(t) + fabs(b) + fabs(s))))
            check_fail(k->name, "n=%zu kind=%u at %zu: %.9g, want %.9g", n, kind, i, (double)out[i], t + b);
    }
}

void check_norm(void) {
    size_t count;
    const mcc_norm_kernel *k = mcc_norm_kernels(&count);
    for (; count--; k++) {
        if (!check_can(k->name, k->isa)) continue;
        size_t cases = 0;
        for (size_t l = 0; l < LENGTHS && !check_failed(); l++)
            for (unsigned kind = 0; kind < 4 && !check_failed(); kind++, cases++) {
                const size_t n = lengths[l];
                float *x = check_alloc_end(n * sizeof *x);
                fill(x, n, kind);
                if (k->fold) check_fold(k, n, kind, x);
                else if (k->merge) check_merge(k, n, kind, x);
                else if (k->exp) check_exp(k, n, kind, x);
                else if (k->spread) check_spread(k, n, x);
                else check_affine(k, n, kind, x);
                check_free_all(k->name);
            }
        check_ok(k->name, cases);
    }
}
