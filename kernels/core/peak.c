/* peak.c: the loops that percentages of the peak are taken of.
 *
 * Twelve independent sums hide an instruction's latency (4 cycles on two ports need 8). The empty asm statements keep
 * the compiler from folding what has a closed form; they cost nothing. */
#define _POSIX_C_SOURCE 200809L
#include "peak.h"

#include <stdint.h>
#include <string.h>
#include <time.h>

#include "isa.h"
#include "state.h"

enum { STEPS = 20000, SUMS = 12, ROUNDS = 20, COPY_BYTES = 32 << 20 };

/* A function that makes each sum step(sum, x), STEPS times, and returns how many operations that were. */
#define LOOP(name, isa, vector, start, in, step, ops)                                                                  \
    MCC_FN(isa) static double name(void) {                                                                             \
        vector x = start, a = {0}, b = {0}, c = {0}, d = {0}, e = {0}, f = {0}, g = {0}, h = {0}, i = {0}, j = {0},    \
               k = {0}, l = {0};                                                                                       \
        __asm__ volatile("" : "+" in(x));                                                                              \
        for (int n = 0; n < STEPS; n++) {                                                                              \
            a = step(a, x), b = step(b, x), c = step(c, x), d = step(d, x), e = step(e, x), f = step(f, x);            \
            g = step(g, x), h = step(h, x), i = step(i, x), j = step(j, x), k = step(k, x), l = step(l, x);            \
            __asm__ volatile("" : "+" in(a), "+" in(b), "+" in(c), "+" in(d), "+" in(e), "+" in(f), "+" in(g), "+" in(h), \
                             "+" in(i), "+" in(j), "+" in(k), "+" in(l));                                              \
        }                                                                                                              \
        return (double)STEPS * SUMS * (ops);                                                                           \
    }

#if defined(__x86_64__)
#include <immintrin.h>
#define FLOAT_IN "x"
#define FMA16(s, x) _mm512_fmadd_ps(x, x, s)
#define FMA8(s, x) _mm256_fmadd_ps(x, x, s)
#define DOT32(s, x) _mm512_dpbf16_ps(s, (__m512bh)(x), (__m512bh)(x))
#define DOT64(s, x) _mm512_dpbusd_epi32(s, x, x)
#define MADD16(s, x) _mm256_add_epi32(s, _mm256_madd_epi16(x, x))
LOOP(f32_avx512, avx512, __m512, _mm512_set1_ps(1e-3f), "v", FMA16, 32)
LOOP(f32_avx2, avx2, __m256, _mm256_set1_ps(1e-3f), "x", FMA8, 16)
LOOP(bf16_avx512bf16, avx512bf16, __m512, _mm512_set1_ps(1e-3f), "v", DOT32, 64)
LOOP(s8_avx512vnni, avx512vnni, __m512i, _mm512_set1_epi8(1), "v", DOT64, 128)
LOOP(s8_avx2, avx2, __m256i, _mm256_set1_epi16(1), "x", MADD16, 32)
#elif defined(__aarch64__)
#include "neon.h"
#define FLOAT_IN "w"
#define S8(v) vreinterpretq_s8_s32(v)
#define FMA4(s, x) vfmaq_f32(s, x, x)
#define MLAL8(s, x) vreinterpretq_s32_s16(vmlal_s8(vreinterpretq_s16_s32(s), vget_low_s8(S8(x)), vget_low_s8(S8(x))))
LOOP(f32_neon, neon, float32x4_t, vdupq_n_f32(1e-3f), "w", FMA4, 8)
LOOP(s8_neon, neon, int32x4_t, vdupq_n_s32(0x01010101), "w", MLAL8, 16)
#define DOT16(s, x) vdotq_s32(s, S8(x), S8(x))
#define MMLA32(s, x) vmmlaq_s32(s, S8(x), S8(x))
LOOP(s8_neondot, neondot, int32x4_t, vdupq_n_s32(0x01010101), "w", DOT16, 32)
LOOP(s8_neoni8mm, neoni8mm, int32x4_t, vdupq_n_s32(0x01010101), "w", MMLA32, 64)
#else
#define FLOAT_IN "r"
#endif
#define MULTIPLY_ADD(s, x) ((s) + (x) * (x))
LOOP(f32_c, c, float, 1e-3f, FLOAT_IN, MULTIPLY_ADD, 2)
LOOP(s8_c, c, uint32_t, 1, "r", MULTIPLY_ADD, 2)

#if defined(__x86_64__)
/* Four sums of 16 x 16, two of rows and two of weights: each TDPBSSD is 16 x 16 x 64 products, and waits for none before it. */
MCC_FN(avx512amx) static double s8_avx512amx(void) {
    static const uint8_t tiles[64] = {[0] = 1, [16] = 64, [18] = 64, [20] = 64, [22] = 64, [24] = 64, [26] = 64, [28] = 64, [30] = 64,
                                      [48] = 16, [49] = 16, [50] = 16, [51] = 16, [52] = 16, [53] = 16, [54] = 16, [55] = 16};
    __asm__ volatile("ldtilecfg %0" : : "m"(tiles)); /* 8 tiles of 16 rows of 64 bytes, all zero */
    for (int n = 0; n < STEPS; n++) {
        _tile_dpbssd(0, 4, 6);
        _tile_dpbssd(1, 4, 7);
        _tile_dpbssd(2, 5, 6);
        _tile_dpbssd(3, 5, 7);
    }
    _tile_release();
    return (double)STEPS * 4 * 2 * 16 * 16 * 64;
}
#endif

/* Best first; the last line of a word needs nothing. */
static const struct peak { const char *what; uint32_t isa; double (*loop)(void); } table[] = {
#define PEAK(type, isa) {#type, MCC_ISA_##isa, type##_##isa},
#if defined(__x86_64__)
    PEAK(f32, avx512) PEAK(f32, avx2) PEAK(bf16, avx512bf16) PEAK(s8, avx512amx) PEAK(s8, avx512vnni) PEAK(s8, avx2)
#elif defined(__aarch64__)
    PEAK(f32, neon) PEAK(s8, neoni8mm) PEAK(s8, neondot) PEAK(s8, neon)
#endif
    PEAK(f32, c) PEAK(s8, c)
#undef PEAK
};
enum { COUNT = sizeof table / sizeof *table };

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static double copy_rate(void) {
    char *from = mcc_aligned_alloc(COPY_BYTES), *to = mcc_aligned_alloc(COPY_BYTES);
    double best = 0;
    if (from && to) {
        memset(from, 1, COPY_BYTES), memset(to, 0, COPY_BYTES); /* pages are there before the clock starts */
        for (int round = 0; round < 6; round++) {
            const double start = now();
            memcpy(to, from, COPY_BYTES);
            __asm__ volatile("" : : "r"(to) : "memory");
            const double rate = 2.0 * COPY_BYTES / (now() - start) * 1e-9;
            if (rate > best) best = rate;
        }
    }
    mcc_aligned_free(from), mcc_aligned_free(to);
    return best;
}

double mcc_peak(const char *what) {
    if (strcmp(what, "copy") == 0) return copy_rate();
    const struct peak *p = table, *end = table + COUNT;
    while (p < end && (strcmp(p->what, what) != 0 || (p->isa & mcc_isa()) != p->isa)) p++;
    double best = 0;
    for (int round = 0; p < end && round < ROUNDS; round++) {
        const double start = now(), done = p->loop(), rate = done / (now() - start) * 1e-9;
        if (rate > best) best = rate;
    }
    return best;
}
