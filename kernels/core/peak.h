/* peak.h: what one thread of this machine can do at most, measured by loops that do nothing else. */
#ifndef MCC_CORE_PEAK_H
#define MCC_CORE_PEAK_H

/* "f32": 10^9 multiplications and additions a second, from registers, with the best ISA of mcc_isa();
 * "s8": the same of int8 products summed to int32, by AMX where the CPU has it; "copy": 10^9 bytes a second, read plus written, in memory larger
 * than the caches. Takes some 30 ms: the best of several short rounds. 0 for any other word. */
double mcc_peak(const char *what);

#endif
