/* mcc_run.c: run a .mcc model on a device, without Python.
 *
 *     mcc-run MODEL.mcc [--input NAME=FILE]... [--output NAME=FILE]... [--threads N] [--runs N] [--isa "WORDS"]
 *                       [--ops] [--json]
 *
 * FILE.npy is numpy's format, anything else is the bare values, little-endian, row-major. With one input the name
 * may be left out (--input x.npy). Inputs that are not given are zeros. Prints times and facts; outputs are
 * written only where asked for. Exit codes as for mcc: 2 for wrong arguments or files, 4 when out of memory. */
#define _POSIX_C_SOURCE 200809L
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "mcc.h"

enum { MAX_FILES = 256, WRONG = 2, NO_MEMORY = 4 };

typedef struct file_arg { const char *name, *path; size_t name_length; } file_arg;

typedef struct options {
    const char *model, *isa;
    file_arg input[MAX_FILES], output[MAX_FILES];
    size_t inputs, outputs;
    unsigned threads, runs;
    bool json, ops;
} options;

static const char usage[] =
    "usage: mcc-run MODEL.mcc [--input [NAME=]FILE]... [--output [NAME=]FILE]... [--threads N] [--runs N]\n"
    "               [--isa \"WORDS\"] [--ops] [--json]\n";

/* --- .npy ---------------------------------------------------------------------------------------- */

static const struct { mcc_type type; const char *descr; } npy_types[] = {
    {MCC_F32, "<f4"}, {MCC_U8, "|u1"}, {MCC_S8, "|i1"}, {MCC_U16, "<u2"}, {MCC_S16, "<i2"}, {MCC_S32, "<i4"},
    {MCC_S64, "<i8"}, {MCC_BOOL, "|b1"}, {MCC_F16, "<f2"}, {MCC_F64, "<f8"}, {MCC_U32, "<u4"}, {MCC_U64, "<u8"},
    {MCC_BF16, "<u2"}, /* numpy has none: the bits */
};

static const char *npy_descr(mcc_type type) {
    for (size_t i = 0; i < sizeof npy_types / sizeof *npy_types; i++)
        if (npy_types[i].type == type) return npy_types[i].descr;
    return "?";
}

/* The text of the shape as numpy writes it: "(1, 3)", "(3,)", "()". */
static void npy_shape(const mcc_port *p, char *text, size_t size) {
    size_t at = (size_t)snprintf(text, size, "(");
    for (unsigned i = 0; i < p->rank && at < size; i++)
        at += (size_t)snprintf(text + at, size - at, i ? ", %zu" : "%zu", p->shape[i]);
    if (at < size) snprintf(text + at, size - at, p->rank == 1 ? ",)" : ")");
}

static bool npy_name(const char *path) {
    const size_t n = strlen(path);
    return n > 4 && strcmp(path + n - 4, ".npy") == 0;
}

static int complain(const char *path, const char *what) {
    fprintf(stderr, "mcc-run: %s: %s\n", path, what);
    return WRONG;
}

/* Leaves `f` at the values after checking that they are what the port takes. */
static int npy_skip_header(FILE *f, const char *path, const mcc_port *p) {
    unsigned char head[12];
    if (fread(head, 1, 10, f) != 10 || memcmp(head, "\x93NUMPY", 6) != 0) return complain(path, "not a .npy file");
    size_t length = head[8] | (size_t)head[9] << 8;
    if (head[6] >= 2) {
        if (fread(head + 10, 1, 2, f) != 2) return complain(path, "not a .npy file");
        length |= (size_t)head[10] << 16 | (size_t)head[11] << 24;
    }
    char text[4096], shape[256], want[256];
    if (length >= sizeof text || fread(text, 1, length, f) != length) return complain(path, "not a .npy file");
    text[length] = 0;
    snprintf(want, sizeof want, "'descr': '%s'", npy_descr(p->type));
    if (!strstr(text, want)) {
        fprintf(stderr, "mcc-run: %s: input '%s' takes dtype %s\n", path, p->name, npy_descr(p->type));
        return WRONG;
    }
    npy_shape(p, shape, sizeof shape);
    snprintf(want, sizeof want, "'shape': %.200s", shape);
    if (!strstr(text, want) || !strstr(text, "'fortran_order': False")) {
        fprintf(stderr, "mcc-run: %s: input '%s' takes shape %s in C order\n", path, p->name, shape);
        return WRONG;
    }
    return 0;
}

static int read_values(const char *path, const mcc_port *p) {
    FILE *f = fopen(path, "rb");
    if (!f) return complain(path, "cannot be opened");
    int wrong = npy_name(path) ? npy_skip_header(f, path, p) : 0;
    if (!wrong && fread(p->data, 1, p->bytes, f) != p->bytes) wrong = complain(path, "too short for this input");
    if (!wrong && fgetc(f) != EOF) wrong = complain(path, "too long for this input");
    fclose(f);
    return wrong;
}

