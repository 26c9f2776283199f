/* tensor.c: the values of constants, whatever their storage. */
#include "../mcc.h"

#include <stdlib.h>
#include <string.h>

#include "coder.h"
#include "element.h"
#include "hash.h"
#include "state.h"

size_t mcc_type_bytes(mcc_type type) {
    switch (type) {
    case MCC_U8: case MCC_S8: case MCC_BOOL: return 1;
    case MCC_U16: case MCC_S16: case MCC_F16: case MCC_BF16: return 2;
    case MCC_F32: case MCC_S32: case MCC_U32: return 4;
    case MCC_S64: case MCC_F64: case MCC_U64: return 8;
    }
    return 0;
}

bool mcc_same_shape(const mcc_tensor *a, const mcc_tensor *b) {
    return a->rank == b->rank && memcmp(a->dim, b->dim, a->rank * sizeof *a->dim) == 0;
}

static uint32_t u16(const uint8_t *p) { return (uint32_t)p[0] | (uint32_t)p[1] << 8; }
static uint32_t u32(const uint8_t *p) { return u16(p) | u16(p + 2) << 16; }

static mcc_status bad(const mcc_tensor *t, const char *text) {
    return mcc_fail(MCC_BAD_FILE, "constant '%s': %s", t->name, text);
}

/* One small symbol per element into `out`, from `bits`-wide packed numbers (coder 0) or a rANS stream that
 * takes exactly `size` bytes (coder 1). */
static bool read_symbols(unsigned coder, unsigned bits, const uint8_t *at, size_t size, uint8_t *out, size_t count) {
    if (coder == 1) return mcc_rans_decode(at, size, out, count) == size;
    if (coder != 0 || size != (count * bits + 7) / 8) return false;
    const unsigned mask = (1u << bits) - 1;
    unsigned window = 0, have = 0;
    for (size_t i = 0; i < count; i++) {
        if (have < bits) window |= (unsigned)*at++ << have, have += 8;
        out[i] = (uint8_t)(window & mask);
        window >>= bits;
        have -= bits;
    }
    return window == 0; /* what fills the last byte */
}

typedef struct palette_header {
    unsigned bits, coder;
    size_t groups, entries;
    const uint8_t *values, *indices;
    size_t index_bytes;
} palette_header;

static mcc_status read_palette(const mcc_tensor *t, palette_header *h) {
    const uint8_t *p = t->blob;
    if (t->blob_bytes < 8) return bad(t, "palette is truncated");
    h->bits = p[0];
    h->coder = p[1];
    h->groups = u16(p + 2);
    h->entries = u16(p + 4);
    if (h->bits < 1 || h->bits > 8 || h->coder > 1 || u16(p + 6)) return bad(t, "palette header");
    if (!h->entries || h->entries > (size_t)1 << h->bits) return bad(t, "palette entries do not fit the indices");
    if (!h->groups || (h->groups > 1 && (!t->rank || !t->dim[0] || t->dim[0] % h->groups)))
        return bad(t, "palette groups do not divide axis 0");
    const size_t bytes = h->groups * h->entries * mcc_type_bytes(t->type);
    if (t->blob_bytes - 8 < bytes) return bad(t, "palette is truncated");
    h->values = p + 8;
    h->indices = h->values + bytes;
    h->index_bytes = t->blob_bytes - 8 - bytes;
    return MCC_OK;
}

/* The checked indices of a palette, one byte each; the caller frees them. */
static mcc_status palette_indices(const mcc_tensor *t, const palette_header *h, uint8_t **out) {
    if (!(*out = malloc(t->count + 1))) return mcc_fail(MCC_NO_MEMORY, "constant '%s'", t->name);
    bool good = read_symbols(h->coder, h->bits, h->indices, h->index_bytes, *out, t->count);
    for (size_t i = 0; good && i < t->count; i++) good = (*out)[i] < h->entries;
    if (good) return MCC_OK;
    free(*out);
    *out = NULL;
    return bad(t, "palette indices are damaged");
}

static mcc_status dense_palette(const mcc_tensor *t, uint8_t *dense) {
    palette_header h;
    uint8_t *index;
    MCC_TRY(read_palette(t, &h));
    MCC_TRY(palette_indices(t, &h, &index));
    const size_t size = mcc_type_bytes(t->type), group = t->count / h.groups;
    for (size_t g = 0, i = 0; g < h.groups; g++) {
        const uint8_t *values = h.values + g * h.entries * size;
        for (const size_t end = i + group; i < end; i++) memcpy(dense + i * size, values + index[i] * size, size);
    }
    free(index);
    return MCC_OK;
}

