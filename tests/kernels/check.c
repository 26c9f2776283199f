/* check.c: the checker. Runs every family of families.def; prints one line per kernel and the count last.
 *
 *     mcc-check [seed] [family...]
 *
 * Needs no Python, so the same program runs on a phone or under qemu. Exit code 1 when something failed. */
#define _GNU_SOURCE
#include "check.h"

#include <math.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "../../kernels/core/element.h"
#include "../../kernels/core/isa.h"

/* --- results ----------------------------------------------------------------------------------- */

static size_t passed, failed, skipped;
static bool failing; /* the kernel being checked has failed */
static char current[160]; /* its name, for the signal handler; else the last one checked */

bool check_failed(void) { return failing; }

void check_fail(const char *name, const char *format, ...) {
    if (failing) return;
    failing = true;
    failed++;
    printf("  FAIL %s: ", name);
    va_list args;
    va_start(args, format);
    vprintf(format, args);
    va_end(args);
    printf("\n");
    fflush(stdout);
}

void check_skip(const char *name, const char *why) {
    printf("  skip %s (%s)\n", name, why);
    fflush(stdout);
    skipped++;
}

bool check_can(const char *name, uint32_t isa) {
    failing = false;
    snprintf(current, sizeof current, "%s", name);
    if ((isa & mcc_isa()) == isa) return true;
    char words[128];
    mcc_isa_text(isa & ~mcc_isa(), words, sizeof words);
    char why[160];
    snprintf(why, sizeof why, "needs %s", words[0] == 'c' && words[1] == ' ' ? words + 2 : words);
    check_skip(name, why);
    return false;
}

void check_ok(const char *name, size_t cases) {
    check_free_all(name);
    if (!failing) {
        if (cases) {
            passed++;
            printf("  ok   %s (%zu cases)\n", name, cases);
        } else {
            check_fail(name, "no case was run");
        }
    }
    failing = false;
    snprintf(current, sizeof current, "what comes after %s", name);
    fflush(stdout);
}

/* --- memory ------------------------------------------------------------------------------------ */

enum { GUARD = 256, PATTERN = 0xa5 };
typedef struct block {
    struct block *next;
    uint8_t *base, *memory;
    size_t bytes, mapped; /* mapped > 0: base is a mapping of that size */
} block;
static block *blocks;

static void *out_of_memory(void) {
    fprintf(stderr, "mcc-check: out of memory\n");
    exit(2);
}

static block *new_block(size_t bytes) {
    block *b = calloc(1, sizeof *b);
    if (!b) out_of_memory();
    b->bytes = bytes;
    b->next = blocks;
    return blocks = b;
}

void *check_alloc(size_t bytes) {
    block *b = new_block(bytes);
    b->base = malloc(bytes + 2 * GUARD + 64);
    if (!b->base) out_of_memory();
    b->memory = b->base + GUARD;
    b->memory += (64 - (uintptr_t)b->memory % 64) % 64;
    memset(b->base, PATTERN, bytes + 2 * GUARD + 64);
    return b->memory;
}

