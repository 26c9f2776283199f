/* cpu.c: the name of the core, from its identification register. */
#if defined(__linux__)
#define _GNU_SOURCE
#endif
#include "cpu.h"

#include <stddef.h>

#if defined(__aarch64__) && defined(__linux__)
#include <sched.h>
#include <stdio.h>
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
    static const struct { uint8_t implementer; uint16_t part; const char *name; } cores[] = {
#define CORE(implementer, part, name) {implementer, part, name},
#include "cores.def"
#undef CORE
    };
    for (size_t i = 0; i < sizeof cores / sizeof *cores; i++)
        if (cores[i].implementer == midr >> 24 && cores[i].part == (midr >> 4 & 0xfff)) return cores[i].name;
    return "";
}
