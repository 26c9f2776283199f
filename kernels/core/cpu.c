/* cpu.c: the name of the core, from its identification register. */
#if defined(__linux__)
#define _GNU_SOURCE
#endif
#include "cpu.h"

#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "names.h"

#if defined(__aarch64__) && defined(__linux__)
#include <sched.h>
#include <sys/auxv.h>

/* Linux answers for the register since 4.11 and says so by a bit (HWCAP_CPUID); before, it is a file since 4.7. */
uint32_t mcc_midr(void) {
    if (getauxval(AT_HWCAP) >> 11 & 1) {
        uint64_t midr;
        __asm__("mrs %0, midr_el1" : "=r"(midr));
        return (uint32_t)midr;
    }
    char path[96];
    const int cpu = sched_getcpu();
    snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu%d/regs/identification/midr_el1", cpu < 0 ? 0 : cpu);
    FILE *f = fopen(path, "r");
    unsigned long long midr = 0;
    if (f && fscanf(f, "%llx", &midr) != 1) midr = 0;
    if (f) fclose(f);
    return (uint32_t)midr;
}
#else
uint32_t mcc_midr(void) { return 0; }
#endif

const char *mcc_core_name(uint32_t midr) {
    static const struct { uint8_t implementer; uint16_t part; mcc_what name; } cores[] = {
#define CORE(implementer, part, name) {implementer, part, name},
#include "cores.def"
#undef CORE
    };
    for (size_t i = 0; i < sizeof cores / sizeof *cores; i++)
        if (cores[i].implementer == midr >> 24 && cores[i].part == (midr >> 4 & 0xfff)) return cores[i].name;
    return "";
}

#if defined(__x86_64__)
#include <cpuid.h>

/* The name that the maker gave, without the spaces around it, and the signature of family, model and stepping. */
void mcc_cpu_model(char text[MCC_CPU_MODEL]) {
    uint32_t part[13] = {0}, signature, b, c, d;
    text[0] = 0;
    for (uint32_t i = 0; i < 3; i++) {
        uint32_t *p = part + 4 * i;
        if (!__get_cpuid(0x80000002 + i, p, p + 1, p + 2, p + 3)) return;
    }
    if (!__get_cpuid(1, &signature, &b, &c, &d)) return;
    const char *name = (const char *)part;
    name += strspn(name, " ");
    size_t n = strlen(name);
    while (n && name[n - 1] == ' ') n--;
    snprintf(text, MCC_CPU_MODEL, "%.*s (%08x)", (int)n, name, signature);
}
#else
void mcc_cpu_model(char text[MCC_CPU_MODEL]) {
    const uint32_t midr = mcc_midr();
    text[0] = 0;
    if (midr) snprintf(text, MCC_CPU_MODEL, "%s (%08x)", mcc_core_name(midr), midr);
}
#endif
