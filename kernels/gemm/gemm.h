/* gemm.h: matrix products of any element type: the micro-kernels, their weights' packing, and the walk over tiles.
 *
 * Words: a *tile* is what one kernel call computes, up to MR rows by NR columns. A *panel* is NR columns of packed
 * weights. K is cut into `taps` runs of k elements; row i of run t starts at rows[t * MR + i], wherever that is: a
 * plain product has one tap, a convolution one per window cell (core/window.h), so both use the same kernels. */
#ifndef MCC_GEMM_H
#define MCC_GEMM_H

#include "../core/net.h"
#include "../eltwise/half.h"
#include "epilogue.h"

/* Memory that will be wanted soon, a hint: while it computes, a kernel asks for some cache lines at `read` (to be read) and
 * at `write` (to be written) and moves on by the steps, once for every four of k in a tap. A step of 0 asks again for what
 * is there already, which costs next to nothing. The kernels of one row on x86 ask for their own panel, read_step ahead. */
typedef struct mcc_gemm_ahead {
    const char *read, *write;
    size_t read_step, write_step; /* bytes */
} mcc_gemm_ahead;
#define MCC_GEMM_AHEAD_K 4

/* float32 tile:
 *     c[i * c_stride + j] = clamp(bias[j] + sum over t < taps, q < k of rows[t * MR + i][q] * w[t * k + q][j]
 *                                 + (residual ? residual[i * c_stride + j] : 0),  lo, hi)
 * for i < m <= MR, j < n (m, n >= 1; k and taps may be 0). `panel` is bias[NR], then w[taps * k][NR]; when n is more than
 * NR, panels follow each other.
 * Reads exactly k floats of each row and writes exactly m x n of c; pointers of rows >= m must be readable too.
 * residual may be c. The NEON kernels make many tiles in one call: where m > MR it is a multiple of MR, and the taps * MR
 * pointers of one tile follow those of the one before. */
typedef void mcc_gemm_f32_fn(size_t m, size_t n, size_t k, size_t taps, const float *const *rows, const float *panel,
                             float *c, size_t c_stride, const float *residual, float lo, float hi,
                             const mcc_gemm_ahead *ahead);

/* bf16 tile: as a float32 one, but that k, the rows and w count pairs of bfloat16 (bf16.h), whose two products are added. */
typedef mcc_gemm_f32_fn mcc_gemm_bf16_fn;

/* float16 tiles: the same of float16 numbers, the panel's too, summed in float16: a sum of depth = taps * k products is off by some
 * sqrt(depth) / 4096 of the largest sum on its way, and one beyond 65504 is infinite. There are no plain C kernels of it: where there
 * is none for the CPU, products are made in float32 (eltwise/half.h). Many tiles in one call, as above. */
typedef void mcc_gemm_f16_fn(size_t m, size_t n, size_t k, size_t taps, const uint16_t *const *rows, const uint16_t *panel,
                             uint16_t *c, size_t c_stride, const uint16_t *residual, float lo, float hi,
                             const mcc_gemm_ahead *ahead);

/* What becomes of an int32 sum; every rounding step is that of passes/ops/lowered.py, so all kernels give the same bytes:
 * t = float(acc) * scale[j]; t += float(residual - r_zero) * r_scale; y = rint(min(max(t, lo), hi)) + zero */
typedef struct mcc_requant {
    float lo, hi; /* bounds of y, less zero */
    int32_t zero;
    float r_scale;
    int32_t r_zero;
    bool small; /* no |t| without the residual is above MCC_REQUANT_SMALL: what kernels may use and need not */
} mcc_requant;
#define MCC_REQUANT_SMALL 30000

/* int8 tile. A panel is, for NR columns: int32 bias[NR] (less x_zero times the column's sum of weights), float scale[NR],
 * then w[taps][ceil(k / KR)][NR][KR] int8, zero where k ends inside a group of KR.
 *      acc[i][j] = bias[j] + sum over t < taps, q < k of rows[t * MR + i][q] * w[t][q][j]
 * With q: c is int8, c[i * c_stride + j] = requantized acc; residual is int8, like c, or NULL; every |t| is below 2^31.
 * Without: c is int32 and gets acc. Writes exactly m x n of c. Kernels may ask for memory `ahead` bytes past each of
 * the panel's to be brought near.
 *
 * The NEON kernels make many tiles in one call: where m > MR it is a multiple of MR, and the taps * MR pointers of one tile follow
 * those of the one before. The VNNI kernels multiply rows of uint8 = int8 + 128 (mcc_gemm_s8_offset) and read ceil(k / KR) * KR bytes of each;
 * what stands past k meets weights of 0. The AMX kernels take one tap (what was taps * k is one run, filled up with weights of
 * 0), k a multiple of 64, and rows[i] = rows[0] + i * (rows[1] - rows[0]) for every i < MR; their thread has called
 * mcc_amx_open(high) (amx.h) with high >= ceil(m / (MR / 16)), and as many rows more may be read. All others read exactly k
 * bytes of int8. Position p of a panel holds column mcc_gemm_s8_column(set, p). */