void *check_alloc_end(size_t bytes) {
    const size_t page = (size_t)sysconf(_SC_PAGESIZE), body = (bytes + GUARD + page - 1) / page * page;
    uint8_t *base = mmap(NULL, body + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (base == MAP_FAILED || mprotect(base + body, page, PROT_NONE)) return out_of_memory();
    block *b = new_block(bytes);
    b->base = base;
    b->mapped = body + page;
    b->memory = base + body - bytes;
    memset(base, PATTERN, body);
    return b->memory;
}

static bool all_pattern(const uint8_t *p, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (p[i] != PATTERN) return false;
    return true;
}

void check_free_all(const char *name) {
    for (block *b = blocks, *next; b; b = next) {
        next = b->next;
        if (!all_pattern(b->memory - GUARD, GUARD)) check_fail(name, "wrote before the start of %zu bytes", b->bytes);
        if (!b->mapped && !all_pattern(b->memory + b->bytes, GUARD)) check_fail(name, "wrote past the end of %zu bytes", b->bytes);
        if (b->mapped) munmap(b->base, b->mapped);
        else free(b->base);
        free(b);
    }
    blocks = NULL;
}

/* --- random numbers: splitmix64 ---------------------------------------------------------------- */

static uint64_t state;

uint32_t check_u32(void) {
    uint64_t z = state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return (uint32_t)((z ^ z >> 31) >> 32);
}

int check_int(int lo, int hi) { return lo + (int)(check_u32() % ((uint32_t)(hi - lo) + 1)); }

float check_normal(void) { /* the sum of twelve uniforms: cheap, bounded by 6, good enough to compare kernels on */
    double sum = -6;
    for (int i = 0; i < 12; i++) sum += check_u32() * 0x1p-32;
    return (float)sum;
}

void check_fill_s8(int8_t *out, size_t count) {
    const uint32_t style = check_u32() % 16;
    for (size_t i = 0; i < count; i++)
        out[i] = (int8_t)(style == 0 ? -128 : style == 1 ? 127 : style == 2 ? (i & 1 ? 127 : -128) : style == 3 ? 0 : check_int(-128, 127));
}

void check_fill_u8(uint8_t *out, size_t count) {
    check_fill_s8((int8_t *)out, count);
    for (size_t i = 0; i < count; i++) out[i] ^= 0x80;
}

void check_fill_s32(int32_t *out, size_t count, int32_t limit) {
    const uint32_t style = check_u32() % 16;
    for (size_t i = 0; i < count; i++) {
        const int32_t any = (int32_t)(check_u32() % (2 * (uint32_t)limit + 1)) - limit;
        out[i] = style == 0 ? -limit : style == 1 ? limit : style == 2 ? (i & 1 ? limit : -limit) : style == 3 ? 0 : any;
    }
}

void check_fill_f32(float *out, size_t count) {
    const uint32_t style = check_u32() % 20;
    for (size_t i = 0; i < count; i++) {
        const float x = check_normal();
        out[i] = style == 0 ? 0 : style == 1 ? x * 1e4f : style == 2 ? x * 1e-6f : style == 3 ? (i & 1 ? 1 : -1) : style == 4 ? fabsf(x) : x;
    }
}

void check_fill_f16(uint16_t *out, size_t count) {
    const uint32_t style = check_u32() % 20;
    for (size_t i = 0; i < count; i++) {
        const float x = check_normal();
        out[i] = mcc_f16_of_f32(style == 0 ? 0 : style == 1 ? x * 8 : style == 2 ? x * 1e-3f : style == 3 ? (i & 1 ? 1 : -1) : style == 4 ? fabsf(x) : x);
    }
}

void *check_some(size_t elem, size_t count) {
    void *p = check_alloc_end(count * elem);
    if (elem == 2) check_fill_f16(p, count);
    else check_fill_f32(p, count);
    return p;
}

double check_at(size_t elem, const void *p, size_t i) {
    return elem == 2 ? mcc_f32_of_f16(((const uint16_t *)p)[i]) : ((const float *)p)[i];
}

double check_slack(size_t elem, size_t depth, double size) {
    const double steps = sqrt((double)depth + 4);
    return elem == 2 ? 3 * 0x1p-11 * steps * size + 0x1p-24 * (double)(depth + 4) : 1e-6 * steps * size;
}

bool check_close(float got, float want, float tolerance, float scale) {
    if (isnan(want) || isnan(got)) return isnan(want) && isnan(got);
    if (isinf(want) || isinf(got)) return got == want;
    return fabsf(got - want) <= tolerance * (fabsf(want) + scale);
}

/* --- signals ----------------------------------------------------------------------------------- */

/* A store past a guard page ends here. Only write and _exit are allowed; sanitizers have handlers of their own. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
enum { CATCH = 0 };
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) || __has_feature(memory_sanitizer)
enum { CATCH = 0 };
#else
enum { CATCH = 1 };
#endif
#else
enum { CATCH = 1 };
#endif

static char seed_text[32];

static void put(const char *text) {
    size_t n = 0;
    while (text[n]) n++;
    if (write(STDOUT_FILENO, text, n) < 0) _exit(1);
}

static void caught(int number, siginfo_t *info, void *context) {
    (void)context;
    put("  FAIL ");
    put(*current ? current : "the first kernel");
    put(number == SIGSEGV ? ": signal SIGSEGV" : number == SIGBUS ? ": signal SIGBUS" : ": signal SIGILL");
    char at[2 * sizeof(uintptr_t) + 1];
    uintptr_t address = (uintptr_t)info->si_addr;
    for (size_t i = sizeof at - 1; i-- > 0; address >>= 4) at[i] = "0123456789abcdef"[address & 15];
    at[sizeof at - 1] = 0;
    put(" at 0x"), put(at), put(", seed "), put(seed_text), put("\n");
    _exit(1);
}

static void catch_signals(void) {
    static char space[64 << 10]; /* a stack overflow leaves no other room */
    const stack_t stack = {.ss_sp = space, .ss_size = sizeof space};
    struct sigaction action = {.sa_sigaction = caught, .sa_flags = SA_SIGINFO | SA_ONSTACK | (int)SA_RESETHAND};
    const int numbers[] = {SIGSEGV, SIGBUS, SIGILL};
    sigaltstack(&stack, NULL);
    sigemptyset(&action.sa_mask);
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) sigaction(numbers[i], &action, NULL);
}

/* --- main -------------------------------------------------------------------------------------- */

#ifdef MCC_SUBSET /* families left out are absent (core/ops.h) */
#define CHECK(name) void check_##name(void) __attribute__((weak));
#else
#define CHECK(name) void check_##name(void);
#endif
#include "families.def"
#undef CHECK
static const struct { const char *name; void (*run)(void); } families[] = {
#define CHECK(name) {#name, check_##name},
#include "families.def"
#undef CHECK
};

static bool wanted(const char *name, int argc, char **argv) {
    for (int i = 2; i < argc; i++)
        if (strcmp(argv[i], name) == 0) return true;
    return argc <= 2;
}

int main(int argc, char **argv) {
    const unsigned long seed = argc > 1 ? strtoul(argv[1], NULL, 0) : (unsigned long)time(NULL);
    char isa[128];
    mcc_isa_text(mcc_isa(), isa, sizeof isa);
    printf("seed %lu, isa %s\n", seed, isa);
    fflush(stdout);
    snprintf(seed_text, sizeof seed_text, "%lu", seed);
    if (CATCH) catch_signals();
    for (size_t i = 0; i < sizeof families / sizeof *families; i++) {
        if (!families[i].run || !wanted(families[i].name, argc, argv)) continue;
        printf("%s\n", families[i].name);
        fflush(stdout);
        state = seed + i;
        families[i].run();
    }
    if (skipped) printf("%zu skipped\n", skipped);
    printf("%zu passed, %zu failed\n", passed, failed);
    return failed != 0 || passed == 0;
}
