/* coder.c: the decoder of the rANS streams that coder.h describes. */
#include "coder.h"

#include <string.h>

enum { MAX_SCALE = 14, MAX_LANES = 64, LOW = 1 << 16 };

static uint32_t u32(const uint8_t *p) {
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

typedef struct table {
    uint8_t symbol[1 << MAX_SCALE]; /* of each slot */
    uint16_t freq[256], start[256];
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
        memset(t->symbol + sum, (int)s, f);
        sum += f;
    }
    return sum == total ? at : NULL;
}

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
    /* Whole rounds while even the most greedy one cannot run past the end: no checks inside. */
    while (count - i >= lanes && (size_t)(end - at) >= 2 * (size_t)lanes) {
        for (unsigned l = 0; l < lanes; l++) {
            const uint32_t x = state[l], slot = x & mask;
            const uint8_t s = t.symbol[slot];
            uint32_t y = t.freq[s] * (x >> scale) + slot - t.start[s];
            if (y < LOW) {
                y = y << 16 | at[0] | (uint32_t)at[1] << 8;
                at += 2;
            }
            state[l] = y;
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