/* --- quantized ---------------------------------------------------------------------------------------------------- */

enum { PER_TENSOR, PER_ROW, PER_BLOCK, QUANTIZED_HEADER = 8, HAS_ZEROS = 1, SHORT_SCALES = 2 };

/* Rows and blocks of the scales, from the header; false when they do not fit the shape. */
static bool quantized_shape(const mcc_tensor *t, const uint8_t *p, mcc_quantized *q) {
    const size_t last = t->rank ? t->dim[t->rank - 1] : 1, block = u32(p + 4);
    if (p[0] < 1 || p[0] > 8 || p[1] > 1 || p[2] > (HAS_ZEROS | SHORT_SCALES) || p[3] > PER_BLOCK) return false;
    if ((p[3] == PER_BLOCK) != (block != 0) || !t->count || (p[3] == PER_ROW && !t->rank)) return false;
    q->bits = p[0];
    q->columns = p[3] == PER_TENSOR ? t->count : p[3] == PER_ROW ? t->count / t->dim[0] : last;
    q->rows = t->count / q->columns;
    q->block = p[3] == PER_BLOCK && block < q->columns ? block : q->columns;
    q->blocks = (q->columns + q->block - 1) / q->block;
    return true;
}

mcc_status mcc_quantized_of(mcc_tensor *t, mcc_quantized *out) {
    const uint8_t *p = t->blob, *const end = p + t->blob_bytes;
    mcc_quantized q = {0};
    if (!t->constant || t->storage != MCC_QUANTIZED) return mcc_fail(MCC_BAD_ARGUMENT, "constant '%s' is not quantized", t->name);
    if (t->type != MCC_F32) return bad(t, "quantized, but not float32");
    if (t->blob_bytes < QUANTIZED_HEADER || !quantized_shape(t, p, &q)) return bad(t, "quantized header");
    const size_t scales = q.rows * q.blocks, each = p[2] & SHORT_SCALES ? 2 : 4, zeros = p[2] & HAS_ZEROS ? scales : 0;
    const uint8_t *at = p + QUANTIZED_HEADER;
    if ((size_t)(end - at) / (each + !!zeros) < scales) return bad(t, "quantized scales are truncated");
    if (!(q.scale = malloc(2 * scales * sizeof *q.scale)) || !(q.code = malloc(t->count))) {
        mcc_quantized_free(&q);
        return mcc_fail(MCC_NO_MEMORY, "constant '%s'", t->name);
    }
    q.zero = q.scale + scales;
    for (size_t i = 0; i < scales; i++, at += each) {
        const uint32_t word = each == 4 ? u32(at) : 0;
        if (each == 2) q.scale[i] = mcc_f32_of_f16((uint16_t)u16(at));
        else memcpy(&q.scale[i], &word, sizeof word);
    }
    bool good = true;
    for (size_t i = 0; i < scales; i++) {
        const unsigned zero = zeros ? at[i] : 1u << (q.bits - 1);
        good = good && zero < 1u << q.bits;
        q.zero[i] = (float)zero;
    }
    at += zeros;
    if (good && read_symbols(p[1], q.bits, at, (size_t)(end - at), q.code, t->count)) {
        for (size_t i = 0; good && i < t->count; i++) good = q.code[i] < 1u << q.bits;
        if (good) return *out = q, MCC_OK;
    }
    mcc_quantized_free(&q);
    return bad(t, "quantized codes are damaged");
}

void mcc_quantized_free(mcc_quantized *q) { free(q->scale), free(q->code); }

static mcc_status dense_quantized(mcc_tensor *t, float *dense) {
    mcc_quantized q;
    MCC_TRY(mcc_quantized_of(t, &q));
    for (size_t r = 0, i = 0; r < q.rows; r++)
        for (size_t c = 0; c < q.columns; c++, i++) {
            const size_t b = r * q.blocks + c / q.block;
            dense[i] = ((float)q.code[i] - q.zero[b]) * q.scale[b];
        }
    mcc_quantized_free(&q);
    return MCC_OK;
}