typedef void mcc_gemm_s8_fn(size_t m, size_t n, size_t k, size_t taps, const int8_t *const *rows, const void *panel,
                            void *c, size_t c_stride, const int8_t *residual, const mcc_requant *q, size_t ahead);

typedef struct mcc_gemm_kernel {
    mcc_name name;
    uint32_t isa;
    mcc_type type;
    uint8_t mr, nr, kr;
    void (*fn)(void); /* mcc_gemm_<type>_fn */
} mcc_gemm_kernel;

#define MCC_GEMM_MAX_MR 32

/* All lines of gemm.def, in order. */
const mcc_gemm_kernel *mcc_gemm_kernels(size_t *count);

/* The kernels for a product with n columns on this CPU: serve[m] (1 <= m <= MR of the best) computes tiles of m rows,
 * serve[0] is the one with most rows; all have one NR, KR and packing. Of a float product whose last panel has at most
 * last_nr < NR columns, that panel is packed last_nr wide and computed by `last`, else last_nr is NR. */
typedef struct mcc_gemm_set {
    const mcc_gemm_kernel *serve[MCC_GEMM_MAX_MR + 1], *last[MCC_GEMM_MAX_MR + 1];
    size_t mr, nr, kr, last_nr;
    size_t elem; /* bytes of an element */
    bool even; /* every number of rows has its own kernel, so all tiles may be of one height */
    bool many; /* these kernels make many tiles in one call */
} mcc_gemm_set;
/* False when this CPU has none, which may be so of MCC_BF16 and MCC_F16: the C lines of the others need nothing. */
bool mcc_gemm_pick(mcc_type type, size_t n, mcc_gemm_set *set);
/* Is a kernel of this type asked for (mcc_kernel_forced)? */
bool mcc_gemm_forced(mcc_type type);
/* Are there any for this type on this CPU? */
bool mcc_gemm_has(mcc_type type);

/* --- float32, and float16 where set->elem is 2 --------------------------------------------------------------- */

/* Elements of one panel, and of all panels of n columns; SIZE_MAX when that overflows. depth = taps * k. */
size_t mcc_gemm_f32_panel(const mcc_gemm_set *set, size_t depth);
size_t mcc_gemm_f32_packed(const mcc_gemm_set *set, size_t n, size_t depth);

/* Packs columns [first, first + n) and rows [row, row + depth) of the weight into `panels`, whose panels are `panel`
 * elements apart. Element (j, d) of the source (float32, float16 or bfloat16) stands at j * column + d * step.
 * first is a multiple of NR, and so is n unless first + n are all columns; columns past n are zero. */
void mcc_gemm_f32_pack(const mcc_gemm_set *set, void *panels, size_t panel, size_t first, size_t n, size_t row,
                       size_t depth, const void *source, mcc_type type, size_t column, size_t step);
/* The same for the bias (NULL: zeros). */
void mcc_gemm_f32_pack_bias(const mcc_gemm_set *set, void *panels, size_t panel, size_t n, const void *bias, mcc_type type);

/* --- products ------------------------------------------------------------------------------------------------- */

/* Where a block reads and writes. Fills table[t * mr + i] for rows row..row + rows of part `batch` (i >= rows repeat
 * the last); `w` and `c`: elements from the start of the packed weights and of the output. */
typedef void (*mcc_gemm_place_fn)(const void *arg, size_t batch, size_t row, size_t rows, size_t mr, void *scratch,
                                  const void **table, size_t *w, size_t *c);

/* Tables up to this many pointers live on the stack, larger ones in workspace_each (mcc_gemm_table_bytes). */
#define MCC_GEMM_TABLE 1024
#define MCC_GEMM_SCRATCH 16384 /* bytes; = MCC_WINDOW_SCRATCH */
/* The workspace_each of a node with such tables: 0 for small ones; SIZE_MAX when that overflows. */
size_t mcc_gemm_table_bytes(size_t taps, size_t mr);

