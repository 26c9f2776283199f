/* fuzz_open.c: opens damaged .mcc files, and runs those that open. Built with AddressSanitizer and UBSan, any
 * wrong access ends it; it ends well when every mutation has given a status.
 *
 *     fuzz-open SEED COUNT FILE.mcc...            mutate the files COUNT times in all
 *     fuzz-open --replay FILE                     open (and run) one file as it is
 *
 * Half of the mutations have their checksums made right again, so that the parser and the ops behind them are
 * reached. Before each try the mutated file is written to `fuzz-last.mcc` in $TMPDIR (for --replay after a crash). */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../kernels/core/state.h"
#include "../kernels/check.h"

/* A hostile file may ask for gigabytes; here that is refused, so that the fuzzer itself stays small. */
const char *__asan_default_options(void) { return "allocator_may_return_null=1:max_allocation_size_mb=512"; }

/* build.c's checksums are all that is needed of the checker. */
static uint64_t state;
static uint32_t random_u32(void) {
    uint64_t z = state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return (uint32_t)((z ^ z >> 31) >> 32);
}
static size_t below(size_t n) { return n ? random_u32() % n : 0; }

typedef struct file { uint8_t *bytes; size_t size; } file;

static file load(const char *path) {
    file f = {0};
    FILE *in = fopen(path, "rb");
    if (!in || fseek(in, 0, SEEK_END) || (f.size = (size_t)ftell(in)) == 0 || fseek(in, 0, SEEK_SET) ||
        !(f.bytes = malloc(f.size)) || fread(f.bytes, 1, f.size, in) != f.size) {
        fprintf(stderr, "fuzz-open: %s: cannot be read\n", path);
        exit(2);
    }
    fclose(in);
    return f;
}

static void save(const char *path, const uint8_t *bytes, size_t size) {
    FILE *out = fopen(path, "wb");
    if (!out || fwrite(bytes, 1, size, out) != size) {
        fprintf(stderr, "fuzz-open: %s: cannot be written\n", path);
        exit(2);
    }
    fclose(out);
}

static uint64_t section_offset(const uint8_t *b, size_t size, size_t *length) {
    uint64_t at = 0, n = 0;
    if (size < 48) return 0;
    memcpy(&at, b + 32, 8); /* the first section is the graph */
    memcpy(&n, b + 40, 8);
    *length = (size_t)n;
    return at > size || n > size - at ? 0 : at;
}

static size_t read_uv(const uint8_t *b, size_t size, size_t *at) {
    size_t value = 0;
    for (unsigned shift = 0; *at < size && shift < 28; shift += 7) {
        value |= (size_t)(b[*at] & 0x7f) << shift;
        if (!(b[(*at)++] & 0x80)) break;
    }
    return value;
}

/* Where the strings of the graph section end. Changing them only renames things, or shifts all that follows. */
static size_t strings_end(const uint8_t *b, size_t size) {
    size_t at = 0;
    for (size_t n = read_uv(b, size, &at); n && at < size; n--) {
        const size_t length = read_uv(b, size, &at);
        at += length;
    }
    return at < size ? at : 0;
}

/* Changes some bytes, mostly in the graph section, since the data is large and dull. `gentle` changes little and never
 * the size or version: for files whose checksums are made right, to get past the parser. */
static size_t mutate(uint8_t *b, size_t size, const file *other, bool gentle) {
    static const uint8_t special[] = {0, 1, 2, 3, 4, 7, 8, 0x10, 0x3f, 0x40, 0x7f, 0x80, 0x81, 0xfe, 0xff};
    size_t graph_size = 0;
    size_t graph = (size_t)section_offset(b, size, &graph_size);
    if (graph && gentle && below(8)) {
        const size_t skip = strings_end(b + graph, graph_size);
        graph += skip, graph_size -= skip;
    }
    for (size_t times = 1 + below(gentle ? 2 : 4); times--;) {
        const bool in_graph = graph && graph_size && below(4);
        const size_t at = in_graph ? graph + below(graph_size) : below(size);
        switch (below(gentle ? 7 : 9)) {
        case 0: case 1: b[at] ^= (uint8_t)(1 << below(8)); break;
        case 2: case 3: b[at] = special[below(sizeof special)]; break;
        case 4: b[at] = (uint8_t)(b[at] + (below(2) ? 1 : -1)); break;
        case 5: { /* a run of bytes */
            const size_t n = 1 + below(gentle ? 2 : 16);
            for (size_t i = at; i < size && i < at + n; i++) b[i] = (uint8_t)random_u32();
            break;
        }
        case 6: { /* a piece of another file, or of this one */
            const size_t from = below(other->size), n = 1 + below(gentle ? 4 : 64);
            for (size_t i = 0; i < n && at + i < size && from + i < other->size; i++) b[at + i] = other->bytes[from + i];
            break;
        }
        case 7: if (!below(8)) size = 1 + below(size); break;                                     /* cut */
        default: if (size > 8 && !below(8)) b[4 + below(4)] = (uint8_t)random_u32();              /* another version */
        }
    }
    return size;
}

