/* qgemm.h: int8 matrix products around the micro-kernels of gemm.h: packing, the walk, and the ways out. */
#ifndef MCC_QGEMM_H
#define MCC_QGEMM_H

#include "gemm.h"

/* What the kernels of this set want added to each row element: 0, or 128 (rows are then uint8, copied somewhere). */
int32_t mcc_gemm_s8_offset(const mcc_gemm_set *set);
/* Do they want rows at one distance from each other, with k a multiple of 64 and one tap (gemm.h)? */
bool mcc_gemm_s8_lined(const mcc_gemm_set *set);
/* Do they make many tiles in one call (gemm.h)? */
bool mcc_gemm_s8_many(const mcc_gemm_set *set);
/* The column of a panel at position p < NR. */
size_t mcc_gemm_s8_column(const mcc_gemm_set *set, size_t p);
/* The kernels for n columns of `depth` = taps * k: `set` for all panels but the last, `last` for that one; both of one
 * ISA and KR. */
void mcc_gemm_s8_pick(size_t n, size_t depth, mcc_gemm_set *set, mcc_gemm_set *last);
/* The same without those that want lined rows. */
void mcc_gemm_s8_pick_plain(size_t n, size_t depth, mcc_gemm_set *set, mcc_gemm_set *last);

/* y = x + 128 as uint8, in the bits of int8. For sets with an offset only. y may be x. */
void mcc_qgemm_shift(size_t n, const int8_t *x, int8_t *y);

struct mcc_qjob;

/* An int8 product, prepared: immutable. */
typedef struct mcc_qgemm {
    mcc_gemm_set set, last;
    size_t n, k, taps, panels, panel; /* panel: bytes from one to the next */
    size_t depth;                     /* of a packed column: taps * k, filled up to what the kernels want */
    const uint8_t *w;                 /* packed, groups one after another */
    size_t group_bytes;               /* packed bytes of one group */
    double top;                       /* no |float(acc) * scale| is above this */
    const void *other;                /* the weight in another form (qformats.def), whose walk is run_other; or NULL */
    void (*run_other)(mcc_exec *exec, const struct mcc_qjob *job);
    const char *kernel;               /* of the other form; for the dense one see mcc_qgemm_kernel */
    size_t space_other;               /* bytes of job.space that the other form wants for each thread */
    uint64_t macs_other;              /* of one row */
} mcc_qgemm;

/* Packs `groups` weights of n columns each: element (g, j, d), d < taps * k, stands at ((g * n + j) * taps * k + d), int8.
 * w: NULL for the values of `weight`, which are decoded only when the file has not packed them already.
 * bias and scale: groups * n each; NULL for zeros and ones. x_zero is folded into the bias. */
mcc_status mcc_qgemm_pack(mcc_net *net, mcc_qgemm *g, size_t groups, size_t n, size_t k, size_t taps, mcc_tensor *weight,
                          const int8_t *w, const int32_t *bias, const float *scale, int32_t x_zero);

/* The same for one group whose `m` rows are whole and adjacent (linear, 1x1), by way of qformats.def: in another form than dense panels
 * where one says that it wins. */
mcc_status mcc_qgemm_pack_rows(mcc_net *net, mcc_qgemm *g, size_t m, size_t n, size_t k, mcc_tensor *weight, const int32_t *bias,
                               const float *scale, int32_t x_zero);
/* A product whose weight is made while the net runs: kernels and sizes for n columns of k (one group; no lined rows). False:
 * too large. */
bool mcc_qgemm_plan(mcc_qgemm *g, size_t n, size_t k);
/* Packs it into `out`, group_bytes aligned to 64: element (j, d) stands at w[j * column + d * step], where column or step is 1.
 * Rows are meant to be less x_zero. `ones`: room for g->depth bytes. */
void mcc_qgemm_make(const mcc_qgemm *g, uint8_t *out, const int8_t *w, size_t column, size_t step, int32_t x_zero, int8_t *ones);
/* Columns with those that fill up the last panel. */
size_t mcc_qgemm_width(const mcc_qgemm *g);
/* acc[i * stride + j] = the sums of row i < m and the columns j of panels [first, end), whole panels. Rows are shifted already,
 * readable as the kernels want; rows[i] from m up to m + MR are readable pointers too. */
void mcc_qgemm_sums(const mcc_qgemm *g, const uint8_t *panels, size_t first, size_t end, size_t m, const int8_t *const *rows,
                    int32_t *acc, size_t stride);
/* The name of the kernel that a product with m rows runs on; and its multiply-adds. */
const char *mcc_qgemm_kernel(const mcc_qgemm *g, size_t m);
uint64_t mcc_qgemm_macs(const mcc_qgemm *g, size_t m);

/* Forms of an int8 weight other than dense panels: each looks at the weight and either sets g->other and what belongs to it, or
 * leaves it. g has n, k and the sets; bias and scale may be NULL. */
#ifdef MCC_SUBSET
#define QFORMAT(name) \
    mcc_status mcc_##name##_try(mcc_net *net, mcc_qgemm *g, size_t m, mcc_tensor *weight, const int32_t *bias, const float *scale, \
                                int32_t x_zero) __attribute__((weak));
#else
#define QFORMAT(name) \
    mcc_status mcc_##name##_try(mcc_net *net, mcc_qgemm *g, size_t m, mcc_tensor *weight, const int32_t *bias, const float *scale, \
                                int32_t x_zero);
#endif
#include "qformats.def"
#undef QFORMAT

