/* check_core.c: opening, running, cloning, threads and storages, on nets made in memory. */
#include <stdlib.h>
#include <string.h>

#include "../../kernels/core/isa.h"
#include "../../kernels/core/state.h"
#include "check.h"

static void check_identity(void) {
    const char *name = "identity net";
    size_t cases = 0;
    for (size_t n = 0; n < 70 && !check_failed(); n++, cases++) {
        builder *b = build_new();
        const size_t dim[2] = {1, n};
        const int x = build_activation(b, MCC_F32, 2, dim), y = build_activation(b, MCC_F32, 2, dim);
        build_input(b, x);
        build_output(b, y);
        build_node(b, "identity");
        build_in(b, x);
        build_out(b, y);
        size_t size;
        const void *file = build_file(b, &size);
        mcc_net *net, *copy;
        mcc_status s = mcc_open_memory(file, size, &net);
        if (s != MCC_OK) {
            check_fail(name, "n=%zu: %s: %s", n, mcc_status_text(s), mcc_why());
        } else {
            check_fill_f32(mcc_input(net, 0)->data, n);
            mcc_run(net);
            if (memcmp(mcc_input(net, 0)->data, mcc_output(net, 0)->data, 4 * n)) check_fail(name, "n=%zu: not the same", n);
            if (mcc_clone(net, &copy) != MCC_OK) {
                check_fail(name, "clone: %s", mcc_why());
            } else {
                memcpy(mcc_input(copy, 0)->data, mcc_input(net, 0)->data, 4 * n);
                mcc_close(net);
                net = copy;
                mcc_run(net);
                if (memcmp(mcc_input(net, 0)->data, mcc_output(net, 0)->data, 4 * n)) check_fail(name, "n=%zu: clone", n);
            }
            mcc_close(net);
        }
        build_free(b);
    }
    check_ok(name, cases);
}

void check_core(void) {
    check_identity();
}
