/* build.c: .mcc files made in memory, for the checker. A third, write-only implementation of core/file.h. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../kernels/core/file.h"
#include "check.h"

typedef struct buffer { uint8_t *data; size_t size, room; } buffer;
typedef struct list { buffer body; size_t count; } list;

struct builder {
    buffer strings, data;
    size_t string_count, arena;
    list tensors, inputs, outputs, nodes;
    struct { char op[64]; buffer in, out, attrs; size_t ins, outs, attr_count; } node;
    bool open; /* a node has been begun */
    uint8_t *file;
    void *base;
};

static void put(buffer *b, const void *bytes, size_t n) {
    if (b->size + n > b->room) {
        b->room = (b->size + n) * 2 + 64;
        if (!(b->data = realloc(b->data, b->room))) exit(2);
    }
    if (n) memcpy(b->data + b->size, bytes, n);
    b->size += n;
}

static void put_u8(buffer *b, unsigned v) { put(b, &(uint8_t){(uint8_t)v}, 1); }

static void put_uv(buffer *b, uint64_t v) {
    for (; v >= 0x80; v >>= 7) put_u8(b, (unsigned)(v & 0x7f) | 0x80);
    put_u8(b, (unsigned)v);
}

static void put_sv(buffer *b, int64_t v) { put_uv(b, v >= 0 ? (uint64_t)v * 2 : (uint64_t)(-(v + 1)) * 2 + 1); }

static void put_align(buffer *b, size_t n) {
    while (b->size % n) put_u8(b, 0);
}

static size_t string(builder *b, const char *text) {
    put_uv(&b->strings, strlen(text));
    put(&b->strings, text, strlen(text));
    return b->string_count++;
}

builder *build_new(void) {
    builder *b = calloc(1, sizeof *b);
    if (!b) exit(2);
    string(b, "");
    return b;
}

static int tensor_head(builder *b, mcc_type type, unsigned kind, unsigned rank, const size_t *dim) {
    char name[24];
    snprintf(name, sizeof name, "t%zu", b->tensors.count);
    buffer *t = &b->tensors.body;
    put_uv(t, string(b, name));
    put_u8(t, type);
    put_u8(t, kind);
    put_uv(t, rank);
    for (unsigned i = 0; i < rank; i++) put_uv(t, dim[i]);
    return (int)b->tensors.count++;
}

static size_t bytes_of(mcc_type type, unsigned rank, const size_t *dim) {
    size_t bytes = mcc_type_bytes(type);
    for (unsigned i = 0; i < rank; i++) bytes *= dim[i];
    return bytes;
}

int build_activation(builder *b, mcc_type type, unsigned rank, const size_t *dim) {
    const int number = tensor_head(b, type, 0, rank, dim);
    put_uv(&b->tensors.body, b->arena / 64);
    b->arena += (bytes_of(type, rank, dim) + 63) / 64 * 64;
    return number;
}

int build_blob(builder *b, mcc_type type, unsigned rank, const size_t *dim, mcc_storage storage, const void *blob, size_t bytes) {
    const int number = tensor_head(b, type, 1, rank, dim);
    put_align(&b->data, 64);
    put_u8(&b->tensors.body, storage);
    put_uv(&b->tensors.body, b->data.size);
    put_uv(&b->tensors.body, bytes);
    put(&b->data, blob, bytes);
    return number;
}

int build_constant(builder *b, mcc_type type, unsigned rank, const size_t *dim, const void *values) {
    return build_blob(b, type, rank, dim, MCC_RAW, values, bytes_of(type, rank, dim));
}

void build_input(builder *b, int tensor) { put_uv(&b->inputs.body, (uint64_t)tensor), b->inputs.count++; }
void build_output(builder *b, int tensor) { put_uv(&b->outputs.body, (uint64_t)tensor), b->outputs.count++; }

static void end_node(builder *b) {
    if (!b->open) return;
    buffer *n = &b->nodes.body;
    char name[80];
    snprintf(name, sizeof name, "%s_%zu", b->node.op, b->nodes.count++);
    put_uv(n, string(b, b->node.op));
    put_uv(n, string(b, name));
    put_uv(n, b->node.ins), put(n, b->node.in.data, b->node.in.size);
    put_uv(n, b->node.outs), put(n, b->node.out.data, b->node.out.size);
    put_uv(n, b->node.attr_count), put(n, b->node.attrs.data, b->node.attrs.size);
    b->node.in.size = b->node.out.size = b->node.attrs.size = 0;
    b->node.ins = b->node.outs = b->node.attr_count = 0;
    b->open = false;
}

