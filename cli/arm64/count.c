/* count.c: a plugin of qemu-user that counts how often every translated block of an arm64 program runs, by region.
 *
 *     cc -O2 -shared -fPIC count.c -o count.so
 *     qemu-aarch64 -plugin ./count.so,out=FILE[,caches=32+512+2048] PROGRAM
 *
 * A program enters region R >= 0 with the system call MARK and R as its argument, and leaves it with -1 (kernels/core/mark.h).
 * FILE has a line for each time that a region was left,
 *
 *     {"region": R, "blocks": [[BLOCK, TIMES], ...], "lines": [L1, L2, ..., WRITTEN]}
 *
 * (lines, only with caches=: how many lines of 64 bytes each level fetched, and how many the last one wrote to memory),
 * and, when the program has ended, a last line with the instructions of each block, eight hexadecimal digits for each:
 *
 *     {"words": ["d503201fd65f03c0", ...]}
 *
 * What the instructions are is the reader's business (classes.py). Threads other than the first are not told apart, and their
 * counts are not exact: run with one. */
#include <inttypes.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* --- what is used of the plugin interface, version 1: distributions ship no header for it ---------- */

#define API __attribute__((visibility("default")))
typedef uint64_t plugin_id;
typedef struct plugin_info {
    const char *target;
    struct { int least, now; } version;
    bool system;
    union { struct { int cpus, most; } machine; } more;
} plugin_info;
struct qemu_plugin_tb;
struct qemu_plugin_insn;
enum { INLINE_ADD_U64 = 0, NO_REGISTERS = 0, READS_AND_WRITES = 3 };

void qemu_plugin_register_vcpu_tb_trans_cb(plugin_id, void (*)(plugin_id, struct qemu_plugin_tb *));
void qemu_plugin_register_vcpu_tb_exec_inline(struct qemu_plugin_tb *, int op, void *counter, uint64_t add);
void qemu_plugin_register_vcpu_syscall_cb(plugin_id, void (*)(plugin_id, unsigned, int64_t, uint64_t, uint64_t, uint64_t, uint64_t,
                                                              uint64_t, uint64_t, uint64_t, uint64_t));
void qemu_plugin_register_vcpu_mem_cb(struct qemu_plugin_insn *, void (*)(unsigned, uint32_t, uint64_t, void *), int flags, int which,
                                      void *);
bool qemu_plugin_mem_is_store(uint32_t);
void qemu_plugin_register_atexit_cb(plugin_id, void (*)(plugin_id, void *), void *);
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *);
uint64_t qemu_plugin_tb_vaddr(const struct qemu_plugin_tb *);
struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *, size_t);
const void *qemu_plugin_insn_data(const struct qemu_plugin_insn *);
API extern int qemu_plugin_version;
int qemu_plugin_version = 1;

/* --- caches ------------------------------------------------------------------------------------------
 * Least recently used, write back; what a level throws out the next one takes. The traffic only: nothing is fetched ahead. */

enum { LINE = 6, WAYS = 16, MOST_LEVELS = 3 };
static const uint64_t DIRTY = UINT64_C(1) << 63;

/* Tags are line numbers + 1, so that 0 is an empty way; the one used last stands first. */
static struct cache { uint64_t sets, fetched, before, (*tag)[WAYS]; } cache[MOST_LEVELS];
static int levels;
static uint64_t written, written_before;

/* whole: all of the line is overwritten, nothing need be fetched. */
static void touch(int level, uint64_t line, bool write, bool whole) {
    if (level == levels) {
        written += write;
        return;
    }
    struct cache *c = &cache[level];
    uint64_t *way = c->tag[line % c->sets], found = line + 1;
    int at = 0;
    while (at < WAYS - 1 && (way[at] & ~DIRTY) != found) at++;
    const uint64_t out_of = way[at];
    const bool hit = (out_of & ~DIRTY) == found;
    memmove(way + 1, way, (size_t)at * sizeof *way);
    way[0] = found | (write ? DIRTY : 0) | (hit ? out_of & DIRTY : 0);
    if (hit) return;
    if (!whole) {
        c->fetched++;
        touch(level + 1, line, false, false);
    }
    if (out_of & DIRTY) touch(level + 1, (out_of & ~DIRTY) - 1, true, true);
}

static bool make_caches(const char *text) {
    for (char *end; levels < MOST_LEVELS && *text; text = *end ? end + 1 : end, levels++) {
        struct cache *c = &cache[levels];
        c->sets = strtoull(text, &end, 10) * 1024 >> LINE;
        c->sets /= WAYS;
        if (end == text || !c->sets || (*end && *end != '+')) return false;
        c->tag = calloc(c->sets, sizeof *c->tag);
        if (!c->tag) return false;
    }
    return levels && !*text;
}

/* --- blocks ------------------------------------------------------------------------------------------ */

enum { MARK = 0x6d6363, MOST_WORDS = 1024, BUCKETS = 1 << 16 };