static int write_values(const char *path, const mcc_port *p) {
    FILE *f = fopen(path, "wb");
    if (!f) return complain(path, "cannot be written");
    bool good = true;
    if (npy_name(path)) {
        char shape[256], text[512];
        npy_shape(p, shape, sizeof shape);
        const int n = snprintf(text, sizeof text, "{'descr': '%s', 'fortran_order': False, 'shape': %s, }", npy_descr(p->type), shape);
        const size_t length = ((size_t)n + 1 + 10 + 63) / 64 * 64 - 10; /* values begin at a multiple of 64 */
        const unsigned char head[10] = {0x93, 'N', 'U', 'M', 'P', 'Y', 1, 0, (unsigned char)length, (unsigned char)(length >> 8)};
        memset(text + n, ' ', length - (size_t)n);
        text[length - 1] = '\n';
        good = fwrite(head, 1, 10, f) == 10 && fwrite(text, 1, length, f) == length;
    }
    good = good && fwrite(p->data, 1, p->bytes, f) == p->bytes;
    return fclose(f) == 0 && good ? 0 : complain(path, "cannot be written");
}

/* --- arguments ----------------------------------------------------------------------------------- */

static bool number(const char *text, unsigned most, unsigned *out) {
    char *end;
    const unsigned long n = strtoul(text, &end, 10);
    if (*text < '0' || *text > '9' || *end || n > most) return false;
    *out = (unsigned)n;
    return true;
}

static bool add_file(file_arg *files, size_t *count, const char *text) {
    if (*count == MAX_FILES) return false;
    const char *equals = strchr(text, '=');
    files[(*count)++] = (file_arg){text, equals ? equals + 1 : text, equals ? (size_t)(equals - text) : 0};
    return true;
}

static bool parse(int argc, char **argv, options *o) {
    o->threads = o->runs = 1;
    for (int i = 1; i < argc; i++) {
        const char *a = argv[i], *value = i + 1 < argc ? argv[i + 1] : NULL;
        if (strcmp(a, "--json") == 0) { o->json = true; continue; }
        if (strcmp(a, "--ops") == 0) { o->ops = true; continue; }
        if (a[0] != '-') {
            if (o->model) return false;
            o->model = a;
            continue;
        }
        if (!value) return false;
        i++;
        if (strcmp(a, "--input") == 0) { if (!add_file(o->input, &o->inputs, value)) return false; }
        else if (strcmp(a, "--output") == 0) { if (!add_file(o->output, &o->outputs, value)) return false; }
        else if (strcmp(a, "--threads") == 0) { if (!number(value, 64, &o->threads)) return false; }
        else if (strcmp(a, "--runs") == 0) { if (!number(value, 1000000, &o->runs) || !o->runs) return false; }
        else if (strcmp(a, "--isa") == 0) o->isa = value;
        else return false;
    }
    return o->model != NULL;
}

/* The port that `arg` names; without a name, the only one. Complains and returns NULL when there is none. */
static const mcc_port *find(const mcc_net *net, const file_arg *arg, bool input) {
    const size_t count = input ? mcc_inputs(net) : mcc_outputs(net);
    const mcc_port *p = NULL;
    for (size_t i = 0; i < count; i++) {
        p = input ? mcc_input(net, i) : mcc_output(net, i);
        if (arg->name_length ? strlen(p->name) == arg->name_length && memcmp(p->name, arg->name, arg->name_length) == 0 : count == 1)
            return p;
    }
    fprintf(stderr, "mcc-run: %s: %s; the model's are:", arg->name, arg->name_length ? "no such input or output" : "say NAME=FILE");
    for (size_t i = 0; i < count; i++) fprintf(stderr, " %s", (input ? mcc_input(net, i) : mcc_output(net, i))->name);
    fputc('\n', stderr);
    return NULL;
}

/* --- measuring ----------------------------------------------------------------------------------- */

static double now_ms(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec * 1e-6;
}

