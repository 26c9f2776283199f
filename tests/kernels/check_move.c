/* check_move.c: every transpose and interleaving kernel against single elements, over all small tiles and some larger ones. */
#include <stdlib.h>
#include <string.h>

#include "../../kernels/move/move.h"
#include "check.h"

static bool check_one(const mcc_move_kernel *k, size_t bytes, size_t rows, size_t columns) {
    const size_t xs = rows + (size_t)check_int(0, 5), ys = columns + (size_t)check_int(0, 5);
    const size_t x_count = (columns - 1) * xs + rows, y_count = (rows - 1) * ys + columns;
    uint8_t *x = check_alloc_end(x_count * bytes), *y = check_alloc(y_count * bytes), *before = check_alloc(y_count * bytes);
    for (size_t i = 0; i < x_count * bytes; i++) x[i] = (uint8_t)check_u32();
    memcpy(before, y, y_count * bytes);
    k->transpose(rows, columns, x, xs, y, ys);
    bool good = true;
    for (size_t i = 0; i < y_count && good; i++) {
        const size_t r = i / ys, c = i % ys;
        const uint8_t *want = c < columns ? x + (r + c * xs) * bytes : before + i * bytes; /* between the rows nothing changes */
        if (memcmp(y + i * bytes, want, bytes) == 0) continue;
        check_fail(k->name, "rows=%zu columns=%zu: element [%zu, %zu]", rows, columns, r, c);
        good = false;
    }
    check_free_all(k->name);
    return good;
}

static bool check_interleave(const mcc_move_kernel *k, size_t bytes, size_t rows, size_t n) {
    const size_t as = n + (size_t)check_int(0, 5), bs = n + (size_t)check_int(0, 5), ys = 2 * n + (size_t)check_int(0, 5);
    const size_t a_count = (rows - 1) * as + n, b_count = (rows - 1) * bs + n, y_count = (rows - 1) * ys + 2 * n;
    uint8_t *a = check_alloc_end(a_count * bytes), *b = check_alloc_end(b_count * bytes);
    uint8_t *y = check_alloc(y_count * bytes), *before = check_alloc(y_count * bytes);
    for (size_t i = 0; i < a_count * bytes; i++) a[i] = (uint8_t)check_u32();
    for (size_t i = 0; i < b_count * bytes; i++) b[i] = (uint8_t)check_u32();
    memcpy(before, y, y_count * bytes);
    k->interleave(rows, n, a, as, b, bs, y, ys);
    bool good = true;
    for (size_t i = 0; i < y_count && good; i++) {
        const size_t r = i / ys, c = i % ys;
        const uint8_t *want = c >= 2 * n ? before + i * bytes : c % 2 ? b + (r * bs + c / 2) * bytes : a + (r * as + c / 2) * bytes;
        if (memcmp(y + i * bytes, want, bytes) == 0) continue;
        check_fail(k->name, "rows=%zu n=%zu: element [%zu, %zu]", rows, n, r, c);
        good = false;
    }
    check_free_all(k->name);
    return good;
}

void check_move(void) {
    size_t count;
    const mcc_move_kernel *k = mcc_move_kernels(&count);
    for (; count--; k++) {
        if (!check_can(k->name, k->isa)) continue;
        const size_t bytes = (size_t)atoi(k->what + 1) / 8;
        size_t cases = 0;
        if (k->interleave) {
            for (size_t n = 1; n <= 140 && !check_failed(); n++, cases++) check_interleave(k, bytes, (size_t)check_int(1, 5), n);
            check_ok(k->name, cases);
            continue;
        }
        for (size_t rows = 1; rows <= 35 && !check_failed(); rows++)
            for (size_t columns = 1; columns <= 19 && !check_failed(); columns++, cases++) check_one(k, bytes, rows, columns);
        for (int i = 0; i < 20 && !check_failed(); i++, cases++) check_one(k, bytes, (size_t)check_int(1, 150), (size_t)check_int(1, 150));
        check_ok(k->name, cases);
    }
}
