/* check_core.c: opening, running, cloning, threads, storages and damaged files, on nets made in memory. */
#define _POSIX_C_SOURCE 200809L
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "../../kernels/core/coder.h"
#include "../../kernels/core/crc.h"
#include "../../kernels/core/hash.h"
#include "../../kernels/core/isa.h"
#include "../../kernels/core/registry.h"
#include "../../kernels/core/state.h"
#include "check.h"

#define EXPECT(name, cond, ...) do { if (!(cond)) check_fail(name, __VA_ARGS__); } while (0)

/* x -> identity -> y, float32 [1, n]. */
static builder *identity_net(size_t n) {
    builder *b = build_new();
    const size_t dim[2] = {1, n};
    const int x = build_activation(b, MCC_F32, 2, dim), y = build_activation(b, MCC_F32, 2, dim);
    build_input(b, x);
    build_output(b, y);
    build_node(b, "identity");
    build_in(b, x);
    build_out(b, y);
    return b;
}

static bool runs_identity(mcc_net *net) {
    const mcc_port *x = mcc_input(net, 0), *y = mcc_output(net, 0);
    check_fill_f32(x->data, x->bytes / 4);
    mcc_run(net);
    return memcmp(x->data, y->data, x->bytes) == 0;
}

static void check_life(void) {
    const char *name = "open, run, clone, close";
    size_t cases = 0;
    for (size_t n = 0; n < 70 && !check_failed(); n++, cases++) {
        builder *b = identity_net(n);
        size_t size;
        const void *file = build_file(b, &size);
        mcc_net *net, *copy;
        const mcc_status s = mcc_open_memory(file, size, &net);
        EXPECT(name, s == MCC_OK, "n=%zu: %s: %s", n, mcc_status_text(s), mcc_why());
        if (s != MCC_OK) break;
        EXPECT(name, runs_identity(net), "n=%zu: not the same", n);
        EXPECT(name, mcc_inputs(net) == 1 && mcc_outputs(net) == 1 && !mcc_input(net, 1) && !mcc_output(net, 1), "ports");
        EXPECT(name, mcc_input(net, 0)->rank == 2 && mcc_input(net, 0)->shape[1] == n, "shape");
        mcc_set_profile(net, 1);
        mcc_run(net);
        const mcc_node_profile *rows;
        EXPECT(name, mcc_profile(net, &rows) == 1 && strcmp(rows[0].op, "identity") == 0 && rows[0].ms >= 0, "profile");
        mcc_facts facts;
        mcc_describe(net, &facts);
        EXPECT(name, facts.arena_bytes >= 8 * n && facts.threads == 1 && facts.meta_bytes == 0, "facts");
        EXPECT(name, mcc_set_threads(net, 65) == MCC_BAD_ARGUMENT && mcc_set_threads(net, 3) == MCC_OK, "threads");
        if (mcc_clone(net, &copy) == MCC_OK) {
            EXPECT(name, mcc_input(copy, 0)->data != mcc_input(net, 0)->data, "a clone shares activations");
            mcc_close(net);
            EXPECT(name, runs_identity(copy), "n=%zu: clone", n);
            mcc_close(copy);
        } else {
            check_fail(name, "clone: %s", mcc_why());
            mcc_close(net);
        }
        build_free(b);
    }
    mcc_close(NULL);
    check_ok(name, cases);
}

/* --- threads ------------------------------------------------------------------------------------- */

typedef struct marks { unsigned char *seen; size_t grain, count; bool misaligned; unsigned threads, slow; } marks;

static void mark(void *arg, size_t begin, size_t end, unsigned thread) {
    marks *m = arg;
    if (begin % m->grain || (end % m->grain && end != m->count) || thread >= m->threads || begin >= end) m->misaligned = true;
    for (size_t i = begin; i < end; i++) m->seen[i]++;
    if (m->slow == thread) /* so that others take from its share */
        for (volatile int i = 0; i < 20000; i++) {}
}