static int ascending(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Inputs are written before every run: the engine may have reused their place. */
typedef struct saved { void *bytes; const mcc_port *port; } saved;

static int measure(mcc_net *net, unsigned runs, double *ms) {
    const size_t count = mcc_inputs(net);
    saved *inputs = calloc(count + 1, sizeof *inputs);
    int bad = inputs ? 0 : NO_MEMORY;
    for (size_t i = 0; !bad && i < count; i++) {
        inputs[i].port = mcc_input(net, i);
        if (!(inputs[i].bytes = malloc(inputs[i].port->bytes + 1))) bad = NO_MEMORY;
        else memcpy(inputs[i].bytes, inputs[i].port->data, inputs[i].port->bytes);
    }
    for (unsigned r = 0; !bad && r < runs; r++) {
        for (size_t i = 0; i < count; i++) memcpy(inputs[i].port->data, inputs[i].bytes, inputs[i].port->bytes);
        const double before = now_ms();
        mcc_run(net);
        ms[r] = now_ms() - before;
    }
    for (size_t i = 0; inputs && i < count; i++) free(inputs[i].bytes);
    free(inputs);
    qsort(ms, runs, sizeof *ms, ascending);
    return bad;
}

/* Names come from the file: quote what JSON wants quoted. */
static void put_json(const char *text) {
    putchar('"');
    for (const unsigned char *c = (const unsigned char *)text; *c; c++) {
        if (*c == '"' || *c == '\\') printf("\\%c", *c);
        else if (*c < 0x20) printf("\\u%04x", *c);
        else putchar(*c);
    }
    putchar('"');
}

static void report(const mcc_net *net, const options *o, const double *ms, double open_ms) {
    mcc_facts f;
    mcc_describe(net, &f);
    const double median = ms[o->runs / 2], p10 = ms[o->runs / 10], p90 = ms[o->runs - 1 - o->runs / 10];
    const mcc_node_profile *nodes;
    const size_t count = mcc_profile(net, &nodes);
    if (!o->json) {
        printf("median %.4f ms (p10 %.4f, p90 %.4f, %u runs, %u threads), open %.2f ms, activations %zu bytes, weights made at "
               "open %zu bytes, isa %s\n", median, p10, p90, o->runs, f.threads, open_ms, f.arena_bytes, f.weight_bytes, f.isa);
        for (size_t i = 0; o->ops && i < count; i++)
            printf("%9.4f ms %12llu macs  %s (%s%s%s)\n", nodes[i].ms, (unsigned long long)nodes[i].macs, nodes[i].name, nodes[i].op,
                   *nodes[i].kernel ? ", " : "", nodes[i].kernel);
        return;
    }
    printf("{\"schema\":1,\"model\":");
    put_json(o->model);
    printf(",\"isa\":\"%s\",\"threads\":%u,\"latency_ms\":{\"median\":%.6f,\"p10\":%.6f,\"p90\":%.6f,\"runs\":%u},\"cold_start_ms\":%.4f,"
           "\"arena_bytes\":%zu,\"weight_bytes\":%zu", f.isa, f.threads, median, p10, p90, o->runs, open_ms, f.arena_bytes, f.weight_bytes);
    if (o->ops) {
        printf(",\"ops\":[");
        for (size_t i = 0; i < count; i++) {
            printf("%s{\"name\":", i ? "," : "");
            put_json(nodes[i].name);
            printf(",\"op\":\"%s\",\"kernel\":\"%s\",\"ms\":%.6f,\"macs\":%llu}", nodes[i].op, nodes[i].kernel, nodes[i].ms,
                   (unsigned long long)nodes[i].macs);
        }
        putchar(']');
    }
    printf("}\n");
}

static int run(const options *o, mcc_net *net, double open_ms) {
    if (mcc_set_threads(net, o->threads) != MCC_OK) return complain("--threads", mcc_why());
    for (size_t i = 0; i < o->inputs; i++) {
        const mcc_port *p = find(net, &o->input[i], true);
        const int wrong = p ? read_values(o->input[i].path, p) : WRONG;
        if (wrong) return wrong;
    }
    mcc_set_profile(net, o->ops);
    double *ms = calloc(o->runs, sizeof *ms);
    if (!ms || measure(net, o->runs, ms)) {
        free(ms);
        fprintf(stderr, "mcc-run: out of memory\n");
        return NO_MEMORY;
    }
    report(net, o, ms, open_ms);
    free(ms);
    for (size_t i = 0; i < o->outputs; i++) {
        const mcc_port *p = find(net, &o->output[i], false);
        const int wrong = p ? write_values(o->output[i].path, p) : WRONG;
        if (wrong) return wrong;
    }
    return 0;
}

int main(int argc, char **argv) {
    static options o;
    if (!parse(argc, argv, &o)) {
        fputs(usage, stderr);
        return WRONG;
    }
    if (o.isa && mcc_limit_isa(o.isa) != MCC_OK) return complain("--isa", mcc_why());
    const double before = now_ms();
    mcc_net *net;
    const mcc_status status = mcc_open(o.model, &net);
    if (status != MCC_OK) {
        fprintf(stderr, "mcc-run: %s: %s%s%s\n", o.model, mcc_status_text(status), *mcc_why() ? ": " : "", mcc_why());
        return status == MCC_NO_MEMORY ? NO_MEMORY : WRONG;
    }
    const int result = run(&o, net, now_ms() - before);
    mcc_close(net);
    return result;
}
