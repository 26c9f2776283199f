/* isa.c: what this CPU and its operating system support.
 *
 * The CPU is asked itself (cpuid and xgetbv on x86-64, the kernel's auxiliary vector or sysctl on arm64):
 * compiler helpers depend on the C library and have been seen to miss AVX-512. */
#if defined(__linux__)
#define _GNU_SOURCE
#endif
#include "isa.h"
#include "names.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>

static const struct { mcc_what word; uint32_t bit; } words[] = {
    {"c", MCC_ISA_c},
    {"avx2", MCC_ISA_avx2},
    {"avx512", MCC_ISA_avx512},
    {"avx512vnni", MCC_ISA_avx512vnni},
    {"avx512vbmi", MCC_ISA_avx512vbmi},
    {"avx512bf16", MCC_ISA_avx512bf16},
    {"avx512amx", MCC_ISA_avx512amx},
    {"neon", MCC_ISA_neon},
    {"neondot", MCC_ISA_neondot},
    {"neonfp16", MCC_ISA_neonfp16},
    {"neoni8mm", MCC_ISA_neoni8mm},
    {"neonbf16", MCC_ISA_neonbf16},
    {"sve2", MCC_ISA_sve2},
    {"neoncrc", MCC_ISA_neoncrc},
};
enum { WORDS = sizeof words / sizeof *words };

#define DETECTED (1u << 31) /* not a feature: `found` has been filled in */
#define FETCHES (1u << 30)  /* nor is this: mcc_fetches_alone */

#if defined(__x86_64__)
#include <cpuid.h>
#if defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif

static uint64_t xcr0(void) {
    uint32_t lo, hi;
    __asm__ volatile("xgetbv" : "=a"(lo), "=d"(hi) : "c"(0));
    return (uint64_t)hi << 32 | lo;
}

/* The tiles' 8 KB of state are lent to a process that asks for them (Linux, Documentation/arch/x86/xstate.rst); the
 * threads it starts have them too. Where the answer is no, or another system asks in another way, there are no tiles. */
static bool tiles_granted(uint64_t os) {
    enum { ask = 0x1023, tile_data = 18 }; /* ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA */
    if ((os >> 17 & 3) != 3) return false;
#if defined(__linux__)
    return syscall(SYS_arch_prctl, ask, tile_data) == 0;
#else
    return false;
#endif
}

static uint32_t detect(void) {
    uint32_t a, b, c, d;
    if (!__get_cpuid(0, &a, &b, &c, &d)) return 0;
    const uint32_t fetches = b == 0x68747541 ? FETCHES : 0; /* "Auth"enticAMD */
    if (!__get_cpuid(1, &a, &b, &c, &d)) return fetches;
    const bool osxsave = c >> 27 & 1, avx = c >> 28 & 1, fma = c >> 12 & 1, f16c = c >> 29 & 1, pclmul = c >> 1 & 1;
    if (!osxsave || !avx || !fma || !f16c || !pclmul) return fetches;
    const uint64_t os = xcr0();
    uint32_t b7, c7, d7, a71 = 0;
    if ((os & 0x6) != 0x6 || !__get_cpuid_count(7, 0, &a, &b7, &c7, &d7)) return fetches;
    if (a >= 1 && !__get_cpuid_count(7, 1, &a71, &b, &c, &d)) a71 = 0;
    uint32_t have = fetches;
    if ((b7 >> 5 & 1) && (b7 >> 8 & 1)) have |= MCC_ISA_avx2; /* AVX2 and BMI2 */
    const bool f = b7 >> 16 & 1, dq = b7 >> 17 & 1, bw = b7 >> 30 & 1, vl = b7 >> 31 & 1;
    if (have == fetches || !(f && dq && bw && vl) || (os & 0xe6) != 0xe6) return have;
    have |= MCC_ISA_avx512;
    if (c7 >> 11 & 1) have |= MCC_ISA_avx512vnni;
    if (c7 >> 1 & 1) have |= MCC_ISA_avx512vbmi;
    if (a71 >> 5 & 1) have |= MCC_ISA_avx512bf16;
    const uint32_t both = MCC_ISA_avx512vnni | MCC_ISA_avx512bf16;
    const bool bf16 = d7 >> 22 & 1, tile = d7 >> 24 & 1, int8 = d7 >> 25 & 1;
    if ((have & both) == both && bf16 && tile && int8 && tiles_granted(os)) have |= MCC_ISA_avx512amx;
    return have;
}

