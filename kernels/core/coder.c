/* coder.c: the decoder of the rANS streams that coder.h describes. */
#include "coder.h"

#include <string.h>

#include "isa.h"

enum { MAX_SCALE = 14, MAX_LANES = 64, LOW = 1 << 16 };

static uint32_t u32(const uint8_t *p) {
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

typedef struct table {
    uint8_t symbol[(1 << MAX_SCALE) + 3]; /* of each slot; they may be read four at a time */
    uint16_t freq[256], start[256];
    uint32_t both[256]; /* freq << 16 | start */
} table;

/* Reads the frequencies; returns where they end, or NULL. */
static const uint8_t *read_table(const uint8_t *at, const uint8_t *end, unsigned symbols, unsigned scale, table *t) {
    const uint32_t total = 1u << scale;
    uint32_t sum = 0;
    for (unsigned s = 0; s < symbols; s++) {
        uint32_t f = 0;
        for (unsigned shift = 0;; shift += 7) {
            if (at == end || shift > 14) return NULL;
            f |= (uint32_t)(*at & 0x7f) << shift;
            if (!(*at++ & 0x80)) break;
        }
        if (f > total - sum) return NULL;
        t->freq[s] = (uint16_t)f;
        t->start[s] = (uint16_t)sum;
        t->both[s] = f << 16 | sum;
        memset(t->symbol + sum, (int)s, f);
        sum += f;
    }
    return sum == total ? at : NULL;
}

#if defined(__x86_64__)
#include <immintrin.h>

/* Whole rounds of 16 lanes at a time, after Giesen (arXiv 1402.3392): who needs a word gets the next one by VPEXPANDD.
 * Returns the symbols done. */
MCC_FN(avx512) static inline size_t rounds_of(unsigned groups, const table *t, unsigned scale, uint32_t *state,
                                              const uint8_t **words, const uint8_t *end, uint8_t *out, size_t count) {
    const __m512i mask = _mm512_set1_epi32((1 << scale) - 1), byte = _mm512_set1_epi32(255), low = _mm512_set1_epi32(LOW);
    const __m512i half = _mm512_set1_epi32(0xffff);
    const __m128i shift = _mm_cvtsi32_si128((int)scale);
    const size_t lanes = 16 * (size_t)groups;
    const uint8_t *at = *words;
    __m512i x[MAX_LANES / 16];
    for (unsigned g = 0; g < groups; g++) x[g] = _mm512_loadu_si512(state + 16 * g);
    size_t i = 0;
    for (; count - i >= lanes && (size_t)(end - at) >= 2 * lanes; i += lanes) {
#pragma GCC unroll 4
        for (unsigned g = 0; g < groups; g++) {
            const __m512i slot = _mm512_and_si512(x[g], mask);
            const __m512i s = _mm512_and_si512(_mm512_i32gather_epi32(slot, t->symbol, 1), byte);
            const __m512i both = _mm512_i32gather_epi32(s, t->both, 4);
            const __m512i y = _mm512_add_epi32(_mm512_mullo_epi32(_mm512_srli_epi32(both, 16), _mm512_srl_epi32(x[g], shift)),
                                               _mm512_sub_epi32(slot, _mm512_and_si512(both, half)));
            const __mmask16 more = _mm512_cmplt_epu32_mask(y, low);
            const __m512i w = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)(const void *)at));
            x[g] = _mm512_mask_or_epi32(y, more, _mm512_slli_epi32(y, 16), _mm512_maskz_expand_epi32(more, w));
            at += 2 * (unsigned)__builtin_popcount(more);
            _mm_storeu_si128((__m128i *)(void *)(out + i + 16 * g), _mm512_cvtepi32_epi8(s));
        }
    }
    for (unsigned g = 0; g < groups; g++) _mm512_storeu_si512(state + 16 * g, x[g]);
    *words = at;
    return i;
}

MCC_FN(avx512) static size_t rounds_avx512(unsigned groups, const table *t, unsigned scale, uint32_t *state, const uint8_t **words,
                                           const uint8_t *end, uint8_t *out, size_t count) {
    switch (groups) { /* so that states stay in registers */
    case 1: return rounds_of(1, t, scale, state, words, end, out, count);
    case 2: return rounds_of(2, t, scale, state, words, end, out, count);
    default: return rounds_of(4, t, scale, state, words, end, out, count);
    }
}
#endif

size_t mcc_rans_decode(const uint8_t *stream, size_t size, uint8_t *out, size_t count) {
    if (size < 8) return 0;
    const unsigned log_lanes = stream[0], scale = stream[1], symbols = stream[2] | stream[3] << 8;
    const size_t length = u32(stream + 4);
    if (log_lanes > 6 || scale < 8 || scale > MAX_SCALE || symbols < 1 || symbols > 256 || length > size) return 0;
    const unsigned lanes = 1u << log_lanes;
    table t;
    const uint8_t *at = stream + 8, *const end = stream + length;
    if (length < 8 || !(at = read_table(at, end, symbols, scale, &t)) || (size_t)(end - at) < 4 * (size_t)lanes) return 0;

    uint32_t state[MAX_LANES];
    for (unsigned l = 0; l < lanes; l++, at += 4)
        if ((state[l] = u32(at)) < LOW) return 0;

    const uint32_t mask = (1u << scale) - 1;
    size_t i = 0;
#if defined(__x86_64__)
    if (lanes >= 16 && mcc_isa() & MCC_ISA_avx512) i = rounds_avx512(lanes / 16, &t, scale, state, &at, end, out, count);
#endif
    /* Whole rounds while even the most greedy one cannot run past the end: no checks inside. */
    while (count - i >= lanes && (size_t)(end - at) >= 2 * (size_t)lanes) {
        for (unsigned l = 0; l < lanes; l++) {
            const uint32_t x = state[l], slot = x & mask;
            const uint8_t s = t.symbol[slot];
            const uint32_t y = t.freq[s] * (x >> scale) + slot - t.start[s];
            /* No branch: who needs a word is random. */
            const uint32_t more = y << 16 | at[0] | (uint32_t)at[1] << 8;
            state[l] = y < LOW ? more : y;
            at += y < LOW ? 2 : 0;
            out[i + l] = s;
        }
        i += lanes;
    }
    for (; i < count; i++) {
        uint32_t *x = &state[i & (lanes - 1)];
        const uint32_t slot = *x & mask;
        const uint8_t s = t.symbol[slot];
        *x = t.freq[s] * (*x >> scale) + slot - t.start[s];
        if (*x < LOW) {
            if (end - at < 2) return 0;
            *x = *x << 16 | at[0] | (uint32_t)at[1] << 8;
            at += 2;
        }
        out[i] = s;
    }
    for (unsigned l = 0; l < lanes; l++)
        if (state[l] != LOW) return 0;
    return at == end ? length : 0;
}
