/* file.c: the bounds-checked reader of the format in file.h.
 *
 * Nothing in the file is believed: every number is checked against what it must fit in before it is used, and
 * counts are checked against the bytes left, so that memory use is bounded by a small multiple of the file. */
#include <string.h>

#include "crc.h"
#include "ops.h"
#include "state.h"

/* --- numbers ------------------------------------------------------------------------------------- */

static uint32_t u32(const uint8_t *p) {
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static uint64_t u64(const uint8_t *p) { return u32(p) | (uint64_t)u32(p + 4) << 32; }

/* A cursor that never leaves [at, end); once something is wrong it stays `bad` and reads zeros. */
typedef struct cursor {
    const uint8_t *at, *end;
    bool bad;
} cursor;

static size_t left(const cursor *c) { return c->bad ? 0 : (size_t)(c->end - c->at); }

static const uint8_t *take(cursor *c, size_t bytes) {
    if (left(c) < bytes) {
        c->bad = true;
        return NULL;
    }
    c->at += bytes;
    return c->at - bytes;
}

static uint8_t read_u8(cursor *c) {
    const uint8_t *p = take(c, 1);
    return p ? *p : 0;
}

static uint64_t read_uv(cursor *c) {
    uint64_t value = 0;
    for (unsigned shift = 0; shift < 70; shift += 7) {
        const uint8_t byte = read_u8(c);
        if (shift == 63 && byte > 1) break;
        value |= (uint64_t)(byte & 0x7f) << shift;
        if (!(byte & 0x80)) return c->bad ? 0 : value;
    }
    c->bad = true;
    return 0;
}

static int64_t read_sv(cursor *c) {
    const uint64_t u = read_uv(c);
    return u & 1 ? -(int64_t)(u >> 1) - 1 : (int64_t)(u >> 1);
}

static float read_f32(cursor *c) {
    const uint8_t *p = take(c, 4);
    const uint32_t bits = p ? u32(p) : 0;
    float value;
    memcpy(&value, &bits, 4);
    return value;
}

/* A count of things that take at least `least` bytes each. */
static uint32_t read_count(cursor *c, size_t least) {
    const uint64_t n = read_uv(c);
    if (n > left(c) / least || n > UINT32_MAX) {
        c->bad = true;
        return 0;
    }
    return (uint32_t)n;
}

/* A number below `limit`. */
static uint32_t read_below(cursor *c, uint32_t limit) {
    const uint64_t n = read_uv(c);
    if (n >= limit) {
        c->bad = true;
        return 0;
    }
    return (uint32_t)n;
}

/* --- sections ------------------------------------------------------------------------------------ */

typedef struct section { const uint8_t *bytes; size_t size; bool there; uint32_t crc; } section;
enum { HEADER = 24, ENTRY = 24, MAX_SECTIONS = 64, KNOWN = 6 };

static bool all_zero(const uint8_t *p, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (p[i]) return false;
    return true;
}

/* Bytes that belong to no section must be zero, so that no damage anywhere goes unseen. */
static bool gaps_are_zero(const uint8_t *file, size_t size, uint32_t count) {
    size_t at = HEADER + ENTRY * (size_t)count;
    for (uint32_t done = 0; done <= count; done++) { /* the nearest section at or after `at`, in turn */
        size_t begin = size, end = size;
        bool found = false;
        for (uint32_t i = 0; i < count; i++) {
            const uint8_t *entry = file + HEADER + ENTRY * (size_t)i;
            const size_t offset = (size_t)u64(entry + 8), bytes = (size_t)u64(entry + 16);
            if (bytes && offset >= at && (!found || offset < begin)) found = true, begin = offset, end = offset + bytes;
        }
        if (!all_zero(file + at, begin - at)) return false;
        at = end;
    }
    return true;
}

static mcc_status read_sections(const mcc_map *map, section known[KNOWN]) {
    const uint8_t *file = map->bytes;
    const size_t size = map->size;
    if (size < HEADER || memcmp(file, "MCC\x1a", 4) != 0) return mcc_fail(MCC_BAD_FILE, "not a .mcc file");
    if (u32(file + 4) != MCC_FILE_VERSION)
        return mcc_fail(MCC_BAD_VERSION, "format version %u, this engine reads version %d", u32(file + 4), MCC_FILE_VERSION);
    if (u64(file + 8) != size)
        return mcc_fail(MCC_BAD_FILE, "the header says %llu bytes, the file has %zu", (unsigned long long)u64(file + 8), size);
    const uint32_t count = u32(file + 16);
    if (count > MAX_SECTIONS || HEADER + ENTRY * (size_t)count > size) return mcc_fail(MCC_BAD_FILE, "%u sections", count);

    static const uint8_t zero[4];
    uint32_t sum = mcc_crc32(~0u, file, 20);
    sum = mcc_crc32(sum, zero, 4);
    if (~mcc_crc32(sum, file + HEADER, ENTRY * (size_t)count) != u32(file + 20))
        return mcc_fail(MCC_BAD_FILE, "the header's checksum is wrong");

    for (uint32_t i = 0; i < count; i++) {
        const uint8_t *entry = file + HEADER + ENTRY * (size_t)i;
        const uint32_t kind = u32(entry);
        const uint64_t offset = u64(entry + 8), bytes = u64(entry + 16);
        if (offset > size || bytes > size - offset || (bytes && offset < HEADER + ENTRY * (size_t)count))
            return mcc_fail(MCC_BAD_FILE, "section %u lies outside the file", i);
        for (uint32_t j = 0; j < i; j++) {
            const uint8_t *other = file + HEADER + ENTRY * (size_t)j;
            const uint64_t from = u64(other + 8), to = from + u64(other + 16);
            if (offset < to && from < offset + bytes) return mcc_fail(MCC_BAD_FILE, "sections %u and %u overlap", j, i);
        }
        if (~mcc_crc32(~0u, file + offset, (size_t)bytes) != u32(entry + 4))
            return mcc_fail(MCC_BAD_FILE, "the checksum of section %u is wrong", i);
        if (kind < 1 || kind >= KNOWN) continue;
        if (known[kind].there) return mcc_fail(MCC_BAD_FILE, "section kind %u twice", kind);
        known[kind] = (section){file + offset, (size_t)bytes, true, u32(entry + 4)};
    }
    if (!gaps_are_zero(file, size, count)) return mcc_fail(MCC_BAD_FILE, "bytes outside the sections are not zero");
    if (!known[MCC_SECTION_GRAPH].there || !known[MCC_SECTION_DATA].there)
        return mcc_fail(MCC_BAD_FILE, "the graph or data section is missing");
    if ((known[MCC_SECTION_DATA].bytes - file) % 64) return mcc_fail(MCC_BAD_FILE, "the data section is not aligned");
    return MCC_OK;
}

/* --- graph --------------------------------------------------------------------------------------- */

typedef struct parser {
    cursor c;
    mcc_net *net;
    mcc_shared *shared;
    section data;
    size_t data_base; /* the data section's offset in the file */
    uint32_t strings;
    const char **string;
    uint8_t *made; /* per tensor: has a value at this point of the running order */
    const mcc_tensor **whole; /* per slice: what it is a part of */
} parser;

#define DAMAGED(p, ...) \
    do { if ((p)->c.bad) return mcc_fail(MCC_BAD_FILE, "graph: " __VA_ARGS__); } while (0)
#define ALLOC(pool, to, count) \
    do { if (!((to) = mcc_pool_array((pool), (count), sizeof *(to)))) return mcc_fail(MCC_NO_MEMORY, "graph"); } while (0)

static const char *read_str(parser *p) { return p->string[read_below(&p->c, p->strings)]; }

/* Well-formed UTF-8 without NUL, as in RFC 3629: no overlong forms, no surrogates, nothing above U+10FFFF. */
static bool is_text(const uint8_t *s, size_t n) {
    for (size_t i = 0; i < n;) {
        const uint8_t c = s[i++];
        const unsigned more = c < 0x80 ? 0 : c >= 0xc2 && c < 0xe0 ? 1 : c >= 0xe0 && c < 0xf0 ? 2 : c >= 0xf0 && c < 0xf5 ? 3 : 4;
        if (!c || more > 3 || more > n - i) return false;
        const uint8_t low = c == 0xe0 ? 0xa0 : c == 0xf0 ? 0x90 : 0x80, high = c == 0xed ? 0x9f : c == 0xf4 ? 0x8f : 0xbf;
        if (more && (s[i] < low || s[i] > high)) return false;
        for (unsigned k = 1; k < more; k++)
            if ((s[i + k] & 0xc0) != 0x80) return false;
        i += more;
    }
    return true;
}

static mcc_status read_strings(parser *p) {
    p->strings = read_count(&p->c, 1);
    if (p->c.bad || !p->strings) return mcc_fail(MCC_BAD_FILE, "graph: damaged in the strings");
    char *text;
    ALLOC(&p->shared->graph, p->string, p->strings);
    ALLOC(&p->shared->graph, text, left(&p->c) + p->strings);
    for (uint32_t i = 0; i < p->strings; i++) {
        const uint32_t n = read_count(&p->c, 1);
        const uint8_t *bytes = take(&p->c, n);
        if (bytes && !is_text(bytes, n)) p->c.bad = true;
        DAMAGED(p, "damaged in string %u", i);
        p->string[i] = text;
        if (n) memcpy(text, bytes, n);
        text += n + 1; /* the memory is zeroed */
    }
    return p->string[0][0] ? mcc_fail(MCC_BAD_FILE, "graph: string 0 is not empty") : MCC_OK;
}

static mcc_status read_slice(parser *p, uint32_t i) {
    mcc_tensor *t = &p->net->tensor[i];
    const mcc_tensor *whole = &p->net->tensor[read_below(&p->c, i)];
    const uint64_t first = read_uv(&p->c);
    DAMAGED(p, "damaged in tensor %u", i);
    bool fits = t->rank && !whole->constant && !whole->slice && whole->type == t->type && whole->rank == t->rank;
    for (uint32_t d = 0; fits && d + 1 < t->rank; d++) fits = t->dim[d] == whole->dim[d];
    if (!fits || first > whole->pitch || t->pitch > whole->pitch - first)
        return mcc_fail(MCC_BAD_FILE, "graph: tensor %u is no slice of another", i);
    t->slice = true;
    t->pitch = whole->pitch;
    t->offset = whole->offset + (size_t)first * mcc_type_bytes(t->type);
    p->whole[i] = whole;
    return MCC_OK;
}

static mcc_status read_tensor(parser *p, uint32_t i) {
    cursor *c = &p->c;
    mcc_tensor *t = &p->net->tensor[i];
    t->name = read_str(p);
    t->type = read_u8(c);
    const uint8_t kind = read_u8(c);
    t->rank = read_below(c, MCC_MAX_RANK + 1);
    t->count = 1;
    const size_t size = mcc_type_bytes(t->type);
    if (!size || kind > 2) c->bad = true;
    DAMAGED(p, "tensor %u: unknown type or kind, or rank above %d", i, MCC_MAX_RANK);
    bool empty = false;
    size_t product = 1; /* of the dimensions that are not 0, so that the order of a 0 does not matter */
    for (uint32_t d = 0; d < t->rank; d++) {
        const uint64_t dim = read_uv(c);
        if (dim && dim > MCC_MAX_BYTES / size / product) return mcc_fail(MCC_NO_MEMORY, "graph: tensor %u is larger than 16 GiB", i);
        t->dim[d] = (size_t)dim;
        if (dim) product *= (size_t)dim;
        else empty = true;
    }
    t->count = empty ? 0 : product;
    t->bytes = t->count * size;
    t->pitch = t->rank ? t->dim[t->rank - 1] : 1;
    if (kind == 2) return read_slice(p, i);
    if (kind == 0) {
        const uint64_t offset = read_uv(c);
        DAMAGED(p, "damaged in tensor %u", i);
        if (offset > MCC_MAX_BYTES / 64) return mcc_fail(MCC_BAD_FILE, "graph: tensor %u lies outside the arena", i);
        t->offset = (size_t)offset * 64;
        return MCC_OK;
    }
    t->constant = true;
    t->storage = read_u8(c);
    const uint64_t offset = read_uv(c), bytes = read_uv(c);
    DAMAGED(p, "damaged in tensor %u", i);
    if (t->storage > MCC_HASHED) return mcc_fail(MCC_BAD_FILE, "graph: tensor %u: unknown storage %d", i, t->storage);
    if (offset > p->data.size || bytes > p->data.size - offset)
        return mcc_fail(MCC_BAD_FILE, "graph: tensor %u lies outside the data section", i);
    t->blob = p->data.bytes + offset;
    t->blob_bytes = (size_t)bytes;
    if (t->storage == MCC_RAW) {
        const size_t align = bytes >= 64 ? 64 : size;
        if (bytes != t->bytes || (p->data_base + offset) % align)
            return mcc_fail(MCC_BAD_FILE, "graph: tensor %u: %llu raw bytes at %llu for %zu", i, (unsigned long long)bytes,
                            (unsigned long long)offset, t->bytes);
        t->data = (void *)t->blob; /* never written: constants are no node's output */
    } else if (t->bytes / 4096 > bytes + (16 << 10)) {
        /* A few bytes of entropy code can stand for any number of symbols; real weights never do that well. */
        return mcc_fail(MCC_BAD_FILE, "graph: tensor %u: %zu bytes from %llu", i, t->bytes, (unsigned long long)bytes);
    }
    return MCC_OK;
}

static mcc_status read_ports(parser *p, uint32_t *count, uint32_t **numbers, bool inputs) {
    *count = read_count(&p->c, 1);
    ALLOC(&p->shared->graph, *numbers, *count);
    for (uint32_t i = 0; i < *count; i++) {
        const uint32_t t = (*numbers)[i] = read_below(&p->c, p->shared->tensors);
        DAMAGED(p, "damaged in the inputs or outputs");
        if (!inputs && p->net->tensor[t].slice) return mcc_fail(MCC_BAD_FILE, "graph: output %u is a slice", i);
        if (!inputs) continue;
        if (p->net->tensor[t].constant || p->net->tensor[t].slice || p->made[t]) return mcc_fail(MCC_BAD_FILE, "graph: input %u is a constant or a slice, or there twice", i);
        p->made[t] = 1;
    }
    DAMAGED(p, "damaged in the inputs or outputs");
    return MCC_OK;
}

static mcc_status read_attr(parser *p, mcc_attr *a) {
    cursor *c = &p->c;
    a->key = read_str(p);
    a->kind = read_u8(c);
    a->count = 1;
    switch (a->kind) {
    case MCC_ATTR_INT: a->v.i = read_sv(c); break;
    case MCC_ATTR_FLOAT: a->v.f = read_f32(c); break;
    case MCC_ATTR_STRING: a->v.s = read_str(p); break;
    case MCC_ATTR_INTS: {
        int64_t *list;
        a->count = read_count(c, 1);
        ALLOC(&p->shared->graph, list, a->count);
        for (uint32_t i = 0; i < a->count; i++) list[i] = read_sv(c);
        a->v.is = list;
        break;
    }
    case MCC_ATTR_FLOATS: {
        float *list;
        a->count = read_count(c, 4);
        ALLOC(&p->shared->graph, list, a->count);
        for (uint32_t i = 0; i < a->count; i++) list[i] = read_f32(c);
        a->v.fs = list;
        break;
    }
    default: c->bad = true;
    }
    return MCC_OK;
}

/* The tensor whose bytes hold t. */
static const mcc_tensor *place_of(const parser *p, const mcc_tensor *t) { return t->slice ? p->whole[t - p->net->tensor] : t; }

static bool overlap(const parser *p, const mcc_tensor *a, const mcc_tensor *b) {
    a = place_of(p, a), b = place_of(p, b);
    return a->bytes && b->bytes && a->offset < b->offset + b->bytes && b->offset < a->offset + a->bytes;
}

/* Slices are read by a concat into the tensor whose slices they are, where they are; there is nothing to move then. */
static mcc_status check_slices(const parser *p, const mcc_node *n, bool concat) {
    const mcc_tensor *out = n->outputs == 1 ? n->out[0] : NULL;
    size_t first = 0;
    for (uint32_t i = 0; i < n->inputs; i++) {
        const mcc_tensor *in = n->in[i];
        if (in && in->slice && (!concat || place_of(p, in) != out || in->offset != out->offset + first * mcc_type_bytes(in->type)))
            return mcc_fail(MCC_BAD_FILE, "graph: node '%s' reads slice %u in another way than a concat in place", n->name, i);
        if (in && in->rank) first += in->dim[in->rank - 1];
    }
    return MCC_OK;
}

/* An output may take the place of an input exactly (in place), or lie apart; outputs lie apart. */
static mcc_status check_places(const parser *p, const mcc_node *n) {
    for (uint32_t o = 0; o < n->outputs; o++) {
        for (uint32_t i = 0; i < n->inputs; i++) {
            const mcc_tensor *in = n->in[i];
            if (in && in->slice) continue; /* check_slices */
            if (in && !in->constant && !(in->offset == n->out[o]->offset && !n->out[o]->slice) && overlap(p, in, n->out[o]))
                return mcc_fail(MCC_BAD_FILE, "graph: node '%s': output %u partly overlaps input %u", n->name, o, i);
        }
        for (uint32_t other = 0; other < o; other++)
            if (overlap(p, n->out[other], n->out[o]))
                return mcc_fail(MCC_BAD_FILE, "graph: node '%s': outputs %u and %u overlap", n->name, other, o);
    }
    return MCC_OK;
}

static mcc_status read_node(parser *p, uint32_t number) {
    cursor *c = &p->c;
    mcc_pool *pool = &p->shared->graph;
    mcc_node *n = &p->net->node[number];
    mcc_attr *attrs;
    const char *op = read_str(p);
    n->name = read_str(p);
    n->inputs = read_count(c, 1);
    ALLOC(&p->net->own, n->in, n->inputs);
    for (uint32_t i = 0; i < n->inputs; i++) {
        const uint32_t ref = read_below(c, p->shared->tensors + 1);
        DAMAGED(p, "damaged in node %u", number);
        n->in[i] = ref ? &p->net->tensor[ref - 1] : NULL;
        if (ref && !p->made[ref - 1]) return mcc_fail(MCC_BAD_FILE, "graph: node '%s' reads tensor %u before it is made", n->name, ref - 1);
    }
    n->outputs = read_count(c, 1);
    ALLOC(&p->net->own, n->out, n->outputs);
    for (uint32_t i = 0; i < n->outputs; i++) {
        const uint32_t t = read_below(c, p->shared->tensors);
        DAMAGED(p, "damaged in node %u", number);
        if (p->made[t]) return mcc_fail(MCC_BAD_FILE, "graph: node '%s' writes tensor %u, which has a value", n->name, t);
        p->made[t] = 1;
        n->out[i] = &p->net->tensor[t];
    }
    n->attrs = read_count(c, 2);
    DAMAGED(p, "damaged in node %u", number);
    ALLOC(pool, attrs, n->attrs);
    for (uint32_t i = 0; i < n->attrs; i++) MCC_TRY(read_attr(p, &attrs[i]));
    n->attr = attrs;
    DAMAGED(p, "damaged in node %u", number);
    MCC_TRY(check_places(p, n));
    MCC_TRY(check_slices(p, n, strcmp(op, "concat") == 0));
    if (!mcc_op_find(op, &n->op)) return mcc_fail(MCC_NO_OP, "node '%s': this engine has no op '%s'", n->name, op);
    return MCC_OK;
}

static mcc_status read_graph(parser *p) {
    mcc_shared *shared = p->shared;
    MCC_TRY(read_strings(p));
    shared->tensors = read_count(&p->c, 4);
    DAMAGED(p, "damaged in the tensors");
    ALLOC(&p->net->own, p->net->tensor, shared->tensors);
    ALLOC(&shared->graph, shared->decoded, shared->tensors);
    ALLOC(&shared->graph, p->made, shared->tensors);
    ALLOC(&shared->graph, p->whole, shared->tensors);
    for (uint32_t i = 0; i < shared->tensors; i++) {
        MCC_TRY(read_tensor(p, i));
        p->made[i] = p->net->tensor[i].constant;
    }
    MCC_TRY(read_ports(p, &shared->inputs, &shared->input, true));
    MCC_TRY(read_ports(p, &shared->outputs, &shared->output, false));
    shared->nodes = read_count(&p->c, 5);
    DAMAGED(p, "damaged in the nodes");
    ALLOC(&p->net->own, p->net->node, shared->nodes);
    for (uint32_t i = 0; i < shared->nodes; i++) MCC_TRY(read_node(p, i));
    const uint64_t arena = read_uv(&p->c);
    if (p->c.bad || left(&p->c) || arena % 64) return mcc_fail(MCC_BAD_FILE, "graph: damaged at its end");
    if (arena > MCC_MAX_BYTES) return mcc_fail(MCC_NO_MEMORY, "graph: an arena of %llu bytes", (unsigned long long)arena);
    shared->arena_bytes = (size_t)arena;
    for (uint32_t i = 0; i < shared->tensors; i++) {
        const mcc_tensor *t = &p->net->tensor[i];
        if (!t->constant && (t->offset > arena || t->bytes > arena - t->offset))
            return mcc_fail(MCC_BAD_FILE, "graph: tensor %u lies outside the arena", i);
    }
    for (uint32_t i = 0; i < shared->outputs; i++)
        if (!p->made[shared->output[i]]) return mcc_fail(MCC_BAD_FILE, "graph: output %u is never made", i);
    return MCC_OK;
}

mcc_status mcc_file_parse(mcc_net *net) {
    section known[KNOWN] = {{0}};
    mcc_shared *shared = net->shared;
    MCC_TRY(read_sections(&shared->map, known));
    shared->note = known[MCC_SECTION_NOTE].there ? (const char *)known[MCC_SECTION_NOTE].bytes : "";
    shared->note_bytes = known[MCC_SECTION_NOTE].size;
    const section graph = known[MCC_SECTION_GRAPH], data = known[MCC_SECTION_DATA], packed = known[MCC_SECTION_PACKED];
    const section choices = known[MCC_SECTION_CHOICES];
    parser p = {.c = {graph.bytes, graph.bytes + graph.size, false}, .net = net, .shared = shared, .data = data};
    p.data_base = (size_t)(p.data.bytes - shared->map.bytes);
    MCC_TRY(read_graph(&p));
    if (choices.there) MCC_TRY(mcc_choices_find(shared, choices.bytes, choices.size, graph.crc));
    mcc_packing_start(&shared->packing, graph.crc, data.crc, shared->choice_crc);
    if (packed.there) mcc_packing_find(&shared->packing, packed.bytes, packed.size);
    /* Packed, weights are a little larger; a second block for that little would cost a large page and more. */
    shared->state.expected = shared->packing.state == MCC_PACKED_USED ? 0 : data.size + data.size / 32;
    return MCC_OK;
}
