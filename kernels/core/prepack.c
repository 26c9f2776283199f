/* prepack.c: packed weights, made at open or found in the file, and the writing of files that have them.
 *
 * Every packing function of every family asks for its memory here, in the order of the nodes. What was handed out can be
 * written into a file as it stands, and found again by asking in the same order. */
#define _POSIX_C_SOURCE 200809L
#include <stdio.h>
#include <string.h>

#include "crc.h"
#include "isa.h"
#include "registry.h"
#include "state.h"

enum { KEY = MCC_PACKING_KEY, HEAD = KEY + 8, RECORD = 16, SLACK = 64, FILE_HEAD = 24, FILE_ENTRY = 24 };

static uint32_t get32(const uint8_t *p) {
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}
static uint64_t get64(const uint8_t *p) { return get32(p) | (uint64_t)get32(p + 4) << 32; }
static void put32(uint8_t *p, uint32_t v) {
    for (int i = 0; i < 4; i++) p[i] = (uint8_t)(v >> 8 * i);
}
static void put64(uint8_t *p, uint64_t v) {
    put32(p, (uint32_t)v), put32(p + 4, (uint32_t)(v >> 32));
}
static size_t up(size_t n) { return (n + 63) / 64 * 64; }

/* --- the key ----------------------------------------------------------------------------------------------------- */

/* The checksum of the names of all kernels that this build could choose among, and of what the choice is limited to. */
static uint32_t choice_crc(void) {
    const char *family;
    mcc_kernel_info info;
    uint32_t sum = ~0u;
    for (size_t i = 0; mcc_kernel_at(i, &family, &info); i++) {
        const uint8_t only = mcc_kernel_forced(info.name);
        sum = mcc_crc32(sum, info.name, strlen(info.name) + 1);
        sum = mcc_crc32(sum, &only, 1);
    }
    return ~sum;
}

/* When the net is opened: limits that hold then decide how its weights are packed, whatever holds later. */
void mcc_packing_start(mcc_packing *p, uint32_t graph_crc, uint32_t data_crc, uint32_t choices_crc) {
    const uint32_t parts[KEY / 4] = {MCC_PACKING_VERSION, mcc_isa(), choice_crc(), graph_crc, data_crc, choices_crc};
    for (size_t i = 0; i < KEY / 4; i++) put32(p->key + 4 * i, parts[i]);
}

void mcc_packing_find(mcc_packing *p, const uint8_t *section, size_t size) {
    p->state = MCC_PACKED_UNUSED;
    if (size < HEAD || memcmp(section, p->key, KEY) != 0 || get32(section + KEY + 4)) return;
    const uint32_t count = get32(section + KEY);
    if (count > (size - HEAD) / RECORD) return;
    p->section = section, p->size = size, p->count = count;
    p->state = MCC_PACKED_USED;
}

/* --- asking ------------------------------------------------------------------------------------------------------- */

/* The next block of the file, when it is as asked for. One that is not ends the finding: an honest file has none. */
static const uint8_t *found(mcc_packing *p, size_t bytes) {
    if (p->next >= p->count) return NULL;
    const uint8_t *record = p->section + HEAD + (size_t)p->next++ * RECORD;
    const uint64_t at = get64(record), size = get64(record + 8);
    const bool inside = size == bytes && at <= p->size && bytes <= p->size - at && p->size - at - bytes >= SLACK;
    if (inside && (uintptr_t)(p->section + at) % 64 == 0) return p->section + at;
    p->count = 0;
    p->state = MCC_PACKED_UNUSED;
    return NULL;
}

static bool record(mcc_shared *shared, const void *at, size_t bytes) {
    mcc_packing *p = &shared->packing;
    if (p->blocks == p->room) {
        const size_t room = p->room ? 2 * p->room : 256;
        mcc_packed_block *more = mcc_pool_array(&shared->graph, room, sizeof *more);
        if (!more) return false;
        if (p->blocks) memcpy(more, p->block, p->blocks * sizeof *more);
        p->block = more, p->room = room;
    }
    p->block[p->blocks++] = (mcc_packed_block){at, bytes};
    return true;
}

void *mcc_net_pack(mcc_net *net, size_t bytes, bool *ready) {
    mcc_shared *shared = net->shared;
    const uint8_t *there = found(&shared->packing, bytes);
    /* Nobody writes to what is ready: it may be the file's own page. */
    void *memory = there ? (void *)(uintptr_t)there : mcc_net_alloc(net, bytes);
    *ready = there != NULL;
    if (there) shared->packing.bytes += bytes;
    return memory && record(shared, memory, bytes) ? memory : NULL;
}