static void check_threads(void) {
    const char *name = "parallel";
    size_t cases = 0;
    for (unsigned threads = 1; threads <= 5 && !check_failed(); threads++) {
        mcc_exec exec = {threads > 1 ? mcc_workers_start(threads) : NULL, threads, NULL, false};
        for (int round = 0; round < 300 && !check_failed(); round++, cases++) {
            marks m = {NULL, (size_t)check_int(1, 9), (size_t)check_int(0, round % 10 ? 40 : 3000), false, threads, 99};
            m.seen = calloc(m.count + 1, 1);
            if (round % 7 == 0) m.slow = (unsigned)check_int(0, (int)threads - 1);
            if (round % 100 == 50) nanosleep(&(struct timespec){0, 5000000}, NULL); /* workers fall asleep */
            if (round % 100 == 52) mcc_workers_wake(exec.workers);
            mcc_parallel(&exec, m.count, m.grain, mark, &m);
            for (size_t i = 0; i < m.count; i++)
                EXPECT(name, m.seen[i] == 1, "threads=%u count=%zu grain=%zu: %zu was done %d times", threads, m.count, m.grain, i, m.seen[i]);
            EXPECT(name, !m.misaligned, "threads=%u count=%zu grain=%zu: bad range", threads, m.count, m.grain);
            free(m.seen);
        }
        mcc_workers_stop(exec.workers);
    }
    check_ok(name, cases);
}

/* --- checksum ------------------------------------------------------------------------------------ */

static void check_crc(void) {
    const char *name = "crc32";
    size_t cases = 0;
    for (size_t n = 0; n < 600 && !check_failed(); n++, cases++) {
        uint8_t *bytes = check_alloc_end(n);
        for (size_t i = 0; i < n; i++) bytes[i] = (uint8_t)check_u32();
        const uint32_t begin = n % 3 ? check_u32() : ~0u;
        uint32_t want = begin;
        for (size_t i = 0; i < n; i++) {
            want ^= bytes[i];
            for (int k = 0; k < 8; k++) want = want >> 1 ^ (want & 1 ? 0xedb88320u : 0);
        }
        EXPECT(name, mcc_crc32(begin, bytes, n) == want, "%zu bytes", n);
        const size_t part = n ? check_u32() % n : 0;
        EXPECT(name, mcc_crc32(mcc_crc32(begin, bytes, part), bytes + part, n - part) == want, "%zu bytes and %zu", part, n - part);
        mcc_isa_limit(0);
        EXPECT(name, mcc_crc32(begin, bytes, n) == want, "%zu bytes, plain", n);
        mcc_isa_limit(~0u);
        check_free_all(name);
    }
    check_ok(name, cases);
}

/* --- storages ------------------------------------------------------------------------------------ */

/* A plain rANS encoder, written from coder.h: symbols backwards, words collected backwards. */
static size_t encode(const uint8_t *symbols, size_t count, const uint32_t freq[4], unsigned scale, unsigned log_lanes, uint8_t *out) {
    const unsigned lanes = 1u << log_lanes;
    uint32_t state[64];
    uint16_t *words = calloc(count + 1, sizeof *words);
    size_t used = 0;
    for (unsigned l = 0; l < lanes; l++) state[l] = 1u << 16;
    for (size_t i = count; i-- > 0;) {
        uint32_t *x = &state[i % lanes], start = 0;
        const uint32_t f = freq[symbols[i]];
        for (unsigned s = 0; s < symbols[i]; s++) start += freq[s];
        if (*x >= (uint64_t)f << (32 - scale)) {
            words[used++] = (uint16_t)*x;
            *x >>= 16;
        }
        *x = (*x / f << scale) + *x % f + start;
    }
    uint8_t *at = out + 8;
    for (unsigned s = 0; s < 4; s++) {
        uint32_t f = freq[s];
        for (; f >= 0x80; f >>= 7) *at++ = (uint8_t)(f | 0x80);
        *at++ = (uint8_t)f;
    }
    for (unsigned l = 0; l < lanes; l++)
        for (unsigned k = 0; k < 4; k++) *at++ = (uint8_t)(state[l] >> 8 * k);
    while (used--) *at++ = (uint8_t)words[used], *at++ = (uint8_t)(words[used] >> 8);
    free(words);
    const uint32_t size = (uint32_t)(at - out);
    const uint8_t head[8] = {(uint8_t)log_lanes, (uint8_t)scale, 4, 0, (uint8_t)size, (uint8_t)(size >> 8), (uint8_t)(size >> 16), 0};
    memcpy(out, head, 8);
    return size;
}