static mcc_status dense_bitmask(const mcc_tensor *t, uint8_t *dense) {
    if (t->blob_bytes < 12) return bad(t, "mask is truncated");
    const uint8_t *p = t->blob;
    const size_t nonzeros = u32(p + 4), mask_bytes = u32(p + 8), size = mcc_type_bytes(t->type);
    if (p[0] > 1 || p[1] != 0 || u16(p + 2)) return bad(t, "mask header");
    if (mask_bytes > t->blob_bytes - 12 || nonzeros > t->count || t->blob_bytes - 12 - mask_bytes != nonzeros * size)
        return bad(t, "mask and values do not fill the blob");
    uint8_t *mask = malloc(t->count + 1);
    if (!mask) return mcc_fail(MCC_NO_MEMORY, "constant '%s'", t->name);
    bool good = read_symbols(p[0], 1, p + 12, mask_bytes, mask, t->count);
    const uint8_t *value = p + 12 + mask_bytes, *const end = value + nonzeros * size;
    for (size_t i = 0; good && i < t->count; i++) {
        if (!mask[i]) continue;
        if (!(good = mask[i] == 1 && value < end)) break;
        memcpy(dense + i * size, value, size);
        value += size;
    }
    free(mask);
    return good && value == end ? MCC_OK : bad(t, "mask is damaged");
}

static mcc_status dense_coded(const mcc_tensor *t, uint8_t *dense) {
    if (mcc_type_bytes(t->type) != 1) return bad(t, "entropy coded, but not an 8-bit type");
    const size_t used = mcc_rans_decode(t->blob, t->blob_bytes, dense, t->count);
    return used && used == t->blob_bytes ? MCC_OK : bad(t, "entropy code is damaged");
}

/* --- hashed ------------------------------------------------------------------------------------------------------- */

static mcc_status decode(mcc_tensor *t, uint8_t *dense);

enum { HASHED_HEADER = 16, MAX_BUCKETS = 1 << 28 };

/* Xors the keys of every axis into row and column, and sets places; where the axes end, NULL when they do not fit. */
static const uint8_t *hashed_keys(const mcc_tensor *t, const uint8_t *p, const uint8_t *end, uint32_t seed, unsigned run,
                                  mcc_hashed *h) {
    size_t inner = h->columns; /* elements of one step along the axis */
    bool found = false;
    for (uint32_t d = 0; d < t->rank; d++) {
        if (end - p < 2) return NULL;
        const size_t n = t->dim[d], count = d ? h->columns : h->rows;
        const unsigned axis = p[0], width = p[1], shift = axis == run && run != MCC_HASH_NO_AXIS ? 2 : 0; /* by fours */
        p += 2;
        if ((width != 0 && width != 4) || (width && (size_t)(end - p) / width < n) || (shift && found)) return NULL;
        found = found || shift;
        h->turned = h->turned || (shift && d);
        if (d) inner /= n;
        uint32_t *keys = d ? h->column : h->row, *places = d ? h->column_place : h->place;
        for (size_t at = 0; at < count; at++) {
            const size_t i = d ? at / inner % n : at;
            const uint32_t index = width ? u32(p + 4 * i) : (uint32_t)i;
            keys[at] ^= mcc_hash_key(seed, axis, index >> shift);
            places[at] += index & (shift ? MCC_HASH_RUN - 1 : 0);
        }
        p += n * width;
    }
    return p;
}

static mcc_status read_hashed(mcc_tensor *t, mcc_hashed *h) {
    const uint8_t *p = t->blob, *const end = p + t->blob_bytes;
    if (t->blob_bytes < HASHED_HEADER || p[12] >= MCC_HASHED || p[13] > 1 || p[15] || !u32(p + 8) ||
        u32(p + 8) > MAX_BUCKETS || u32(p + 8) % MCC_HASH_RUN || !t->count || (!mcc_is_float(t->type) && t->type != MCC_S8))
        return bad(t, "hashed header");
    h->rows = t->rank ? t->dim[0] : 1, h->columns = t->count / h->rows, h->runs = u32(p + 8) / MCC_HASH_RUN;
    mcc_tensor inner = *t;
    inner.storage = p[12], inner.rank = 1, inner.dim[0] = inner.count = h->runs * MCC_HASH_RUN;
    inner.bytes = inner.count * mcc_type_bytes(t->type);
    h->row = calloc(2 * (h->rows + h->columns), sizeof *h->row), h->bucket = malloc(inner.bytes);
    if (p[13]) h->mask = malloc(t->count);
    if (!h->row || !h->bucket || (p[13] && !h->mask)) return mcc_fail(MCC_NO_MEMORY, "constant '%s'", t->name);
    h->place = h->row + h->rows, h->column = h->place + h->rows, h->column_place = h->column + h->columns;
    for (size_t i = 0; i < h->rows; i++) h->row[i] = u32(p + 4); /* the base */
    bool good = (p = hashed_keys(t, p + HASHED_HEADER, end, u32(p), p[14], h)) != NULL;
    if (good && h->mask) {
        good = end - p >= 8 && u32(p + 4) <= (size_t)(end - p) - 8 && read_symbols(u32(p), 1, p + 8, u32(p + 4), h->mask, t->count);
        if (good) p += 8 + u32(p + 4);
    }
    inner.blob = p, inner.blob_bytes = good ? (size_t)(end - p) : 0;
    if (!good || (inner.storage != MCC_RAW && inner.bytes / 4096 > inner.blob_bytes + (16 << 10))) return bad(t, "hashed header");
    return decode(&inner, h->bucket);
}