void build_node(builder *b, const char *op) {
    end_node(b);
    snprintf(b->node.op, sizeof b->node.op, "%s", op);
    b->open = true;
}

void build_in(builder *b, int tensor) { put_uv(&b->node.in, (uint64_t)(tensor + 1)), b->node.ins++; }
void build_out(builder *b, int tensor) { put_uv(&b->node.out, (uint64_t)tensor), b->node.outs++; }

static buffer *attr(builder *b, const char *key, unsigned kind) {
    put_uv(&b->node.attrs, string(b, key));
    put_u8(&b->node.attrs, kind);
    b->node.attr_count++;
    return &b->node.attrs;
}

void build_attr_int(builder *b, const char *key, int64_t value) { put_sv(attr(b, key, MCC_ATTR_INT), value); }
void build_attr_float(builder *b, const char *key, float value) { put(attr(b, key, MCC_ATTR_FLOAT), &value, 4); }
void build_attr_string(builder *b, const char *key, const char *value) {
    const size_t s = string(b, value);
    put_uv(attr(b, key, MCC_ATTR_STRING), s);
}
void build_attr_ints(builder *b, const char *key, size_t count, const int64_t *values) {
    buffer *a = attr(b, key, MCC_ATTR_INTS);
    put_uv(a, count);
    for (size_t i = 0; i < count; i++) put_sv(a, values[i]);
}

static void put_list(buffer *to, const list *l) {
    put_uv(to, l->count);
    put(to, l->body.data, l->body.size);
}

static void store(uint8_t *p, uint64_t v, unsigned bytes) {
    for (unsigned i = 0; i < bytes; i++) p[i] = (uint8_t)(v >> 8 * i);
}

static uint64_t load(const uint8_t *p, unsigned bytes) {
    uint64_t v = 0;
    for (unsigned i = 0; i < bytes; i++) v |= (uint64_t)p[i] << 8 * i;
    return v;
}

static uint32_t crc32(const uint8_t *p, size_t n) { /* bit by bit: nothing shared with the reader's */
    uint32_t crc = ~0u;
    while (n--) {
        crc ^= *p++;
        for (int k = 0; k < 8; k++) crc = crc >> 1 ^ (crc & 1 ? 0xedb88320u : 0);
    }
    return ~crc;
}

void build_checksums(uint8_t *file, size_t bytes) {
    if (bytes < 24) return;
    store(file + 8, bytes, 8);
    const uint64_t count = load(file + 16, 4);
    if (count > (bytes - 24) / 24) return;
    for (uint64_t i = 0; i < count; i++) {
        uint8_t *entry = file + 24 + 24 * i;
        const uint64_t offset = load(entry + 8, 8), size = load(entry + 16, 8);
        if (offset <= bytes && size <= bytes - offset) store(entry + 4, crc32(file + offset, size), 4);
    }
    store(file + 20, 0, 4);
    store(file + 20, crc32(file, 24 + 24 * count), 4);
}

const void *build_file(builder *b, size_t *bytes) {
    end_node(b);
    buffer graph = {0};
    put_uv(&graph, b->string_count);
    put(&graph, b->strings.data, b->strings.size);
    put_list(&graph, &b->tensors);
    put_list(&graph, &b->inputs);
    put_list(&graph, &b->outputs);
    put_list(&graph, &b->nodes);
    put_uv(&graph, b->arena);
    const size_t head = 24 + 2 * 24, data_at = (head + graph.size + 63) / 64 * 64, size = data_at + b->data.size;
    free(b->base);
    if (!(b->base = calloc(1, size + 64))) exit(2);
    uint8_t *f = b->file = (uint8_t *)b->base + (64 - (uintptr_t)b->base % 64) % 64;
    memcpy(f, "MCC\x1a", 4);
    store(f + 4, MCC_FILE_VERSION, 4);
    store(f + 16, 2, 4);
    store(f + 24, MCC_SECTION_GRAPH, 4), store(f + 32, head, 8), store(f + 40, graph.size, 8);
    store(f + 48, MCC_SECTION_DATA, 4), store(f + 56, data_at, 8), store(f + 64, b->data.size, 8);
    memcpy(f + head, graph.data, graph.size);
    if (b->data.size) memcpy(f + data_at, b->data.data, b->data.size);
    build_checksums(f, size);
    free(graph.data);
    *bytes = size;
    return f;
}

void build_free(builder *b) {
    buffer *all[] = {&b->strings, &b->data, &b->tensors.body, &b->inputs.body, &b->outputs.body, &b->nodes.body,
                     &b->node.in, &b->node.out, &b->node.attrs};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) free(all[i]->data);
    free(b->base);
    free(b);
}