static void check_coder(void) {
    const char *name = "rans";
    size_t cases = 0;
    for (int round = 0; round < 400 && !check_failed(); round++, cases++) {
        const size_t count = (size_t)check_int(0, round % 20 ? 300 : 5000);
        const unsigned scale = (unsigned)check_int(8, 14), log_lanes = (unsigned)check_int(0, 6);
        uint32_t freq[4] = {1, 1, 1, 1};
        for (uint32_t rest = (1u << scale) - 4; rest;) {
            const uint32_t step = rest < 4 ? rest : (uint32_t)check_int(1, (int)rest);
            freq[check_int(0, 3)] += step;
            rest -= step;
        }
        uint8_t *symbols = check_alloc(count), *got = check_alloc(count), *stream = malloc(count * 2 + 512);
        for (size_t i = 0; i < count; i++) symbols[i] = (uint8_t)(check_int(0, 9) ? check_int(0, 1) : check_int(0, 3));
        const size_t size = encode(symbols, count, freq, scale, log_lanes, stream);
        uint8_t *tight = check_alloc_end(size); /* reading past the stream's end is a crash */
        memcpy(tight, stream, size);
        const size_t used = mcc_rans_decode(tight, size, got, count);
        EXPECT(name, used == size, "count=%zu scale=%u lanes=%u: %zu bytes of %zu", count, scale, 1u << log_lanes, used, size);
        EXPECT(name, memcmp(got, symbols, count) == 0, "count=%zu scale=%u lanes=%u: other symbols", count, scale, 1u << log_lanes);
        EXPECT(name, mcc_rans_decode(tight, size - 1, got, count) == 0, "accepted a truncated stream");
        mcc_isa_limit(0);
        memset(got, 255, count);
        EXPECT(name, mcc_rans_decode(tight, size, got, count) == size && memcmp(got, symbols, count) == 0, "plain: other symbols");
        mcc_isa_limit(~0u);
        for (int k = 0; k < 20; k++) { /* damage: any answer but a crash */
            memcpy(tight, stream, size);
            tight[check_u32() % size] ^= (uint8_t)(1 << check_int(0, 7));
            mcc_rans_decode(tight, size, got, count);
        }
        free(stream);
        check_free_all(name);
    }
    check_ok(name, cases);
}

/* Opens a net whose only output is a constant with this blob. */
static mcc_status open_blob(mcc_type type, size_t rows, size_t columns, mcc_storage storage, const void *blob, size_t bytes,
                            builder **b, mcc_net **net) {
    *b = build_new();
    const size_t dim[2] = {rows, columns};
    build_output(*b, build_blob(*b, type, 2, dim, storage, blob, bytes));
    size_t size;
    const void *file = build_file(*b, &size);
    return mcc_open_memory(file, size, net);
}

