/* check_lut.c: every kernel of weights kept as codes against plain look-ups and a direct double sum. */
#include <math.h>
#include <string.h>

#include "../../kernels/lut/lut.h"
#include "check.h"

/* A panel of random codes with a book, scales and zeros, and the code of each weight. */
typedef struct sample { mcc_lut_panel p; float palette[256]; uint8_t *code; } sample;

static void *at_end(size_t bytes) { return (char *)check_alloc_end(bytes + 1) + 1; } /* room for 0 bytes */

static sample draw(unsigned bits, size_t depth, size_t nr, size_t block, bool scales, bool zeros, bool numbers) {
    sample s = {.p = {.bits = bits, .depth = depth, .nr = nr, .block = block}};
    const size_t entries = (size_t)1 << bits, bytes = mcc_lut_bytes(bits, depth, nr, block), per = mcc_lut_per(bits);
    const size_t blocks = block ? (depth + block - 1) / block : 0;
    uint8_t *codes = check_alloc_end(bytes + MCC_LUT_SLACK);
    float *book = check_alloc(MCC_LUT_BOOK * sizeof *book);
    memset(codes, 0, bytes + MCC_LUT_SLACK);
    s.code = check_alloc(depth * nr + 1);
    check_fill_f32(s.palette, entries);
    for (size_t i = 0; i < (bits <= 4 ? 16 : entries); i++) book[i] = s.palette[i % entries];
    for (size_t i = 0; numbers && i < entries; i++) s.palette[i] = (float)(int8_t)i;
    for (size_t q = 0, start = 0; q < depth; q++) {
        if (q && q % block == 0) start += mcc_lut_bytes(bits, block, nr, block);
        for (size_t j = 0; j < nr; j++) {
            const unsigned code = s.code[q * nr + j] = (uint8_t)check_int(0, (int)entries - 1);
            const size_t in = q % block;
            if (bits == 8) codes[start + in * nr + j] = (uint8_t)code;
            for (unsigned k = 0; bits < 8 && k < bits; k++) {
                const size_t bit = in % per * bits + k;
                codes[start + 4 * (in / per * nr + j) + bit / 8] |= (uint8_t)((code >> k & 1) << bit % 8);
            }
        }
    }
    s.p.codes = codes, s.p.book = numbers ? NULL : book;
    if (scales) {
        float *scale = at_end(blocks * nr * sizeof *scale), *zero = at_end(blocks * nr * sizeof *zero);
        check_fill_f32(scale, blocks * nr);
        for (size_t i = 0; i < blocks * nr; i++) zero[i] = (float)check_int(-8, 7);
        s.p.scale = scale, s.p.zero = zeros ? zero : NULL;
    }
    return s;
}

static float weight(const sample *s, size_t q, size_t j) {
    const mcc_lut_panel *p = &s->p;
    const size_t at = q / p->block * p->nr + j;
    float w = s->palette[s->code[q * p->nr + j]];
    if (p->zero) w -= p->zero[at];
    return p->scale ? w * p->scale[at] : w;
}

static void check_one(const mcc_lut_kernel *k, const sample *s) {
    const mcc_lut_panel *p = &s->p;
    const size_t depth = p->depth, nr = p->nr, blocks = depth ? (depth + p->block - 1) / p->block : 0;
    float *x = at_end(depth * sizeof *x), *bias = check_alloc_end(nr * sizeof *bias), *sums = at_end(blocks * sizeof *sums);
    float *dense = at_end(depth * nr * sizeof *dense), *y = check_alloc_end(nr * sizeof *y), *z = check_alloc_end(nr * sizeof *z);
    check_fill_f32(x, depth);
    check_fill_f32(bias, nr);
    memset(sums, 0, blocks * sizeof *sums);
    for (size_t q = 0; q < depth; q++) sums[q / p->block] += x[q];
    k->expand(p, dense);
    k->gemv(p, x, sums, bias, y);
    const bool tabled = k->tabled && p->bits <= 2;
    if (tabled) {
        const size_t tables = (depth * p->bits + 3) / 4;
        float *t = at_end(tables * 16 * sizeof *t);
        k->tables(p->bits, depth, x, p->book, t);
        k->tabled(p, t, sums, bias, z);
    }
    for (size_t j = 0; j < nr && !check_failed(); j++) {
        double want = bias[j], size = fabs(bias[j]);
        for (size_t q = 0; q < depth; q++) {
            const float w = weight(s, q, j), part = s->palette[s->code[q * nr + j]];
            const double scale = p->scale ? p->scale[q / p->block * nr + j] : 1, zero = p->zero ? p->zero[q / p->block * nr + j] : 0;
            if (dense[q * nr + j] != w)
                check_fail(k->name, "expand: bits=%u depth=%zu nr=%zu block=%zu at [%zu,%zu]: %g, want %g", p->bits, depth, nr, p->block, q, j, dense[q * nr + j], w);
            want += x[q] * scale * (part - zero), size += fabs(x[q] * scale) * (fabs(part) + fabs(zero));
        }
        const double room = 1e-6 * sqrt((double)depth + 4) * size;
        if (!(fabs(y[j] - want) <= room))
            check_fail(k->name, "gemv: bits=%u depth=%zu nr=%zu block=%zu at %zu: %.9g, want %.9g", p->bits, depth, nr, p->block, j, y[j], want);
        if (tabled && !(fabs(z[j] - want) <= room))
            check_fail(k->name, "tabled: bits=%u depth=%zu nr=%zu block=%zu at %zu: %.9g, want %.9g", p->bits, depth, nr, p->block, j, z[j], want);
    }
    check_free_all(k->name);
}

void check_lut(void) {
    static const unsigned widths[] = {1, 2, 3, 4, 8};
    size_t count;
    const mcc_lut_kernel *k = mcc_lut_kernels(&count);
    for (; count--; k++) {
        if (!check_can(k->name, k->isa)) continue;
        size_t cases = 0;
        for (size_t w = 0; w < sizeof widths / sizeof *widths; w++)
            for (size_t depth = 0; depth <= 70; depth++)
                for (size_t nr = k->lanes; nr <= 3 * k->lanes && !check_failed(); nr += k->lanes)
                    for (int kind = 0; kind < 4 && !check_failed(); kind++, cases++) { /* palette, scaled, with zeros, in blocks */
                        const size_t block = kind == 3 && depth > 8 ? (size_t)check_int(1, 3) * 8 : depth;
                        const sample s = draw(widths[w], depth, nr, block, kind > 0, kind > 1, kind > 0 && widths[w] == 8);
                        check_one(k, &s);
                    }
        check_ok(k->name, cases);
    }
}
