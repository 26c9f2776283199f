/* gemm_s8_neon.c: int8 gemm for every arm64 core: four k to eight columns, and four more, are two products in each lane of int16,
 * which are added in pairs: three instructions for 16 products, where multiplying by lane takes four and the widening of both sides.
 *
 * Two products fit int16 as long as no weight is -128 (2 * 128 * 127); a panel with such a weight, and one that serves too few rows to
 * be worth looking through, is added product by product. */
#if defined(__aarch64__)
#include "gemm_s8_neon.h"

/* 16 columns and a residual, the tiles that the assembler leaves to this. */
static void add16(const int32_t *sums, size_t m, const float *scale, int8_t *c, size_t c_stride, const int8_t *residual,
                  const finish *f) {
    const float32x4_t s0 = vld1q_f32(scale), s1 = vld1q_f32(scale + 4), s2 = vld1q_f32(scale + 8), s3 = vld1q_f32(scale + 12);
    const finish g = *f;
#define SUM(at, s, r)                                            \
    vaddq_f32(vmulq_f32(vcvtq_f32_s32(vld1q_s32(sums + at)), s), vmulq_f32(vcvtq_f32_s32(vmovl_s16(r)), g.r_scale))
    for (; m; m--, sums += 16, c += c_stride, residual += c_stride) {
        const int8x16_t r = vld1q_s8(residual);
        const int16x8_t lo = vsubl_s8(vget_low_s8(r), g.r_zero), hi = vsubl_s8(vget_high_s8(r), g.r_zero);
        const int16x8_t a = coded8(SUM(0, s0, vget_low_s16(lo)), SUM(4, s1, vget_high_s16(lo)));
        const int16x8_t b = coded8(SUM(8, s2, vget_low_s16(hi)), SUM(12, s3, vget_high_s16(hi)));
        vst1q_s8(c, narrow16(&g, a, b));
    }
#undef SUM
}

void mcc_gemm_s8_neon_part(const int32_t *sums, size_t nr, size_t m, size_t n, const float *scale, void *c, size_t c_stride,
                           const int8_t *residual, const mcc_requant *q) {
    const finish f = q ? finish_of(q) : (finish){0};
    if (n == 16 && q && residual) {
        add16(sums, m, scale, c, c_stride, residual, &f);
        return;
    }
    for (size_t i = 0; i < m; i++, sums += nr)
        for (size_t j = 0; j < n; j += 8)
            put8(c, i * c_stride + j, residual, vld1q_s32(sums + j), vld1q_s32(sums + j + 4), scale + j, n - j < 8 ? n - j : 8,
                 q ? &f : NULL);
}

#define FEW 4 /* rows */

static bool has_least(const int8_t *w, size_t bytes) { /* a multiple of 32 */
    int8x16_t a = vdupq_n_s8(0), b = a;
    for (; bytes; bytes -= 32, w += 32) a = vminq_s8(a, vld1q_s8(w)), b = vminq_s8(b, vld1q_s8(w + 16));
    return vminvq_s8(vminq_s8(a, b)) == -128;
}

/* Sums of row i, each in two parts: of columns 0 and 1, 2 and 3, 4 and 5, 6 and 7. */
#define INIT(i) int32x4_t a##i = bias0, b##i = bias1, c##i = bias2, d##i = bias3;
#define POINT(i) const int8_t *p##i = rows[i];
#define LOAD(w, at) const int8x16_t w##0 = vld1q_s8(weights + at), w##1 = vld1q_s8(weights + at + 16);
#define LOW(w, x) vmull_s8(vget_low_s8(w), vget_low_s8(x))
#define BOTH_LOW(w, v, x, z) vmlal_s8(LOW(w, x), vget_low_s8(v), vget_low_s8(z))
#define BOTH_HIGH(w, v, x, z) vmlal_high_s8(vmull_high_s8(w, x), v, z)
#define PAIRS(i)                                                                       \
    {                                                                                  \
        IN_TURN(p##i)                                                                  \
        const int8x16_t x = every(p##i);                                               \
        p##i += 4;                                                                     \
        IN_TURN(p##i)                                                                  \
        const int8x16_t z = every(p##i);                                               \
        p##i += 4;                                                                     \
        a##i = vpadalq_s16(a##i, BOTH_LOW(w0, v0, x, z));                              \
        b##i = vpadalq_s16(b##i, BOTH_HIGH(w0, v0, x, z));                             \
        c##i = vpadalq_s16(c##i, BOTH_LOW(w1, v1, x, z));                              \
        d##i = vpadalq_s16(d##i, BOTH_HIGH(w1, v1, x, z));                             \
    }
#define FOUR(i, x)                                                                     \
    a##i = vpadalq_s16(a##i, LOW(w0, x)), b##i = vpadalq_s16(b##i, vmull_high_s8(w0, x)); \
    c##i = vpadalq_s16(c##i, LOW(w1, x)), d##i = vpadalq_s16(d##i, vmull_high_s8(w1, x));
#define SINGLY(i) { const int8x16_t x = every(p##i); FOUR(i, x) p##i += 4; }
#define LAST(i) { const int8x16_t x = rest(p##i, k - at); FOUR(i, x) }
#define SUM(i) const int32x4_t u##i = vpaddq_s32(a##i, b##i), v##i = vpaddq_s32(c##i, d##i);

#define TILE(MR)                                                                                    \
    void mcc_gemm_s8_##MR##x8c4_neon(ARGS) {                                                        \
        const int8_t *const packed = (const int8_t *)panel + 64;                                    \
        const size_t eights = m > FEW && !has_least(packed, taps * ((k + 3) / 4) * 32) ? k / 8 : 0; \
        const int32x4_t none = vdupq_n_s32(0), first = vld1q_s32(panel), second = vld1q_s32((const int32_t *)panel + 4); \
        const int32x4_t bias0 = vzip1q_s32(first, none), bias1 = vzip2q_s32(first, none);           \
        const int32x4_t bias2 = vzip1q_s32(second, none), bias3 = vzip2q_s32(second, none);         \
        TILES_BEGIN                                                                                 \
        GEMM_ROWS(MR, INIT)                                                                         \
        for (size_t tap = 0; tap < taps; tap++, rows += MR) {                                       \
            GEMM_ROWS(MR, POINT)                                                                    \
            for (size_t left = eights; left; left--, weights += 64) {                               \
                LOAD(w, 0)                                                                          \
                LOAD(v, 32)                                                                         \
                GEMM_ROWS(MR, PAIRS)                                                                \
            }                                                                                       \
            size_t at = 8 * eights;                                                                 \
            for (; at + 4 <= k; at += 4, weights += 32) {                                           \
                LOAD(w, 0)                                                                          \
                GEMM_ROWS(MR, SINGLY)                                                               \
            }                                                                                       \
            if (at < k) {                                                                           \
                LOAD(w, 0)                                                                          \
                GEMM_ROWS(MR, LAST)                                                                 \
                weights += 32;                                                                      \
            }                                                                                       \
        }                                                                                           \
        GEMM_ROWS(MR, SUM)                                                                          \
        TILES_END(MR)                                                                               \
    }

TILE(6)
TILE(5)
TILE(4)
TILE(3)
TILE(2)
TILE(1)
#endif