static void check_palette(void) {
    const char *name = "palette";
    size_t cases = 0;
    for (unsigned bits = 1; bits <= 8 && !check_failed(); bits++)
        for (unsigned groups = 1; groups <= 3 && !check_failed(); groups++, cases++) {
            enum { ROWS = 6, COLUMNS = 7, COUNT = ROWS * COLUMNS };
            const unsigned entries = (unsigned)check_int(1, 1 << bits);
            uint8_t blob[8 + 3 * 256 * 4 + COUNT + 8] = {(uint8_t)bits, 0, (uint8_t)groups, 0, (uint8_t)entries, (uint8_t)(entries >> 8)};
            float values[3 * 256], want[COUNT];
            check_fill_f32(values, groups * entries);
            memcpy(blob + 8, values, groups * entries * 4);
            uint8_t *packed = blob + 8 + groups * entries * 4, index[COUNT];
            for (size_t i = 0; i < COUNT; i++) {
                index[i] = (uint8_t)check_int(0, (int)entries - 1);
                want[i] = values[i / (COUNT / groups) * entries + index[i]];
                for (unsigned k = 0; k < bits; k++) packed[(i * bits + k) / 8] |= (uint8_t)((index[i] >> k & 1) << (i * bits + k) % 8);
            }
            const size_t bytes = 8 + groups * entries * 4 + (COUNT * bits + 7) / 8;
            builder *b;
            mcc_net *net;
            const mcc_status s = open_blob(MCC_F32, ROWS, COLUMNS, MCC_PALETTE, blob, bytes, &b, &net);
            EXPECT(name, s == MCC_OK, "bits=%u groups=%u entries=%u: %s", bits, groups, entries, mcc_why());
            if (s == MCC_OK) {
                EXPECT(name, memcmp(mcc_output(net, 0)->data, want, sizeof want) == 0, "bits=%u groups=%u: values", bits, groups);
                mcc_palette p;
                EXPECT(name, mcc_palette_of(&net->tensor[0], &p) == MCC_OK, "palette_of: %s", mcc_why());
                EXPECT(name, p.groups == groups && p.entries == entries && p.bits == bits, "palette_of: sizes");
                EXPECT(name, memcmp(p.index, index, COUNT) == 0, "bits=%u: indices", bits);
                EXPECT(name, memcmp(p.values, values, groups * entries * sizeof *values) == 0, "bits=%u: values", bits);
                mcc_palette_free(&p);
                mcc_close(net);
            }
            build_free(b);
            if (entries == 1u << bits || check_failed()) continue;
            packed[0] |= (uint8_t)((1u << bits) - 1); /* the first index becomes the highest, which has no entry */
            EXPECT(name, open_blob(MCC_F32, ROWS, COLUMNS, MCC_PALETTE, blob, bytes, &b, &net) == MCC_BAD_FILE, "accepted a bad index");
            build_free(b);
        }
    check_ok(name, cases);
}

/* Scales and zero points of every kind; then each byte of the header changed. */
static void check_quantized(void) {
    const char *name = "quantized";
    enum { ROWS = 6, COLUMNS = 21, COUNT = ROWS * COLUMNS };
    size_t cases = 0;
    for (unsigned bits = 1; bits <= 8 && !check_failed(); bits++)
        for (unsigned kind = 0; kind < 12 && !check_failed(); kind++, cases++) {
            const unsigned per = kind / 4, zeros = kind & 1, half = kind >> 1 & 1, block = per == 2 ? (unsigned)check_int(1, 30) : 0;
            const size_t across = per == 2 ? block < COLUMNS ? (COLUMNS + block - 1) / block : 1 : 1;
            const size_t scales = per == 0 ? 1 : ROWS * across;
            uint8_t blob[8 + COUNT * 6 + 8] = {(uint8_t)bits, 0, (uint8_t)(zeros | half << 1), (uint8_t)per, (uint8_t)block};
            uint8_t *at = blob + 8, zero[COUNT];
            float scale[COUNT], want[COUNT];
            for (size_t i = 0; i < scales; i++) {
                const int e = check_int(-5, 5);
                scale[i] = ldexpf(1, e);
                const uint16_t h = (uint16_t)((e + 15) << 10);
                if (half) memcpy(at, &h, 2), at += 2;
                else memcpy(at, &scale[i], 4), at += 4;
            }
            for (size_t i = 0; i < scales; i++) {
                zero[i] = zeros ? (uint8_t)check_int(0, (1 << bits) - 1) : (uint8_t)(1u << (bits - 1));
                if (zeros) *at++ = zero[i];
            }
            for (size_t i = 0; i < COUNT; i++) {
                const size_t b = per == 0 ? 0 : i / COLUMNS * across + (per == 2 ? i % COLUMNS / block : 0);
                const int code = check_int(0, (1 << bits) - 1);
                want[i] = (float)(code - zero[b]) * scale[b];
                for (unsigned k = 0; k < bits; k++) at[(i * bits + k) / 8] |= (uint8_t)((code >> k & 1) << (i * bits + k) % 8);
            }
            const size_t bytes = (size_t)(at - blob) + (COUNT * bits + 7) / 8;
            builder *b;
            mcc_net *net;
            const mcc_status s = open_blob(MCC_F32, ROWS, COLUMNS, MCC_QUANTIZED, blob, bytes, &b, &net);
            EXPECT(name, s == MCC_OK, "bits=%u kind=%u block=%u: %s", bits, kind, block, mcc_why());
            if (s == MCC_OK) {
                EXPECT(name, memcmp(mcc_output(net, 0)->data, want, sizeof want) == 0, "bits=%u kind=%u block=%u: values", bits, kind, block);
                mcc_close(net);
            }
            build_free(b);
            for (size_t i = 0; i < 4 && !check_failed(); i++) { /* bits, coder, flags, per */
                const uint8_t was = blob[i];
                for (int value = 0; value < 256; value += value < 10 ? 1 : 61) {
                    blob[i] = (uint8_t)value;
                    if (open_blob(MCC_F32, ROWS, COLUMNS, MCC_QUANTIZED, blob, bytes, &b, &net) == MCC_OK) {
                        EXPECT(name, value == was || i == 2 || i == 3, "bits=%u kind=%u: accepted %d at %zu", bits, kind, value, i);
                        mcc_close(net);
                    }
                    build_free(b);
                }
                blob[i] = was;
            }
            EXPECT(name, open_blob(MCC_S32, ROWS, COLUMNS, MCC_QUANTIZED, blob, bytes, &b, &net) == MCC_BAD_FILE, "accepted int32");
            build_free(b);
        }
    check_ok(name, cases);
}

