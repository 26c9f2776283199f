/* gemm_s8_wide.h: int8 tiles of 16 columns in assembler, for SDOT and SMMLA: what both share, that is which way out a tile
 * takes and the loop over tiles. A tile takes all vector registers.
 *
 * The quick way out needs sums that scale to less than 2^15, bounds that saturation gives, and an even zero point: adding
 * 1.5 * 2^23 + zero to a float then rounds it half to even and leaves y in the low 16 bits. */
#ifndef MCC_GEMM_S8_WIDE_H
#define MCC_GEMM_S8_WIDE_H
#include "gemm_s8_neon.h"

enum { RAW, QUICK, WHOLE }; /* int32 sums; as above; any zero point and bounds */

typedef struct wide_how {
    int16x8_t zero;
    int8x16_t lo, hi;
    int32_t magic; /* bits of a float */
    int way;
} wide_how;

ALWAYS wide_how wide_of(const mcc_requant *q, const int8_t *residual) {
    if (!q || residual) return (wide_how){.way = RAW};
    const finish f = finish_of(q);
    const bool all = q->lo <= (float)(-128 - q->zero) && q->hi >= (float)(127 - q->zero);
    return (wide_how){f.zero, f.lo, f.hi, 0x4b400000 + q->zero, q->small && all && q->zero % 2 == 0 ? QUICK : WHOLE};
}

#define V(x) "v" #x
#define B(x) V(x) ".16b"
#define H(x) V(x) ".8h"
#define S(x) V(x) ".4s"
#define OF(op, s) op " " S(s) ", " S(s) "\n"
#define BY(op, s, x) op " " S(s) ", " S(s) ", " S(x) "\n"
#define FLOATS(s, t, u, v) \
    OF("scvtf", s) OF("scvtf", t) OF("scvtf", u) OF("scvtf", v)                                   \
    BY("fmul", s, 0) BY("fmul", t, 1) BY("fmul", u, 2) BY("fmul", v, 3)
/* s: the codes of four sums. v4: the magic number; or v4, v5, v6: zero, lo and hi. */
#define QUICKLY(s, t, u, v)                                                                       \
    FLOATS(s, t, u, v)                                                                            \
    BY("fadd", s, 4) BY("fadd", t, 4) BY("fadd", u, 4) BY("fadd", v, 4)                           \
    "uzp1 " H(s) ", " H(s) ", " H(t) "\n"                                                         \
    "uzp1 " H(u) ", " H(u) ", " H(v) "\n"                                                         \
    "sqxtn " V(s) ".8b, " H(s) "\n"                                                               \
    "sqxtn2 " B(s) ", " H(u) "\n"
#define WHOLLY(s, t, u, v)                                                                        \
    FLOATS(s, t, u, v)                                                                            \
    OF("fcvtns", s) OF("fcvtns", t) OF("fcvtns", u) OF("fcvtns", v)                               \
    "sqxtn " V(s) ".4h, " S(s) "\n"                                                               \
    "sqxtn2 " H(s) ", " S(t) "\n"                                                                 \
    "sqxtn " V(u) ".4h, " S(u) "\n"                                                               \
    "sqxtn2 " H(u) ", " S(v) "\n"                                                                 \
    "sqadd " H(s) ", " H(s) ", v4.8h\n"                                                           \
    "sqadd " H(u) ", " H(u) ", v4.8h\n"                                                           \
    "sqxtn " V(s) ".8b, " H(s) "\n"                                                               \
    "sqxtn2 " B(s) ", " H(u) "\n"                                                                 \
    "smax " B(s) ", " B(s) ", v5.16b\n"                                                           \
    "smin " B(s) ", " B(s) ", v6.16b\n"

/* A file's FN, and ASSEMBLY: a tile from pointers `row` on into y, `step` bytes a row. Clobbers x9 ... x17 and all vectors. */
#define WIDE_TILE(NAME, MR, ASSEMBLY, INPUTS)                                                                   \
    FN void NAME(ARGS) {                                                                                        \
        const wide_how how = wide_of(q, residual);                                                              \
        const float *scale = (const float *)panel + 16;                                                         \
        int8_t *out = c;                                                                                        \
        int32_t sums[MR * 16];                                                                                  \
        (void)ahead;                                                                                            \
        for (;; m -= MR) {                                                                                      \
            const bool part = m < MR || n < 16 || residual;                                                     \
            const size_t one = q ? c_stride : 4 * c_stride;                                                     \
            const float *w = scale + 16;                                                                        \
            int8_t *y = part ? (int8_t *)sums : out;                                                            \
            size_t left = taps;                                                                                 \
            __asm__ volatile(ASSEMBLY                                                                           \
                             : [w] "+r"(w), [row] "+r"(rows), [y] "+r"(y), [taps] "+r"(left)                    \
                             : [panel] "r"(panel), [k] "r"(k), [step] "r"(part ? (size_t)64 : one), [how] "r"(&how), \
                               [way] "r"((size_t)(part ? RAW : how.way)), [magic] "r"(how.magic) INPUTS         \
                             : "x9", "x10", "x11", "x12", "x13", "x14", "x15", "x16", "x17", "cc", "memory",    \
                               "v0", "v1", "v2", "v3", "v4", "v5", "v6", "v7", "v8", "v9", "v10", "v11", "v12", \
                               "v13", "v14", "v15", "v16", "v17", "v18", "v19", "v20", "v21", "v22", "v23",     \
                               "v24", "v25", "v26", "v27", "v28", "v29", "v30", "v31");                         \
            if (part) mcc_gemm_s8_neon_part(sums, 16, m < MR ? m : MR, n, scale, out, c_stride, residual, q);   \
            if (m <= MR) return;                                                                                \
            out += MR * one;                                                                                    \
            if (residual) residual += MR * c_stride;                                                            \
        }                                                                                                       \
    }
#endif