/* --- writing ------------------------------------------------------------------------------------------------------ */

typedef struct output { FILE *file; size_t at; uint32_t crc; bool good; } output;

static void put(output *o, const void *bytes, size_t n) {
    o->good = o->good && (!n || fwrite(bytes, 1, n, o->file) == n);
    o->at += n;
    o->crc = mcc_crc32(o->crc, bytes, n);
}

static void put_zeros(output *o, size_t to) {
    static const uint8_t zeros[64];
    while (o->at < to) put(o, zeros, to - o->at < sizeof zeros ? to - o->at : sizeof zeros);
}

static size_t packed_size(const mcc_packing *p) {
    size_t size = up(HEAD + p->blocks * RECORD);
    for (size_t i = 0; i < p->blocks; i++) size += up(p->block[i].bytes) + SLACK;
    return size;
}

static void put_packed(output *o, const mcc_packing *p) {
    const size_t base = o->at;
    uint8_t head[HEAD] = {0};
    memcpy(head, p->key, KEY);
    put32(head + KEY, (uint32_t)p->blocks);
    put(o, head, HEAD);
    size_t at = up(HEAD + p->blocks * RECORD);
    for (size_t i = 0; i < p->blocks; i++) {
        uint8_t entry[RECORD];
        put64(entry, at), put64(entry + 8, p->block[i].bytes);
        put(o, entry, RECORD);
        at += up(p->block[i].bytes) + SLACK;
    }
    put_zeros(o, base + up(HEAD + p->blocks * RECORD));
    for (size_t i = 0; i < p->blocks; i++) {
        put(o, p->block[i].at, p->block[i].bytes);
        put_zeros(o, up(o->at) + SLACK);
    }
}

/* The sections of the net's file but for packed ones, then the packed one; the table last, when its checksum is known. */
static bool write_file(FILE *file, const mcc_map *map, const mcc_packing *p) {
    uint8_t head[FILE_HEAD + 64 * FILE_ENTRY] = {0};
    const uint32_t had = get32(map->bytes + 16);
    uint32_t count = 0, from[64];
    for (uint32_t i = 0; i < had; i++)
        if (get32(map->bytes + FILE_HEAD + (size_t)i * FILE_ENTRY) != MCC_SECTION_PACKED) from[count++] = i;
    const size_t table = FILE_HEAD + (size_t)(count + 1) * FILE_ENTRY;
    output o = {file, 0, 0, count < 64};
    if (!o.good) return false;
    put(&o, head, table);
    for (uint32_t i = 0; i <= count; i++) {
        uint8_t *entry = head + FILE_HEAD + (size_t)i * FILE_ENTRY;
        put_zeros(&o, up(o.at));
        if (i < count) {
            const uint8_t *old = map->bytes + FILE_HEAD + (size_t)from[i] * FILE_ENTRY;
            memcpy(entry, old, 8); /* kind and checksum */
            put64(entry + 8, o.at), put64(entry + 16, get64(old + 16));
            put(&o, map->bytes + get64(old + 8), (size_t)get64(old + 16));
        } else {
            o.crc = ~0u;
            put64(entry + 8, o.at), put64(entry + 16, packed_size(p));
            put_packed(&o, p);
            put32(entry, MCC_SECTION_PACKED), put32(entry + 4, ~o.crc);
        }
    }
    memcpy(head, map->bytes, 8); /* magic and version */
    put64(head + 8, o.at), put32(head + 16, count + 1);
    put32(head + 20, ~mcc_crc32(~0u, head, table));
    return o.good && fseek(file, 0, SEEK_SET) == 0 && fwrite(head, 1, table, file) == table;
}

mcc_status mcc_prepack(const mcc_net *net, const char *path) {
    mcc_why_clear();
    if (!net || !path) return mcc_fail(MCC_BAD_ARGUMENT, "mcc_prepack: NULL");
    FILE *file = fopen(path, "wb");
    if (!file) return mcc_fail(MCC_NO_FILE, "%s: cannot be written", path);
    const bool good = write_file(file, &net->shared->map, &net->shared->packing);
    return fclose(file) == 0 && good ? MCC_OK : mcc_fail(MCC_NO_FILE, "%s: cannot be written", path);
}
