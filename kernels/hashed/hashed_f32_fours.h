/* hashed_f32_fours.h: 16 columns that go by fours, on x86: a lane is the run of a row and four columns, so that one hash of VN lanes
 * is for VN / 4 rows, and runs are loaded by 128 bits, which is less work than to gather floats. */

enum { FOUR_ROWS = VN / 4, FOUR_VECTORS = 16 / VN };
typedef struct fours { uint32_t at[VN]; vi sign; } fours; /* the first bucket of each run */

VFN fours fours_(const mcc_hashed_panel *p, vi keys, size_t q) {
    const vi x = mixed(keys, spread(p->row + q));
    fours f = {.sign = vi_and(vi_shl(x, 31 - MCC_HASH_SIGN), vi_set(INT32_MIN))};
    v_store((float *)(void *)f.at, v_of_bits(vi_shl(upper(x, p->runs), 2)));
    return f;
}
/* The weights of vector v of row r of those. */
VFN vf of_fours_(const mcc_hashed_panel *p, const fours *f, int r, int v) {
    const int first = 4 * r + FOUR_ROWS * v;
    return flipped(joined(p->bucket, f->at + first), by_fours(f->sign, first));
}
VFN vi keys_of_fours_(const mcc_hashed_panel *p, size_t j) {
    uint32_t keys[VN];
    for (size_t i = 0; i < VN; i++) keys[i] = p->column[j + 4 * (i % 4)];
    return keys_(keys);
}
VFN vf rest_(const mcc_hashed_panel *p, size_t j, size_t q) { return weights_(p, keys_(p->column + j), keys_(p->place + j), q); }

#define EACH(i, n) _Pragma("GCC unroll 4") for (int i = 0; i < n; i++)

VFN void expand_fours(const mcc_hashed_panel *p, size_t j, float *out) {
    const vi keys = keys_of_fours_(p, j);
    size_t q = 0;
    for (; q + FOUR_ROWS <= p->depth; q += FOUR_ROWS) {
        const fours f = fours_(p, keys, q);
        EACH(r, FOUR_ROWS) EACH(v, FOUR_VECTORS) v_store(out + (q + r) * p->nr + v * VN, of_fours_(p, &f, r, v));
    }
    for (; q < p->depth; q++) EACH(v, FOUR_VECTORS) v_store(out + q * p->nr + v * VN, rest_(p, j + v * VN, q));
}

VFN void gemv_fours(const mcc_hashed_panel *p, size_t j, const float *x, const float *bias, float *y) {
    const vi keys = keys_of_fours_(p, j);
    vf sum[FOUR_VECTORS];
    EACH(v, FOUR_VECTORS) sum[v] = v_load(bias + v * VN);
    size_t q = 0;
    for (; q + FOUR_ROWS <= p->depth; q += FOUR_ROWS) {
        const fours f = fours_(p, keys, q);
        EACH(r, FOUR_ROWS) EACH(v, FOUR_VECTORS) sum[v] = v_fma(v_set(x[q + r]), of_fours_(p, &f, r, v), sum[v]);
    }
    for (; q < p->depth; q++) EACH(v, FOUR_VECTORS) sum[v] = v_fma(v_set(x[q]), rest_(p, j + v * VN, q), sum[v]);
    EACH(v, FOUR_VECTORS) v_store(y + v * VN, sum[v]);
}