#elif defined(__aarch64__) && defined(__linux__)
#include <sys/auxv.h>

/* The bits of the kernel's arch/arm64/include/uapi/asm/hwcap.h; older C libraries lack the newer names. */
static uint32_t detect(void) {
    const unsigned long cap = getauxval(AT_HWCAP), cap2 = getauxval(AT_HWCAP2);
    uint32_t have = MCC_ISA_neon;
    if (cap >> 7 & 1) have |= MCC_ISA_neoncrc;
    if (cap >> 20 & 1) have |= MCC_ISA_neondot;                    /* ASIMDDP */
    if ((cap >> 9 & 1) && (cap >> 10 & 1)) have |= MCC_ISA_neonfp16; /* FPHP, ASIMDHP */
    if ((cap2 >> 13 & 1) && (have & MCC_ISA_neondot)) have |= MCC_ISA_neoni8mm;
    if ((cap2 >> 14 & 1) && (have & MCC_ISA_neondot)) have |= MCC_ISA_neonbf16;
    if (cap2 >> 1 & 1) have |= MCC_ISA_sve2;
    return have;
}

#elif defined(__aarch64__) && defined(__APPLE__)
#include <sys/sysctl.h>

static bool feature(const char *name) {
    int value = 0;
    size_t size = sizeof value;
    return sysctlbyname(name, &value, &size, NULL, 0) == 0 && value;
}

static uint32_t detect(void) {
    uint32_t have = MCC_ISA_neon | MCC_ISA_neoncrc;
    if (feature("hw.optional.arm.FEAT_DotProd")) have |= MCC_ISA_neondot;
    if (feature("hw.optional.arm.FEAT_FP16")) have |= MCC_ISA_neonfp16;
    if (feature("hw.optional.arm.FEAT_I8MM")) have |= MCC_ISA_neoni8mm;
    if (feature("hw.optional.arm.FEAT_BF16")) have |= MCC_ISA_neonbf16;
    return have;
}

#elif defined(__aarch64__)
static uint32_t detect(void) { return MCC_ISA_neon; }
#else
static uint32_t detect(void) { return 0; }
#endif

static _Atomic uint32_t found, limit = ~0u;

static uint32_t ask(void) {
    uint32_t have = atomic_load_explicit(&found, memory_order_relaxed);
    if (!have) atomic_store_explicit(&found, have = detect() | DETECTED, memory_order_relaxed);
    return have;
}

uint32_t mcc_isa(void) {
    return ask() & ~(DETECTED | FETCHES) & (atomic_load_explicit(&limit, memory_order_relaxed) | MCC_ISA_KEPT);
}

#if defined(__x86_64__)
bool mcc_fetches_alone(void) { return ask() & FETCHES; }
#endif

void mcc_isa_limit(uint32_t mask) { atomic_store_explicit(&limit, mask, memory_order_relaxed); }

int64_t mcc_isa_bit(const char *word) {
    for (size_t i = 0; i < WORDS; i++)
        if (strcmp(words[i].word, word) == 0) return words[i].bit;
    return -1;
}

void mcc_isa_text(uint32_t bits, char *text, unsigned size) {
    if (!size) return;
    text[0] = 0;
    size_t used = 0;
    for (size_t i = 0; i < WORDS; i++) {
        if ((words[i].bit & bits) != words[i].bit) continue;
        const size_t n = strlen(words[i].word);
        if (used + n + 2 > size) return;
        if (used) text[used++] = ' ';
        memcpy(text + used, words[i].word, n + 1);
        used += n;
    }
}
