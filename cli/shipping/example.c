/* example.c: run a model.   example MODEL.mcc [INPUT OUTPUT]
 * INPUT: the bare values of all inputs, one after the other; zeros when it is left out. OUTPUT gets all outputs likewise. */
#include <stdio.h>
#include <string.h>

#include "mcc.h"

int main(int argc, char **argv) {
    mcc_net *net;
    if (argc != 2 && argc != 4) return fprintf(stderr, "usage: %s MODEL.mcc [INPUT OUTPUT]\n", argv[0]), 2;
    const mcc_status status = mcc_open(argv[1], &net);
    if (status != MCC_OK) return fprintf(stderr, "%s: %s %s\n", argv[1], mcc_status_text(status), mcc_why()), 2;
    FILE *in = argc > 2 ? fopen(argv[2], "rb") : NULL, *out = argc > 2 ? fopen(argv[3], "wb") : NULL;
    if (argc > 2 && (!in || !out)) return perror(in ? argv[3] : argv[2]), 2;
    for (size_t i = 0; i < mcc_inputs(net); i++) {
        const mcc_port *x = mcc_input(net, i);
        memset(x->data, 0, x->bytes);
        if (in && fread(x->data, 1, x->bytes, in) != x->bytes) return fprintf(stderr, "%s: too short\n", argv[2]), 2;
    }
    mcc_run(net);
    for (size_t i = 0; i < mcc_outputs(net); i++) {
        const mcc_port *y = mcc_output(net, i);
        printf("%s: %zu bytes\n", y->name, y->bytes);
        if (out && fwrite(y->data, 1, y->bytes, out) != y->bytes) return perror(argv[3]), 2;
    }
    if (in) fclose(in);
    if (out && fclose(out)) return perror(argv[3]), 2;
    mcc_close(net);
    return 0;
}