mcc_status mcc_hashed_of(mcc_tensor *t, mcc_hashed *out) {
    *out = (mcc_hashed){0};
    if (t->storage != MCC_HASHED) return bad(t, "hashed header");
    const mcc_status status = read_hashed(t, out);
    if (status != MCC_OK) mcc_hashed_free(out);
    return status;
}

void mcc_hashed_free(mcc_hashed *h) {
    free(h->row), free(h->bucket), free(h->mask);
}

static mcc_status dense_hashed(mcc_tensor *t, uint8_t *dense) {
    mcc_hashed h;
    MCC_TRY(mcc_hashed_of(t, &h));
    const size_t size = mcc_type_bytes(t->type);
    for (size_t r = 0, i = 0; r < h.rows; r++)
        for (size_t c = 0; c < h.columns; c++, i++) {
            if (h.mask && !h.mask[i]) {
                memset(dense + i * size, 0, size);
                continue;
            }
            const uint32_t x = mcc_hash(h.row[r] ^ h.column[c]);
            const size_t at = mcc_hash_run(x, h.runs) * MCC_HASH_RUN + h.place[r] + h.column_place[c];
            memcpy(dense + i * size, h.bucket + at * size, size);
            uint8_t *top = dense + (i + 1) * size - 1;
            if (mcc_hash_negative(x)) *top = (uint8_t)(size > 1 ? *top ^ 0x80 : -*top); /* a float's sign bit, or int8 */
        }
    mcc_hashed_free(&h);
    return MCC_OK;
}

static mcc_status decode(mcc_tensor *t, uint8_t *dense) {
    switch (t->storage) {
    case MCC_RAW: /* only buckets: a RAW constant is used where it is */
        if (t->blob_bytes != t->bytes) return bad(t, "hashed header");
        memcpy(dense, t->blob, t->bytes);
        return MCC_OK;
    case MCC_PALETTE: return dense_palette(t, dense);
    case MCC_BITMASK: return dense_bitmask(t, dense);
    case MCC_QUANTIZED: return dense_quantized(t, (float *)(void *)dense);
    case MCC_HASHED: return dense_hashed(t, dense);
    default: return dense_coded(t, dense);
    }
}

const void *mcc_dense_to_pack(mcc_net *net, mcc_tensor *t, mcc_status *status) {
    *status = MCC_OK;
    if (t->data || !t->constant) return t->data;
    uint8_t *dense = mcc_aligned_alloc(t->bytes);
    if (!dense) *status = mcc_fail(MCC_NO_MEMORY, "constant '%s': %zu bytes", t->name, t->bytes);
    else *status = decode(t, dense);
    if (*status != MCC_OK) {
        mcc_aligned_free(dense);
        return NULL;
    }
    net->shared->decoded[t - net->tensor].values = dense;
    net->shared->decoded_bytes += t->bytes;
    return t->data = dense;
}

const void *mcc_dense(mcc_net *net, mcc_tensor *t, mcc_status *status) {
    const void *values = mcc_dense_to_pack(net, t, status);
    if (values && t->constant) net->shared->decoded[t - net->tensor].kept = true;
    return values;
}

void mcc_dense_drop(mcc_net *net, mcc_tensor *t) {
    mcc_decoded *d = &net->shared->decoded[t - net->tensor];
    if (!t->constant || d->kept) return;
    mcc_map_release(&net->shared->map, t->blob, t->blob_bytes);
    if (!d->values) return;
    mcc_aligned_free(d->values);
    net->shared->decoded_bytes -= t->bytes;
    t->data = d->values = NULL;
}

mcc_status mcc_palette_of(mcc_tensor *t, mcc_palette *out) {
    if (!t->constant || t->storage != MCC_PALETTE) return mcc_fail(MCC_BAD_ARGUMENT, "constant '%s' has no palette", t->name);
    palette_header h;
    MCC_TRY(read_palette(t, &h));
    *out = (mcc_palette){.bits = h.bits, .groups = h.groups, .entries = h.entries, .values = h.values};
    return palette_indices(t, &h, &out->index);
}

void mcc_palette_free(mcc_palette *p) { free(p->index); }