/* Rows or columns by fours, indices listed or not, a mask or none; then every byte before the buckets changed. */
static void check_hashed_blob(void) {
    const char *name = "hashed blob";
    enum { ROWS = 6, COLUMNS = 7, COUNT = ROWS * COLUMNS, BUCKETS = 20 };
    size_t cases = 0;
    for (unsigned kind = 0; kind < 12 && !check_failed(); kind++, cases++) {
        const unsigned run = kind % 3 ? kind % 3 - 1 : MCC_HASH_NO_AXIS, listed = kind / 3 & 1, masked = kind / 6;
        const uint32_t seed = check_u32(), base = check_u32();
        uint8_t blob[16 + 4 + 4 * COLUMNS + 8 + COUNT + 4 * BUCKETS] = {0}, *at = blob + 16;
        for (unsigned k = 0; k < 4; k++) blob[k] = (uint8_t)(seed >> 8 * k), blob[4 + k] = (uint8_t)(base >> 8 * k);
        blob[8] = BUCKETS, blob[13] = (uint8_t)masked, blob[14] = (uint8_t)run;
        uint32_t index[2][COLUMNS];
        *at++ = 0, *at++ = 0;
        for (uint32_t i = 0; i < COLUMNS; i++) index[0][i] = i, index[1][i] = listed ? (uint32_t)check_int(0, 70000) : i;
        *at++ = 1, *at++ = listed ? 4 : 0;
        for (size_t i = 0; i < listed * COLUMNS; i++)
            for (unsigned k = 0; k < 4; k++) *at++ = (uint8_t)(index[1][i] >> 8 * k);
        uint8_t *mask = at + 8;
        if (masked) at[4] = (COUNT + 7) / 8, at = mask + (COUNT + 7) / 8;
        const size_t head = (size_t)(at - blob), bytes = head + 4 * BUCKETS;
        float bucket[BUCKETS], want[COUNT];
        check_fill_f32(bucket, BUCKETS);
        memcpy(at, bucket, sizeof bucket);
        for (size_t i = 0; i < COUNT; i++) {
            const uint32_t r = index[0][i / COLUMNS], c = index[1][i % COLUMNS];
            const uint32_t x = mcc_hash(base ^ mcc_hash_key(seed, 0, run == 0 ? r / 4 : r) ^ mcc_hash_key(seed, 1, run == 1 ? c / 4 : c));
            const float b = bucket[4 * mcc_hash_run(x, BUCKETS / 4) + (run == 0 ? r % 4 : run == 1 ? c % 4 : 0)];
            const bool zero = masked && check_int(0, 1);
            want[i] = zero ? 0 : mcc_hash_negative(x) ? -b : b;
            if (masked && !zero) mask[i / 8] |= (uint8_t)(1 << i % 8);
        }
        builder *b;
        mcc_net *net;
        const mcc_status s = open_blob(MCC_F32, ROWS, COLUMNS, MCC_HASHED, blob, bytes, &b, &net);
        EXPECT(name, s == MCC_OK, "kind=%u: %s", kind, mcc_why());
        if (s == MCC_OK) {
            EXPECT(name, memcmp(mcc_output(net, 0)->data, want, sizeof want) == 0, "kind=%u: values", kind);
            mcc_close(net);
        }
        build_free(b);
        for (size_t i = 8; i < head && !check_failed(); i++) /* any answer but a crash; a wrong header is refused */
            for (int value = 0; value < 256; value += value < 8 ? 1 : 31) {
                const uint8_t was = blob[i];
                blob[i] = (uint8_t)value;
                if (open_blob(MCC_F32, ROWS, COLUMNS, MCC_HASHED, blob, bytes, &b, &net) == MCC_OK) {
                    EXPECT(name, value == was || i == 14 || i >= 16, "kind=%u: accepted %d at %zu", kind, value, i);
                    mcc_close(net);
                }
                build_free(b);
                blob[i] = was;
            }
        EXPECT(name, open_blob(MCC_F32, ROWS, COLUMNS, MCC_HASHED, blob, bytes - 1, &b, &net) == MCC_BAD_FILE, "accepted too few buckets");
        build_free(b);
        EXPECT(name, open_blob(MCC_U32, ROWS, COLUMNS, MCC_HASHED, blob, bytes, &b, &net) == MCC_BAD_FILE, "accepted uint32");
        build_free(b);
    }
    check_ok(name, cases);
}