/* A float product, prepared: immutable. Its x, c and residual are of set.elem bytes as well. */
typedef struct mcc_gemm_f32 {
    mcc_gemm_set set;
    size_t n, k, taps, panel; /* panel: elements from one to the next */
    const void *w;            /* packed; NULL when a run packs it */
    mcc_epilogue post;
} mcc_gemm_f32;

typedef struct mcc_gemm_f32_job {
    const mcc_gemm_f32 *gemm;
    size_t batch, m;
    const void *w;          /* packed weights; place adds to it */
    void *c;
    size_t c_stride;
    const void *residual;   /* like c, or NULL */
    mcc_gemm_place_fn place;
    const void *arg;
    bool made;              /* place makes the rows, which takes time: a tile passes by all panels at once */
    bool adjacent;          /* the rows of a part follow each other in memory, k apart: they can be asked for ahead */
    size_t at_once;         /* rows that can be placed together: as many as the scratch holds, SIZE_MAX when none is used; 0: a tile's */
    size_t scratch_row;     /* bytes of it that each takes, of windows with several taps */
    void **tables;          /* mcc_workspace_each: large tables, or NULL */
} mcc_gemm_f32_job;
void mcc_gemm_f32_run(mcc_exec *exec, const mcc_gemm_f32_job *job);
/* Does a tile of such a product of m rows pass by all panels at once? */
bool mcc_gemm_f32_one_span(const mcc_gemm_f32 *gemm, size_t m);

/* The job.arg of mcc_gemm_place_matrix: x is rows of k; c's rows are `pitch` elements apart. */
typedef struct mcc_gemm_matrix { const void *x; size_t k, pitch, elem; } mcc_gemm_matrix;
void mcc_gemm_place_matrix(const void *arg, size_t batch, size_t row, size_t rows, size_t mr, void *scratch, const void **table,
                           size_t *w, size_t *c);

/* --- weights that are not dense ------------------------------------------------------------------------------------ */

/* A layer that multiplies by a constant weight, checked, before a kernel is chosen. */
typedef struct mcc_layer {
    mcc_tensor *x, *w, *b, *residual, *y; /* b and residual may be NULL; w is [n, k] or [n, kh, kw, c / group] */
    size_t m, n, k;                       /* rows of x (output pixels), outputs, inputs per output */
    const struct mcc_window *window;      /* NULL when row i of x makes row i of y: linear, and 1x1 convolution */
    bool strips;                          /* mcc_linear_rows runs it, some rows at a time */
    mcc_epilogue post;
} mcc_layer;

/* Are x and y of one float type? */
bool mcc_layer_float(const mcc_layer *layer);
/* Are there float16 kernels for the layer on this CPU? Those of weights that are kept as codes or sparse are float32 ones. */
bool mcc_layer_half(const mcc_layer *layer);
/* For linear and nhwc_conv: checks b, residual and act, and makes what of x, b and residual is constant dense. */
mcc_status mcc_layer_tail(mcc_net *net, const mcc_node *node, mcc_layer *layer);
/* Prepares the dense product of a checked layer without a window (linear.c); w is [n, k] in memory. */
mcc_status mcc_linear_prepare(mcc_net *net, mcc_node *node, const mcc_layer *layer);
/* m rows of a product so prepared, whose weight is constant; residual is like y, or NULL. */
void mcc_linear_rows(const mcc_node *node, mcc_exec *exec, size_t m, const void *x, const void *residual, void *y);

/* Runners keep their state behind this: linear and nhwc_conv call `state->run`. */
typedef struct mcc_layer_state {
    void (*run)(const mcc_node *node, mcc_exec *exec);
} mcc_layer_state;

/* The weight formats of formats.def, in order: each looks at w->storage and its values and either sets up the node
 * (node->state, which starts with an mcc_layer_state; kernel, macs, workspace) and says so in `taken`, or leaves it. */
#ifdef MCC_SUBSET /* families left out are absent (core/ops.h) */
#define FORMAT(name) \
    mcc_status mcc_##name##_try(mcc_net *net, mcc_node *node, const mcc_layer *layer, bool *taken) __attribute__((weak));
#else
#define FORMAT(name) mcc_status mcc_##name##_try(mcc_net *net, mcc_node *node, const mcc_layer *layer, bool *taken);
#endif
#include "formats.def"
#undef FORMAT
mcc_status mcc_layer_formats(mcc_net *net, mcc_node *node, const mcc_layer *layer, bool *taken);

#define GEMM(type, mr, nr, kr, isa) mcc_gemm_##type##_fn mcc_gemm_##type##_##mr##x##nr##c##kr##_##isa;
#include "gemm.def"
#undef GEMM

#endif
