/* isa.h: the instruction sets a kernel can ask for, and what this CPU has.
 *
 * One word per required feature, not per CPU. A kernel in <family>_<type>_<isa>.c opens with
 * MCC_FN(isa), which carries the target attribute, so one command line builds every ISA.
 * To add an ISA: one MCC_ISA_ bit, one MCC_TARGET_ string and its MCC_FN_ here, one line in isa.c. */
#ifndef MCC_CORE_ISA_H
#define MCC_CORE_ISA_H

#include <stdbool.h>
#include <stdint.h>

enum {
    MCC_ISA_c = 0,
    /* x86-64; each word implies the ones before it in its family */
    MCC_ISA_avx2 = 1u << 0,       /* AVX2 + FMA + F16C + BMI2 + PCLMULQDQ */
    MCC_ISA_avx512 = 1u << 1,     /* F + BW + DQ + VL, and avx2 */
    MCC_ISA_avx512vnni = 1u << 2, /* VNNI, and avx512 */
    MCC_ISA_avx512vbmi = 1u << 3, /* VBMI, and avx512 */
    MCC_ISA_avx512bf16 = 1u << 4, /* BF16, and avx512 */
    MCC_ISA_avx512amx = 1u << 5,  /* AMX tiles of bf16 and int8, and avx512vnni and avx512bf16; the system let us use them */
    /* arm64 */
    MCC_ISA_neon = 1u << 8,       /* ARMv8.0 baseline */
    MCC_ISA_neondot = 1u << 9,    /* SDOT/UDOT, ARMv8.2 */
    MCC_ISA_neonfp16 = 1u << 10,  /* half precision arithmetic, ARMv8.2 */
    MCC_ISA_neoni8mm = 1u << 11,  /* SMMLA, ARMv8.6 */
    MCC_ISA_neonbf16 = 1u << 12,  /* BFMMLA, ARMv8.6 */
    MCC_ISA_sve2 = 1u << 13,
    MCC_ISA_neoncrc = 1u << 14,   /* CRC32, optional in ARMv8.0 */
};

#define MCC_TARGET_avx2 "avx2,fma,f16c,bmi2,pclmul"
#define MCC_TARGET_avx512 "avx2,fma,f16c,bmi2,pclmul,avx512f,avx512bw,avx512dq,avx512vl"
#define MCC_TARGET_avx512vnni MCC_TARGET_avx512 ",avx512vnni"
#define MCC_TARGET_avx512vbmi MCC_TARGET_avx512 ",avx512vbmi"
#define MCC_TARGET_avx512bf16 MCC_TARGET_avx512 ",avx512bf16"
#define MCC_TARGET_avx512amx MCC_TARGET_avx512 ",avx512vnni,avx512bf16,amx-tile,amx-bf16,amx-int8"
#if defined(__clang__) && __clang_major__ < 16 /* knows features by their own names only */
#define MCC_TARGET_neondot "dotprod"
#define MCC_TARGET_neonfp16 "fullfp16"
#define MCC_TARGET_neoni8mm "dotprod,i8mm"
#define MCC_TARGET_neonbf16 "dotprod,bf16"
#define MCC_TARGET_sve2 "sve2"
#define MCC_TARGET_neoncrc "crc"
#else
#define MCC_TARGET_neondot "arch=armv8.2-a+dotprod"
#define MCC_TARGET_neonfp16 "arch=armv8.2-a+fp16"
#define MCC_TARGET_neoni8mm "arch=armv8.2-a+dotprod+i8mm"
#define MCC_TARGET_neonbf16 "arch=armv8.2-a+dotprod+bf16"
#define MCC_TARGET_sve2 "arch=armv8.5-a+sve2"
#define MCC_TARGET_neoncrc "arch=armv8-a+crc"
#endif

#define MCC_FN(isa) MCC_FN_##isa
#define MCC_FN_c
#define MCC_FN_avx2 __attribute__((target(MCC_TARGET_avx2)))
#define MCC_FN_avx512 __attribute__((target(MCC_TARGET_avx512)))
#define MCC_FN_avx512vnni __attribute__((target(MCC_TARGET_avx512vnni)))
#define MCC_FN_avx512vbmi __attribute__((target(MCC_TARGET_avx512vbmi)))
#define MCC_FN_avx512bf16 __attribute__((target(MCC_TARGET_avx512bf16)))
#define MCC_FN_avx512amx __attribute__((target(MCC_TARGET_avx512amx)))
#define MCC_FN_neon /* the arm64 baseline needs no attribute */
#define MCC_FN_neondot __attribute__((target(MCC_TARGET_neondot)))
#define MCC_FN_neonfp16 __attribute__((target(MCC_TARGET_neonfp16)))
#define MCC_FN_neoni8mm __attribute__((target(MCC_TARGET_neoni8mm)))
#define MCC_FN_neonbf16 __attribute__((target(MCC_TARGET_neonbf16)))
#define MCC_FN_sve2 __attribute__((target(MCC_TARGET_sve2)))
#define MCC_FN_neoncrc __attribute__((target(MCC_TARGET_neoncrc)))

/* What no limit takes away: a build that leaves out the plain C lines of tables (`mcc package`) relies on it. */
#ifndef MCC_ISA_KEPT
#define MCC_ISA_KEPT 0u
#endif

/* Bits of the features this CPU and its OS support, less those masked by mcc_isa_limit. */
uint32_t mcc_isa(void);

#if defined(__x86_64__)
/* Does this CPU bring a stream of weights from its caches to the first one best when nobody asks for it? True of AMD's: on a Zen 4
 * a one-row product that asks 2 KB ahead takes 1.2 times as long. */
bool mcc_fetches_alone(void);
#endif

/* Keeps only the bits of `mask` from now on (tests and `--isa`); ~0 lifts the limit. */
void mcc_isa_limit(uint32_t mask);

/* The words of `bits`, best last, separated by spaces, into `text`. */
void mcc_isa_text(uint32_t bits, char *text, unsigned size);

/* The bit of one word ("avx2"), or -1 when it is no ISA word. "c" is 0. */
int64_t mcc_isa_bit(const char *word);

#endif
