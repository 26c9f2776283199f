/* cpu.h: which core runs us. What a core can do is mcc_isa's to say; how fast it does it depends on this. */
#ifndef MCC_CORE_CPU_H
#define MCC_CORE_CPU_H

#include <stdint.h>

/* MIDR_EL1 of the core that this thread runs on now: implementer, variant, part and revision.
 * 0 when the system does not tell, and on other architectures. */
uint32_t mcc_midr(void);

/* "cortex-a76", as `mcc targets` has it; "" for a part that cores.def lacks. Variant and revision do not matter. */
const char *mcc_core_name(uint32_t midr);

/* What tells machines of one speed: "AMD EPYC (00b20f21)", "cortex-a76 (414fd0b1)"; "" when it is not known. */
#define MCC_CPU_MODEL 80
void mcc_cpu_model(char text[MCC_CPU_MODEL]);

#endif