/* Has the packed section's key fit the other sections again, so that damaged blocks, and blocks of a damaged graph, are used. */
static void repair_key(uint8_t *b, size_t size) {
    uint32_t count, kind, graph = 0, data = 0;
    uint64_t at = 0, bytes = 0;
    if (size < 24) return;
    memcpy(&count, b + 16, 4);
    if (count > (size - 24) / 24) return;
    for (uint32_t i = 0; i < count; i++) {
        const uint8_t *entry = b + 24 + 24 * (size_t)i;
        memcpy(&kind, entry, 4);
        if (kind == MCC_SECTION_GRAPH) memcpy(&graph, entry + 4, 4);
        if (kind == MCC_SECTION_DATA) memcpy(&data, entry + 4, 4);
        if (kind == MCC_SECTION_PACKED) memcpy(&at, entry + 8, 8), memcpy(&bytes, entry + 16, 8);
    }
    if (bytes < 24 || at > size || size - at < 24) return;
    memcpy(b + at + 12, &graph, 4), memcpy(b + at + 16, &data, 4);
    build_checksums(b, size);
}

typedef struct tally { size_t opened, ran, packed, status[8]; } tally;

static void try_file(const uint8_t *bytes, size_t size, tally *t) {
    uint8_t *copy = mcc_aligned_alloc(size);
    if (!copy) return;
    memcpy(copy, bytes, size);
    mcc_net *net = NULL;
    const mcc_status s = mcc_open_memory(copy, size, &net);
    t->status[s]++;
    if (s == MCC_OK) {
        t->opened++;
        const mcc_node_profile *rows;
        uint64_t macs = 0;
        for (size_t i = mcc_profile(net, &rows); i--;) macs += rows[i].macs;
        mcc_facts facts;
        mcc_describe(net, &facts);
        t->packed += facts.packed == MCC_PACKED_USED;
        if (macs < 100u * 1000 * 1000 && facts.arena_bytes < 64u << 20) {
            for (size_t i = 0; i < mcc_inputs(net); i++) {
                uint8_t *data = mcc_input(net, i)->data;
                for (size_t k = 0; k < mcc_input(net, i)->bytes; k++) data[k] = (uint8_t)random_u32();
            }
            if (!below(8)) mcc_set_threads(net, 2);
            mcc_run(net);
            t->ran++;
        }
    } else if (!*mcc_why()) {
        fprintf(stderr, "fuzz-open: status '%s' without a reason\n", mcc_status_text(s));
        exit(1);
    }
    mcc_close(net);
    mcc_aligned_free(copy);
}

int main(int argc, char **argv) {
    tally t = {0};
    if (argc == 3 && strcmp(argv[1], "--replay") == 0) {
        const file f = load(argv[2]);
        try_file(f.bytes, f.size, &t);
        printf("%s: %s\n", argv[2], t.opened ? "opens" : mcc_why());
        free(f.bytes);
        return 0;
    }
    if (argc < 4) {
        fprintf(stderr, "usage: fuzz-open SEED COUNT FILE.mcc... | fuzz-open --replay FILE\n");
        return 2;
    }
    state = strtoull(argv[1], NULL, 0);
    const size_t count = strtoull(argv[2], NULL, 0), files = (size_t)argc - 3;
    file *seed = calloc(files, sizeof *seed);
    char last[1024];
    snprintf(last, sizeof last, "%s/fuzz-last.mcc", getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp");
    for (size_t i = 0; i < files; i++) {
        seed[i] = load(argv[i + 3]);
        tally whole = {0};
        try_file(seed[i].bytes, seed[i].size, &whole);
        if (!whole.opened) {
            fprintf(stderr, "fuzz-open: %s does not open before mutation: %s\n", argv[i + 3], mcc_why());
            return 2;
        }
    }
    for (size_t n = 0; n < count; n++) {
        const file *from = &seed[n % files], *other = &seed[below(files)];
        uint8_t *b = malloc(from->size);
        memcpy(b, from->bytes, from->size);
        const bool repair = n / files & 1;
        const size_t size = mutate(b, from->size, other, repair);
        if (repair) build_checksums(b, size), repair_key(b, size);
        save(last, b, size);
        try_file(b, size, &t);
        free(b);
    }
    remove(last);
    for (size_t i = 0; i < files; i++) free(seed[i].bytes);
    free(seed);
    printf("%zu mutations of %zu files: %zu opened, %zu ran, %zu with their packed weights; refused:", count, files, t.opened, t.ran,
           t.packed);
    for (int s = 1; s < 8; s++) printf("%s %zu %s", s > 1 ? "," : "", t.status[s], mcc_status_text((mcc_status)s));
    printf("\n0 crashes\n");
    return 0;
}