/* How accumulators become the output. */
typedef enum mcc_qout {
    MCC_Q_S8,  /* requantized int8, then `table` */
    MCC_Q_F32, /* act(float(acc) * scale[j] + residual) */
    MCC_Q_DYN, /* act(float(acc - minus[j]) * (row_scale[row / rows_per_scale] * scale[j]) + b[j] + residual) */
    MCC_Q_CODES, /* int8: quantize_linear of act(float(acc) * scale[j] + residual) */
    MCC_Q_S32, /* acc itself */
} mcc_qout;

typedef struct mcc_qjob {
    const mcc_qgemm *gemm;
    size_t batch, m;
    mcc_qout out;
    void *c;
    size_t c_stride;
    mcc_requant requant;
    const int8_t *residual_s8, *table; /* or NULL */
    const float *scale, *bias;         /* all columns of all groups; for F32 and DYN */
    const float *row_scale;            /* DYN */
    const int32_t *minus;              /* DYN: all columns of all groups, or NULL */
    const float *residual;             /* F32, DYN and CODES: like y, or NULL */
    mcc_quantize_fn quantize;          /* CODES, with requant.zero */
    float y_scale;
    size_t rows_per_scale;
    mcc_epilogue post;
    /* Rows: row i of part b is k bytes at x + b * x_part + i * x_step, which the walk shifts where the kernels want
     * that; or, with `place`, wherever it says, shifted already (w and c that it gives are ignored). */
    const int8_t *x;
    size_t x_part, x_step;
    bool shifted;                      /* x is shifted already */
    mcc_gemm_place_fn place;
    const void *arg;
    size_t tile;                       /* most rows that `place` has scratch for; 0: any number */
    void *space;                       /* mcc_workspace_each of mcc_qgemm_space */
    size_t space_each;
} mcc_qjob;
void mcc_qgemm_run(mcc_exec *exec, const mcc_qjob *job);
/* What becomes of the sums acc[i * stride + j] of rows row + i, i < rows <= MCC_GEMM_MAX_MR, and columns channel + j, j < n <= 64
 * (job.minus is taken from them), by mcc_qfinish_pick(); and the table behind that, once all of these columns are there. */
struct mcc_qfinish_kernel;
void mcc_qgemm_out(const mcc_qjob *job, const struct mcc_qfinish_kernel *kernel, int32_t *acc, size_t stride, size_t row, size_t rows,
                   size_t channel, size_t n);
void mcc_qgemm_look_up(const mcc_qjob *job, size_t row, size_t rows, size_t channel, size_t n);
/* Are the scales so large that no kernel can requantize? */
bool mcc_qgemm_wild(const mcc_qjob *job);
/* acc[i * stride + j] -= minus[j], wrapping, for i < rows, j < n. */
void mcc_qgemm_subtract(int32_t *acc, size_t stride, const int32_t *minus, size_t rows, size_t n);
/* The workspace_each of a product with m rows; SIZE_MAX when that overflows. */
size_t mcc_qgemm_space(const mcc_qgemm *g, size_t m, bool placed);

/* Reads the attributes y_zero, lo, hi, r_scale, r_zero, and out, y_scale, act, ... of an integer op; checks scale (finite),
 * residual and table. `scale` must be constant float32 [n]. */
typedef struct mcc_qtail {
    mcc_qout out;
    mcc_requant requant;
    mcc_epilogue post;
    const float *scale;
    const int32_t *bias;
    bool residual, table;
    mcc_quantize_fn quantize; /* CODES */
    float y_scale;
} mcc_qtail;
mcc_status mcc_qtail_read(mcc_net *net, mcc_node *node, size_t n, mcc_qtail *tail);
/* y_zero, lo, hi, r_scale and r_zero alone; and a table operand: 256 constant int8. */
mcc_status mcc_requant_read(mcc_net *net, const mcc_node *node, mcc_requant *requant);
mcc_status mcc_table_read(mcc_net *net, const mcc_node *node, mcc_tensor *table);
/* The output side of a job, from the node's tensors. */
void mcc_qtail_job(const mcc_node *node, const mcc_qtail *tail, mcc_qjob *job);

/* The same for the dynamic ops: inputs x, w, scale, bias float32?, residual float32?, x_scale?, x_zero?. With the last two, x is
 * uint8 of that scale and zero point, which are computed; without, it is float32, quantized here.
 *     acc = sum of (x - x_zero) * w  =  sum of (x - 128) * w  -  (x_zero - 128) * (sum of w),  whose second part is `minus` */
typedef struct mcc_qcodes {
    bool given; /* x is uint8 */
    size_t n;
    const int32_t *sum; /* of each column of w, when given */
} mcc_qcodes;
mcc_status mcc_dynamic_read(mcc_net *net, mcc_node *node, size_t n, mcc_qtail *tail, mcc_qcodes *codes);
/* Given codes have one scale for all `rows` of y; `minus` is room for n numbers then. */
void mcc_dynamic_job(const mcc_node *node, const mcc_qtail *tail, const mcc_qcodes *codes, size_t rows, int32_t *minus, mcc_qjob *job);
/* The zero point of given codes, as of int8. */
int32_t mcc_dynamic_zero(const mcc_node *node);
/* int8 = uint8 - 128. */
void mcc_dynamic_signed(mcc_exec *exec, size_t n, const uint8_t *x, int8_t *y);

/* y[i] = table[y[i] + 128] */
void mcc_table_s8(int8_t *y, size_t count, const int8_t *table);

#endif