static void check_bitmask(void) {
    const char *name = "bitmask";
    size_t cases = 0;
    for (size_t n = 0; n < 40 && !check_failed(); n++, cases++) {
        uint8_t blob[12 + 8 + 4 * 40] = {0};
        float want[40] = {0};
        uint32_t nonzeros = 0;
        const size_t mask = (n + 7) / 8;
        for (size_t i = 0; i < n; i++) {
            if (!check_int(0, 2)) continue;
            want[i] = (float)check_int(1, 100);
            blob[12 + i / 8] |= (uint8_t)(1 << i % 8);
            memcpy(blob + 12 + mask + 4 * nonzeros++, &want[i], 4);
        }
        blob[4] = (uint8_t)nonzeros;
        blob[8] = (uint8_t)mask;
        builder *b;
        mcc_net *net;
        const mcc_status s = open_blob(MCC_F32, 1, n, MCC_BITMASK, blob, 12 + mask + 4 * nonzeros, &b, &net);
        EXPECT(name, s == MCC_OK, "n=%zu: %s", n, mcc_why());
        if (s == MCC_OK) {
            EXPECT(name, memcmp(mcc_output(net, 0)->data, want, 4 * n) == 0, "n=%zu: values", n);
            mcc_close(net);
        }
        build_free(b);
        if (!n) continue;
        blob[12] ^= 1; /* one more or less than there are values */
        EXPECT(name, open_blob(MCC_F32, 1, n, MCC_BITMASK, blob, 12 + mask + 4 * nonzeros, &b, &net) == MCC_BAD_FILE, "accepted a bad mask");
        build_free(b);
    }
    check_ok(name, cases);
}

/* --- damaged files ------------------------------------------------------------------------------- */

/* A file that uses every part of the format. */
static builder *rich_net(void) {
    builder *b = build_new();
    const size_t dim[2] = {2, 3}, many[1] = {40};
    float raw[40];
    check_fill_f32(raw, 40);
    const uint8_t palette[8 + 4 + 2] = {2, 0, 1, 0, 4, 0, 0, 0, 1, 2, 3, 4, 0xe4, 0x01};
    const int x = build_activation(b, MCC_F32, 2, dim), y = build_activation(b, MCC_F32, 2, dim);
    const int z = build_activation(b, MCC_F32, 2, dim), r = build_activation(b, MCC_F32, 1, many);
    build_input(b, x);
    build_node(b, "identity");
    build_in(b, x);
    build_out(b, y);
    build_attr_int(b, "whole", -5);
    build_attr_float(b, "real", 2.5f);
    build_attr_string(b, "word", "text");
    build_attr_ints(b, "list", 3, (const int64_t[]){1, INT64_MIN, INT64_MAX});
    build_node(b, "identity");
    build_in(b, y);
    build_out(b, z);
    build_node(b, "identity");
    build_in(b, build_constant(b, MCC_F32, 1, many, raw));
    build_out(b, r);
    build_output(b, z);
    build_output(b, r);
    build_output(b, x);
    build_output(b, build_blob(b, MCC_S8, 2, dim, MCC_PALETTE, palette, sizeof palette));
    return b;
}

