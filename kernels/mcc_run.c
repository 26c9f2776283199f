/* mcc_run.c: run a .mcc model on a device, without Python; `usage` below says how. */
#define _POSIX_C_SOURCE 200809L
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "mcc.h"

enum { MAX_FILES = 256, MAX_RUNS = 1000000, OPS_RUNS = 50, WRONG = 2, NO_MEMORY = 4 };

typedef struct file_arg { const char *name, *path; size_t name_length; } file_arg;

typedef struct options {
    const char *model, *isa;
    file_arg input[MAX_FILES], output[MAX_FILES];
    size_t inputs, outputs;
    unsigned threads, runs;
    double warm, seconds;
    bool json, ops, help;
} options;

static const char usage[] =
    "usage: mcc-run MODEL.mcc [--input [NAME=]FILE]... [--output [NAME=]FILE]... [--threads N] [--runs N]\n"
    "               [--warm SECONDS] [--seconds SECONDS] [--isa \"WORDS\"] [--ops] [--json]\n";

static const char details[] =
    "\n"
    "Runs the model once, then N times more, and prints times and facts.\n"
    "  --input, --output  FILE.npy is numpy's format, anything else the bare values, little-endian, row-major. The name may be\n"
    "                     left out where there is only one. Inputs that are not given are zeros; outputs are written where\n"
    "                     asked for.\n"
    "  --threads N        1 (default) to 64; 0: as many as pay, found by a few runs\n"
    "  --runs N           timed runs after the first one; default 0: the first is all there is\n"
    "  --warm SECONDS     untimed runs before those, so that the clock has risen\n"
    "  --seconds SECONDS  more timed runs than N, until so much time is over\n"
    "  --isa \"WORDS\"      keep only these instruction sets (\"avx2\", \"c\")\n"
    "  --ops              time every node: medians of up to 50 runs more; with N = 0 the first run\n"
    "  --json             {\"schema\", \"model\", \"isa\", \"threads\", \"latency_ms\": {\"median\", \"p10\", \"p90\", \"min\", \"runs\"} of\n"
    "                     the N runs, or of the first when N is 0, \"cold_start_ms\" from the start of the process to the first\n"
    "                     result, and of that \"open_ms\" and \"first_run_ms\", \"peak_rss_bytes\" (0: unknown),\n"
    "                     \"arena_bytes\", \"weight_bytes\", \"ops\"; on arm64 the \"core\" by its \"midr\" (\"\": unknown)}\n"
    "Exit codes: 0 done, 2 wrong arguments or files, 4 out of memory.\n";

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

static bool duration(const char *text, double *out) {
    char *end;
    *out = strtod(text, &end);
    return *text >= '0' && *text <= '9' && !*end && *out <= 3600;
}

static bool add_file(file_arg *files, size_t *count, const char *text) {
    if (*count == MAX_FILES) return false;
    const char *equals = strchr(text, '=');
    files[(*count)++] = (file_arg){text, equals ? equals + 1 : text, equals ? (size_t)(equals - text) : 0};
    return true;
}