/* qemu forgets translations and makes them again: the same words at the same address are the same block. */
typedef struct block {
    struct block *next, *same_bucket;
    uint64_t times, before, address; /* before: `times` when the region was entered */
    uint64_t number;
    uint32_t words, word[];
} block;

static block *bucket[BUCKETS], *first, **last = &first;
static uint64_t blocks;
static long region = -1;
static FILE *out;

static block *find(uint64_t address, const uint32_t *word, uint32_t words) {
    block **b = &bucket[(address >> 2 ^ address >> 18) % BUCKETS];
    for (; *b; b = &(*b)->same_bucket)
        if ((*b)->address == address && (*b)->words == words && memcmp((*b)->word, word, words * sizeof *word) == 0) return *b;
    *b = calloc(1, sizeof **b + words * sizeof *word);
    if (!*b) {
        fprintf(stderr, "count: out of memory\n");
        exit(4);
    }
    (*b)->address = address, (*b)->words = words, (*b)->number = blocks++;
    memcpy((*b)->word, word, words * sizeof *word);
    *last = *b, last = &(*b)->next;
    return *b;
}

static void accessed(unsigned cpu, uint32_t how, uint64_t address, void *unused) {
    (void)cpu, (void)unused;
    if (region >= 0) touch(0, address >> LINE, qemu_plugin_mem_is_store(how), false);
}

static void translated(plugin_id id, struct qemu_plugin_tb *tb) {
    (void)id;
    uint32_t word[MOST_WORDS];
    const size_t all = qemu_plugin_tb_n_insns(tb), words = all < MOST_WORDS ? all : MOST_WORDS;
    for (size_t i = 0; i < words; i++) memcpy(&word[i], qemu_plugin_insn_data(qemu_plugin_tb_get_insn(tb, i)), sizeof *word);
    for (size_t i = 0; levels && i < all; i++)
        qemu_plugin_register_vcpu_mem_cb(qemu_plugin_tb_get_insn(tb, i), accessed, NO_REGISTERS, READS_AND_WRITES, NULL);
    block *b = find(qemu_plugin_tb_vaddr(tb), word, (uint32_t)words);
    qemu_plugin_register_vcpu_tb_exec_inline(tb, INLINE_ADD_U64, &b->times, 1);
}

static void leave(void) {
    const char *comma = "";
    fprintf(out, "{\"region\": %ld, \"blocks\": [", region);
    for (const block *b = first; b; b = b->next) {
        if (b->times == b->before) continue;
        fprintf(out, "%s[%" PRIu64 ", %" PRIu64 "]", comma, b->number, b->times - b->before);
        comma = ", ";
    }
    fprintf(out, "]");
    if (levels) {
        fprintf(out, ", \"lines\": [");
        for (int i = 0; i < levels; i++) fprintf(out, "%" PRIu64 ", ", cache[i].fetched - cache[i].before);
        fprintf(out, "%" PRIu64 "]", written - written_before);
    }
    fprintf(out, "}\n");
}

static void called(plugin_id id, unsigned cpu, int64_t number, uint64_t a1, uint64_t a2, uint64_t a3, uint64_t a4, uint64_t a5,
                   uint64_t a6, uint64_t a7, uint64_t a8) {
    (void)id, (void)cpu, (void)a2, (void)a3, (void)a4, (void)a5, (void)a6, (void)a7, (void)a8;
    if (number != MARK) return;
    if (region >= 0) leave();
    region = (long)a1;
    for (block *b = first; b; b = b->next) b->before = b->times;
    for (int i = 0; i < levels; i++) cache[i].before = cache[i].fetched;
    written_before = written;
}

static void ended(plugin_id id, void *unused) {
    (void)id, (void)unused;
    fprintf(out, "{\"words\": [");
    for (const block *b = first; b; b = b->next) {
        fprintf(out, "%s\"", b == first ? "" : ", ");
        for (uint32_t i = 0; i < b->words; i++) fprintf(out, "%08" PRIx32, b->word[i]);
        fputc('"', out);
    }
    fprintf(out, "]}\n");
    if (ferror(out) | fclose(out)) fprintf(stderr, "count: the counts could not be written\n");
}

API int qemu_plugin_install(plugin_id id, const plugin_info *info, int argc, char **argv);
int qemu_plugin_install(plugin_id id, const plugin_info *info, int argc, char **argv) {
    if (strcmp(info->target, "aarch64") != 0 || argc < 1 || argc > 2 || strncmp(argv[0], "out=", 4) != 0 ||
        (argc == 2 && (strncmp(argv[1], "caches=", 7) != 0 || !make_caches(argv[1] + 7)))) {
        fprintf(stderr, "count: for qemu-aarch64, with out=FILE and caches=KB+KB+KB\n");
        return 1;
    }
    if (!(out = fopen(argv[0] + 4, "w"))) {
        fprintf(stderr, "count: %s cannot be written\n", argv[0] + 4);
        return 1;
    }
    qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
    qemu_plugin_register_vcpu_syscall_cb(id, called);
    qemu_plugin_register_atexit_cb(id, ended, NULL);
    return 0;
}