static void check_attributes(void) {
    const char *name = "attributes";
    builder *b = rich_net();
    size_t size, count;
    const void *file = build_file(b, &size);
    mcc_net *net = NULL;
    EXPECT(name, mcc_open_memory(file, size, &net) == MCC_OK, "%s", mcc_why());
    if (net) {
        const mcc_node *n = &net->node[0];
        EXPECT(name, mcc_int(n, "whole", 1) == -5 && mcc_int(n, "none", 7) == 7 && mcc_int(n, "real", 7) == 7, "int");
        EXPECT(name, mcc_float(n, "real", 1) == 2.5f && mcc_float(n, "whole", 1) == -5 && mcc_float(n, "word", 3) == 3, "float");
        EXPECT(name, strcmp(mcc_string(n, "word", ""), "text") == 0 && strcmp(mcc_string(n, "real", "no"), "no") == 0, "string");
        const int64_t *list = mcc_ints(n, "list", &count);
        EXPECT(name, count == 3 && list[0] == 1 && list[1] == INT64_MIN && list[2] == INT64_MAX, "ints");
        EXPECT(name, *mcc_ints(n, "whole", &count) == -5 && count == 1 && !mcc_ints(n, "none", &count) && count == 0, "one int");
        EXPECT(name, *mcc_floats(n, "real", &count) == 2.5f && count == 1 && !mcc_floats(n, "list", &count) && count == 0, "floats");
        mcc_close(net);
    }
    build_free(b);
    check_ok(name, 8);
}

static mcc_status open_copy(const uint8_t *bytes, size_t size) {
    uint8_t *copy = mcc_aligned_alloc(size);
    memcpy(copy, bytes, size);
    mcc_net *net = NULL;
    const mcc_status s = mcc_open_memory(copy, size, &net);
    if (s == MCC_OK) mcc_run(net);
    mcc_close(net);
    mcc_aligned_free(copy);
    return s;
}

