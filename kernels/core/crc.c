/* crc.c: the checksum at the speed of memory: by carry-less multiplication on x86-64, by the CRC32 instructions on arm64,
 * by tables elsewhere and for what is left over. */
#include "crc.h"

#include <string.h>

#include "isa.h"

/* Half a byte a step: for ends. */
static uint32_t by_halves(uint32_t crc, const uint8_t *p, size_t n) {
    static const uint32_t half[16] = {0x00000000, 0x1db71064, 0x3b6e20c8, 0x26d930ac, 0x76dc4190, 0x6b6b51f4, 0x4db26158, 0x5005713c,
                                      0xedb88320, 0xf00f9344, 0xd6d6a3e8, 0xcb61b38c, 0x9b64c2b0, 0x86d3d2d4, 0xa00ae278, 0xbdbdf21c};
    while (n--) {
        crc ^= *p++;
        crc = crc >> 4 ^ half[crc & 15];
        crc = crc >> 4 ^ half[crc & 15];
    }
    return crc;
}

static uint32_t u32(const uint8_t *p) {
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

/* Eight bytes a step, with tables on the stack: 8 KB filled in two microseconds. */
static uint32_t by_tables(uint32_t crc, const uint8_t *p, size_t n) {
    if (n < 256) return by_halves(crc, p, n);
    uint32_t t[8][256];
    for (uint32_t i = 0; i < 256; i++) t[0][i] = by_halves(0, &(const uint8_t){(uint8_t)i}, 1);
    for (uint32_t i = 0; i < 256; i++)
        for (int j = 1; j < 8; j++) t[j][i] = t[j - 1][i] >> 8 ^ t[0][t[j - 1][i] & 255];
    for (; n >= 8; n -= 8, p += 8) {
        const uint32_t a = crc ^ u32(p), b = u32(p + 4);
        crc = t[7][a & 255] ^ t[6][a >> 8 & 255] ^ t[5][a >> 16 & 255] ^ t[4][a >> 24] ^
              t[3][b & 255] ^ t[2][b >> 8 & 255] ^ t[1][b >> 16 & 255] ^ t[0][b >> 24];
    }
    return by_halves(crc, p, n);
}

#if defined(__x86_64__)
#include <immintrin.h>

/* Folding (Gopal et al., Fast CRC Computation for Generic Polynomials Using PCLMULQDQ, Intel 2009): bits that are d places
 * ahead of others are the same as their product with x^d mod P at the others' place. The constants are x^(512 + 32),
 * x^(512 - 32), x^(128 + 32) and x^(128 - 32) mod P, reflected. */
MCC_FN(avx2) static __m128i fold(__m128i x, __m128i by) {
    return _mm_xor_si128(_mm_clmulepi64_si128(x, by, 0x00), _mm_clmulepi64_si128(x, by, 0x11));
}

/* Bytes that have the same checksum, from 0, as n bytes (a multiple of 64, at least 64) have from `crc`. */
MCC_FN(avx2) static void shorten_avx2(uint32_t crc, const uint8_t *p, size_t n, uint8_t out[16]) {
    const __m128i far = _mm_set_epi64x(0x1c6e41596, 0x154442bd4), near = _mm_set_epi64x(0x0ccaa009e, 0x1751997d0);
    __m128i x[4];
    for (int i = 0; i < 4; i++) x[i] = _mm_loadu_si128((const __m128i *)(const void *)(p + 16 * i));
    x[0] = _mm_xor_si128(x[0], _mm_cvtsi32_si128((int)crc));
    for (p += 64; n -= 64; p += 64)
        for (int i = 0; i < 4; i++)
            x[i] = _mm_xor_si128(fold(x[i], far), _mm_loadu_si128((const __m128i *)(const void *)(p + 16 * i)));
    for (int i = 1; i < 4; i++) x[i] = _mm_xor_si128(fold(x[i - 1], near), x[i]);
    _mm_storeu_si128((__m128i *)(void *)out, x[3]);
}

uint32_t mcc_crc32(uint32_t crc, const void *bytes, size_t n) {
    const uint8_t *p = bytes;
    if (n >= 128 && mcc_isa() & MCC_ISA_avx2) {
        const size_t most = n / 64 * 64;
        uint8_t rest[16];
        shorten_avx2(crc, p, most, rest);
        crc = by_halves(0, rest, sizeof rest);
        return by_halves(crc, p + most, n - most);
    }
    return by_tables(crc, p, n);
}

#elif defined(__aarch64__)

MCC_FN(neoncrc) static uint32_t by_instruction(uint32_t crc, const uint8_t *p, size_t n) {
    for (; n >= 8; n -= 8, p += 8) {
        uint64_t x;
        memcpy(&x, p, 8);
        __asm__("crc32x %w0, %w0, %x1" : "+r"(crc) : "r"(x));
    }
    for (; n; n--, p++) __asm__("crc32b %w0, %w0, %w1" : "+r"(crc) : "r"((uint32_t)*p));
    return crc;
}

uint32_t mcc_crc32(uint32_t crc, const void *bytes, size_t n) {
    return mcc_isa() & MCC_ISA_neoncrc ? by_instruction(crc, bytes, n) : by_tables(crc, bytes, n);
}

#else
uint32_t mcc_crc32(uint32_t crc, const void *bytes, size_t n) { return by_tables(crc, bytes, n); }
#endif
