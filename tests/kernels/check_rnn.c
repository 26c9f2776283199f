/* check_rnn.c: the kernels of recurrent layers against sums in double. */
#include <math.h>
#include <string.h>

#include "../../kernels/rnn/rnn.h"
#include "check.h"

static void check_gate(const mcc_rnn_kernel *k, size_t n) {
    float *x = check_alloc_end(n * sizeof *x), from[80];
    for (size_t i = 0; i < n; i++) from[i] = x[i] = i % 9 == 8 ? 200 * check_normal() : 3 * check_normal();
    k->gate(n, x);
    for (size_t i = 0; i < n && !check_failed(); i++) {
        const double v = (double)from[i], want = strcmp(k->what, "tanh") == 0 ? tanh(v) : 1 / (1 + exp(-v));
        if (!(fabs((double)x[i] - want) <= 6e-7 * fabs(want) + 1e-37)) check_fail(k->name, "n=%zu: f(%.9g) is %.9g, want %.9g", n, v, (double)x[i], want);
    }
}

void check_rnn(void) {
    size_t count;
    const mcc_rnn_kernel *k = mcc_rnn_kernels(&count);
    for (; count--; k++) {
        if (!check_can(k->name, k->isa)) continue;
        size_t cases = 0;
        for (size_t n = 1; n <= 70 && !check_failed(); n++) {
            check_gate(k, n), check_free_all(k->name), cases++;
        }
        check_ok(k->name, cases);
    }
}
