/* amx.h: the tile registers of AMX, which a thread configures before it calls kernels of avx512amx.
 *
 * All have 64 bytes a row; 0 to 5 (sums and rows) have `high` rows, 6 and 7 (weights) 16. A thread that is done with them says so,
 * since the operating system saves registers that are in use at every switch. */
#ifndef MCC_GEMM_AMX_H
#define MCC_GEMM_AMX_H

#include <stddef.h>

#if defined(__x86_64__)
#include <immintrin.h>
#include <stdint.h>

#include "../core/isa.h"

typedef struct mcc_amx_tiles {
    uint8_t palette, start, reserved[14];
    uint16_t bytes[16];
    uint8_t rows[16];
} mcc_amx_tiles;

MCC_FN(avx512amx) static inline void mcc_amx_open(size_t high) {
    mcc_amx_tiles t = {.palette = 1};
    for (int i = 0; i < 8; i++) t.bytes[i] = 64, t.rows[i] = i < 6 ? (uint8_t)high : 16;
    __asm__ volatile("ldtilecfg %0" : : "m"(t)); /* the intrinsic of gcc 12 names but 8 bytes of its operand as read */
}

MCC_FN(avx512amx) static inline void mcc_amx_close(void) { _tile_release(); }
#else
static inline void mcc_amx_open(size_t high) { (void)high; }
static inline void mcc_amx_close(void) {}
#endif

#endif
