/* attend.h: what prepare knows of an attention node (attention.c), for its two ways to run it. */
#ifndef MCC_ATTEND_H
#define MCC_ATTEND_H

#include "../core/net.h"
#include "../gemm/gemm.h"
#include "attention.h"

/* A q, k, v, y or past tensor as [batch, heads, rows, depth]: strides of the first three in elements. */
typedef struct view { size_t batch, head, row; } view;

typedef struct attention {
    size_t n, heads, kv_heads, s, before, keys, total, d, dv; /* total = before + keys */
    view q, k, v, y;
    float scale, cap;
    bool causal;
    int64_t left, right; /* -1: no window */
    int64_t keep;        /* the stage at which scores become output 3; -1: there is none */
    size_t mask[4], mask_keys; /* strides of batch, head, row, key; keys that the mask has */
    size_t line;         /* floats of workspace per row of scores */
    mcc_attention_qk_fn qk;
    mcc_attention_pv_fn pv;
    mcc_attention_pack_keys_fn pack_keys;
    mcc_attention_pack_values_fn pack_values;
    mcc_attention_softmax_fn softmax;
    mcc_attention_row_fn softcap, scale_row;
    mcc_attention_mask_fn add_mask, bool_mask;
    /* for blocks of queries (attend_blocks.c) */
    bool packed;
    mcc_gemm_set score, value;      /* tiles of q k^T, and of probabilities times v */
    size_t rows, tile;              /* rows of a block, and of its parts whose scores are held at a time */
    size_t chunk, chunks;           /* keys that are attended to at a time */
    size_t k_panel, k_chunk, v_panel, v_chunk; /* floats from one panel or chunk to the next */
    size_t width;                   /* floats per row of sums */
} attention;

typedef struct attention_job {
    const attention *a;
    const mcc_node *node;
    float *packed, *scratch; /* workspace, and that of each thread */
} attention_job;

/* Checks q, k, v, y (of `type`), mask, past, valid counts and windows, and enters what they say; the macs as well. */
mcc_status mcc_attention_read(mcc_net *net, mcc_node *node, attention *a, mcc_type type);
/* Keys [*lo, *hi) that query `row` of `batch` may attend to, before the mask. */
void mcc_attention_range(const attention_job *j, size_t batch, size_t row, size_t *lo, size_t *hi);
/* Softcap, mask and range upon scores s[i] of the keys from + i, i < n, of one row. */
void mcc_attention_finish(const attention_job *j, size_t batch, size_t head, size_t row, size_t lo, size_t hi, size_t from,
                          size_t n, float *s);
/* Mask and range alone. */
void mcc_attention_hide(const attention_job *j, size_t batch, size_t head, size_t row, size_t lo, size_t hi, size_t from, size_t n,
                        float *s);
/* Gives the caller one row of scores at a stage, if that is the one to keep. */
void mcc_attention_keep(const attention_job *j, int stage, size_t batch, size_t head, size_t row, const float *s);
/* Key or value (`which`: 1 or 2) row `row` of past and present together; *stride to the next, *left how many follow so. */
const float *mcc_attention_source(const attention_job *j, unsigned which, size_t batch, size_t head, size_t row, size_t *stride,
                                  size_t *left);

/* Few queries: keys and values are read where they are. */
void mcc_attention_plan_rows(mcc_node *node, attention *a);
void mcc_attention_run_rows(const attention_job *j, mcc_exec *exec);
/* Blocks of queries: keys and values are packed first. */
mcc_status mcc_attention_plan_blocks(mcc_net *net, mcc_node *node, attention *a);
void mcc_attention_run_blocks(const attention_job *j, mcc_exec *exec);

#endif