static bool parse(int argc, char **argv, options *o) {
    o->threads = 1;
    for (int i = 1; i < argc; i++) {
        const char *a = argv[i], *value = i + 1 < argc ? argv[i + 1] : NULL;
        if (strcmp(a, "--json") == 0) { o->json = true; continue; }
        if (strcmp(a, "--ops") == 0) { o->ops = true; continue; }
        if (strcmp(a, "--help") == 0) return o->help = true;
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
        else if (strcmp(a, "--runs") == 0) { if (!number(value, MAX_RUNS, &o->runs)) return false; }
        else if (strcmp(a, "--warm") == 0) { if (!duration(value, &o->warm)) return false; }
        else if (strcmp(a, "--seconds") == 0) { if (!duration(value, &o->seconds)) return false; }
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

/* What has passed since the process began: its CPU time so far. Starting a process is all work and no waiting, and no clock
 * says better: the start time that Linux tells is in hundredths of a second. */
static double since_start_ms(void) {
    struct timespec t;
    if (clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t)) return 0;
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec * 1e-6;
}

/* Linux only: getrusage would tell of the parent too, whose pages a new process had before it became this one. */
static size_t peak_rss_bytes(void) {
    FILE *f = fopen("/proc/self/status", "r");
    char line[256];
    unsigned long long kb = 0;
    while (f && fgets(line, sizeof line, f) && sscanf(line, "VmHWM: %llu", &kb) != 1) {}
    if (f) fclose(f);
    return (size_t)kb << 10;
}

static int ascending(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

typedef struct times {
    double started, open, first, cold; /* started: by now_ms, when main began, less what the process had taken before */
    double *run;                       /* of `runs` runs, ascending */
    double *node;                      /* of each node, its median; NULL: as mcc_profile says */
    size_t runs;
} times;

/* The values of the inputs: written before every run, since the engine may have reused their place. NULL: no memory. */
static void **save_inputs(const mcc_net *net) {
    const size_t count = mcc_inputs(net);
    void **saved = calloc(count + 1, sizeof *saved);
    for (size_t i = 0; saved && i < count; i++) {
        const mcc_port *p = mcc_input(net, i);
        if (!(saved[i] = malloc(p->bytes + 1))) return NULL;
        memcpy(saved[i], p->data, p->bytes);
    }
    return saved;
}

/* Milliseconds of a run with the inputs as they were. */
static double once(mcc_net *net, void *const *saved) {
    const size_t inputs = mcc_inputs(net);
    for (size_t i = 0; i < inputs; i++) memcpy(mcc_input(net, i)->data, saved[i], mcc_input(net, i)->bytes);
    const double before = now_ms();
    mcc_run(net);
    return now_ms() - before;
}

/* Medians of the nodes' times over `runs` runs with the profile on; false: no memory. */
static bool measure_nodes(mcc_net *net, void *const *saved, size_t runs, times *t) {
    const mcc_node_profile *nodes;
    const size_t count = mcc_profile(net, &nodes);
    double *spent = calloc(count * runs + 1, sizeof *spent);
    t->node = calloc(count + 1, sizeof *t->node);
    if (!spent || !t->node) return free(spent), false;
    mcc_set_profile(net, 1);
    for (size_t r = 0; r < runs; r++) {
        once(net, saved);
        mcc_profile(net, &nodes);
        for (size_t i = 0; i < count; i++) spent[i * runs + r] = nodes[i].ms;
    }
    for (size_t i = 0; i < count; i++) {
        qsort(spent + i * runs, runs, sizeof *spent, ascending);
        t->node[i] = spent[i * runs + runs / 2];
    }
    free(spent);
    return true;
}

static int measure(mcc_net *net, const options *o, times *t) {
    void **saved = save_inputs(net);
    if (!saved) return NO_MEMORY;
    mcc_set_profile(net, o->ops && !o->runs);
    t->first = once(net, saved), t->cold = now_ms() - t->started;
    double typical = t->first;
    for (const double end = now_ms() + o->warm * 1e3; o->runs && now_ms() < end;) typical = once(net, saved);
    const double more = o->seconds * 1e3 / (typical > 1e-3 ? typical : 1e-3);
    t->runs = more > MAX_RUNS ? MAX_RUNS : more > o->runs ? (size_t)more : o->runs;
    if (!o->runs) t->runs = 1;
    if (!(t->run = calloc(t->runs, sizeof *t->run))) return NO_MEMORY;
    if (!o->runs) t->run[0] = t->first;
    size_t done = 0;
    for (const double end = now_ms() + o->seconds * 1e3; o->runs && done < t->runs && (done < o->runs || now_ms() < end); done++)
        t->run[done] = once(net, saved);
    if (o->runs) t->runs = done;
    if (o->ops && o->runs && !measure_nodes(net, saved, done < OPS_RUNS ? done : OPS_RUNS, t)) return NO_MEMORY;
    qsort(t->run, t->runs, sizeof *t->run, ascending);
    for (size_t i = 0; i < mcc_inputs(net); i++) free(saved[i]);
    free(saved);
    return 0;
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

static void report(const mcc_net *net, const options *o, const times *t) {
    mcc_facts f;
    mcc_describe(net, &f);
    const double median = t->run[t->runs / 2], p10 = t->run[t->runs / 10], p90 = t->run[t->runs - 1 - t->runs / 10];
    const size_t peak = peak_rss_bytes();
    const mcc_node_profile *nodes;
    const size_t count = mcc_profile(net, &nodes);
    if (!o->json) {
        printf("median %.4f ms (p10 %.4f, p90 %.4f, %zu run%s, %u threads), isa %s\n", median, p10, p90, t->runs,
               t->runs == 1 ? "" : "s", f.threads, f.isa);
        if (f.midr) printf("core %s (MIDR 0x%08x)\n", *f.core ? f.core : "unknown", f.midr);
        printf("start to first result %.2f ms (open %.2f, first run %.2f)\n", t->cold, t->open, t->first);
        printf("activations %zu bytes, weights made at open %zu bytes, peak resident %zu bytes\n", f.arena_bytes, f.weight_bytes,
               peak);
        for (size_t i = 0; o->ops && i < count; i++)
            printf("%9.4f ms %12llu macs  %s (%s%s%s)\n", t->node ? t->node[i] : nodes[i].ms, (unsigned long long)nodes[i].macs, nodes[i].name,
                   nodes[i].op, *nodes[i].kernel ? ", " : "", nodes[i].kernel);
        return;
    }
    printf("{\"schema\":1,\"model\":");
    put_json(o->model);
    printf(",\"isa\":\"%s\",\"threads\":%u,\"latency_ms\":{\"median\":%.6f,\"p10\":%.6f,\"p90\":%.6f,\"min\":%.6f,\"runs\":%zu}",
           f.isa, f.threads, median, p10, p90, t->run[0], t->runs);
    if (f.midr) printf(",\"core\":\"%s\",\"midr\":\"0x%08x\"", f.core, f.midr);
    printf(",\"cold_start_ms\":%.4f,\"open_ms\":%.4f,\"first_run_ms\":%.4f", t->cold, t->open, t->first);
    printf(",\"peak_rss_bytes\":%zu,\"arena_bytes\":%zu,\"weight_bytes\":%zu", peak, f.arena_bytes, f.weight_bytes);
    if (o->ops) {
        printf(",\"ops\":[");
        for (size_t i = 0; i < count; i++) {
            printf("%s{\"name\":", i ? "," : "");
            put_json(nodes[i].name);
            printf(",\"op\":\"%s\",\"kernel\":\"%s\",\"ms\":%.6f,\"macs\":%llu}", nodes[i].op, nodes[i].kernel,
                   t->node ? t->node[i] : nodes[i].ms, (unsigned long long)nodes[i].macs);
        }
        putchar(']');
    }
    printf("}\n");
}

static int run(const options *o, mcc_net *net, times *t) {
    if (mcc_set_threads(net, o->threads) != MCC_OK) return complain("--threads", mcc_why());
    for (size_t i = 0; i < o->inputs; i++) {
        const mcc_port *p = find(net, &o->input[i], true);
        const int wrong = p ? read_values(o->input[i].path, p) : WRONG;
        if (wrong) return wrong;
    }
    if (measure(net, o, t)) {
        fprintf(stderr, "mcc-run: out of memory\n");
        return NO_MEMORY;
    }
    report(net, o, t);
    for (size_t i = 0; i < o->outputs; i++) {
        const mcc_port *p = find(net, &o->output[i], false);
        const int wrong = p ? write_values(o->output[i].path, p) : WRONG;
        if (wrong) return wrong;
    }
    return 0;
}

int main(int argc, char **argv) {
    const double before_main = since_start_ms(), started = now_ms();
    static options o;
    if (!parse(argc, argv, &o)) {
        fputs(usage, stderr);
        return WRONG;
    }
    if (o.help) {
        printf("%s%s", usage, details);
        return 0;
    }
    if (o.isa && mcc_limit_isa(o.isa) != MCC_OK) return complain("--isa", mcc_why());
    times t = {.started = started - before_main};
    const double before = now_ms();
    mcc_net *net;
    const mcc_status status = mcc_open(o.model, &net);
    if (status != MCC_OK) {
        fprintf(stderr, "mcc-run: %s: %s%s%s\n", o.model, mcc_status_text(status), *mcc_why() ? ": " : "", mcc_why());
        return status == MCC_NO_MEMORY ? NO_MEMORY : WRONG;
    }
    t.open = now_ms() - before;
    const int result = run(&o, net, &t);
    free(t.run);
    free(t.node);
    mcc_close(net);
    return result;
}