static void check_damage(void) {
    const char *name = "damaged files";
    size_t cases = 0, size;
    builder *b = rich_net();
    uint8_t *file = check_alloc(1 << 14);
    const void *whole = build_file(b, &size);
    memcpy(file, whole, size);
    EXPECT(name, open_copy(file, size) == MCC_OK, "%s", mcc_why());
    for (size_t n = 0; n < size; n++, cases++) EXPECT(name, open_copy(file, n) == MCC_BAD_FILE, "cut to %zu of %zu bytes: accepted", n, size);
    for (size_t bit = 0; bit < size * 8; bit++, cases++) {
        file[bit / 8] ^= (uint8_t)(1 << bit % 8);
        const mcc_status want = bit / 32 == 1 ? MCC_BAD_VERSION : MCC_BAD_FILE, s = open_copy(file, size);
        EXPECT(name, s == want && *mcc_why(), "bit %zu flipped: %s", bit, mcc_status_text(s));
        file[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
    for (int round = 0; round < 20000; round++, cases++) { /* checksums made right again: any status, never a crash */
        uint8_t *copy = mcc_aligned_alloc(size);
        memcpy(copy, file, size);
        for (int k = check_int(1, 3); k--;) copy[24 + check_u32() % (size - 24)] = (uint8_t)(check_int(0, 1) ? check_u32() : (uint32_t)check_int(0, 3));
        build_checksums(copy, size);
        open_copy(copy, size);
        mcc_aligned_free(copy);
    }
    build_free(b);
    check_ok(name, cases);
}

/* Graphs that are whole but wrong. */
static void check_wrong_graphs(void) {
    const char *name = "wrong graphs";
    const size_t dim[1] = {4}, huge[3] = {(size_t)1 << 40, (size_t)1 << 40, 4};
    for (int kind = 0; kind < 8; kind++) {
        builder *b = build_new();
        const int x = build_activation(b, MCC_F32, 1, dim), y = build_activation(b, MCC_F32, 1, dim);
        const int c = build_constant(b, MCC_F32, 1, dim, (const float[]){1, 2, 3, 4});
        mcc_status want = MCC_BAD_FILE;
        build_input(b, kind == 0 ? c : x);
        build_node(b, kind == 1 ? "no_such_op" : "identity");
        if (kind == 1) want = MCC_NO_OP;
        build_in(b, kind == 2 ? y : kind == 3 ? -1 : x);
        if (kind == 3) want = MCC_BAD_GRAPH;
        build_out(b, kind == 4 ? c : kind == 5 ? x : y);
        if (kind == 6) build_input(b, x);
        if (kind == 7) want = MCC_NO_MEMORY, build_output(b, build_activation(b, MCC_F32, 3, huge));
        size_t size;
        const void *file = build_file(b, &size);
        mcc_net *net;
        const mcc_status s = mcc_open_memory(file, size, &net);
        EXPECT(name, s == want && !net && *mcc_why(), "kind %d: %s: %s", kind, mcc_status_text(s), mcc_why());
        build_free(b);
    }
    mcc_net *net;
    EXPECT(name, mcc_open("/nonexistent.mcc", &net) == MCC_NO_FILE && !net, "opened a file that is not there");
    EXPECT(name, mcc_open(NULL, &net) == MCC_BAD_ARGUMENT && mcc_open("x", NULL) == MCC_BAD_ARGUMENT, "NULL");
    EXPECT(name, mcc_open_memory(NULL, 0, &net) == MCC_BAD_ARGUMENT, "NULL memory");
    check_ok(name, 11);
}

/* --- ISA ----------------------------------------------------------------------------------------- */

static void check_isa(void) {
    const char *name = "isa", *family;
    const uint32_t have = mcc_isa();
    EXPECT(name, mcc_limit_isa("c") == MCC_OK && mcc_isa() == 0, "limit to c");
    EXPECT(name, mcc_limit_isa("nonsense") == MCC_BAD_ARGUMENT && *mcc_why(), "accepted nonsense");
    EXPECT(name, mcc_limit_isa(NULL) == MCC_OK && mcc_isa() == have, "lift the limit");
    char text[128], small[4];
    mcc_isa_text(have, text, sizeof text);
    EXPECT(name, mcc_limit_isa(text) == MCC_OK && mcc_isa() == have, "words there and back: %s", text);
    mcc_limit_isa(NULL);
    mcc_isa_text(have, small, sizeof small);
    EXPECT(name, strcmp(small, "c") == 0, "a small buffer: %s", small);
    EXPECT(name, mcc_limit_kernel("nonsense") == MCC_BAD_ARGUMENT && *mcc_why(), "accepted a kernel that is not there");
    mcc_kernel_info info;
    for (size_t i = 0; mcc_kernel_at(i, &family, &info); i++) {
        const bool runs = (info.isa & have) == info.isa;
        EXPECT(name, (mcc_limit_kernel(info.name) == MCC_OK) == runs && mcc_kernel_forced(info.name) == runs, "force %s", info.name);
    }
    EXPECT(name, mcc_limit_kernel(NULL) == MCC_OK && !mcc_kernel_forced("gemm_f32_4x4c1_c"), "lift the kernel");
    for (size_t i = 0; mcc_kernel_at(i, &family, &info); i++)
        EXPECT(name, family && info.name && *info.name, "kernel %zu has no name", i);
    check_ok(name, 6);
}

void check_core(void) {
    check_isa();
    check_life();
    check_threads();
    check_crc();
    check_coder();
    check_palette();
    check_hashed_blob();
    check_quantized();
    check_bitmask();
    check_attributes();
    check_damage();
    check_wrong_graphs();
}
