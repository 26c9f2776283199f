/* qgemm.c: packing of int8 weights, and the walk with its ways out. */
#include "qgemm.h"

#include <math.h>
#include <string.h>

#include "../core/element.h"
#include "../core/isa.h"
#include "qfinish.h"

int32_t mcc_gemm_s8_offset(const mcc_gemm_set *set) {
    return set->serve[0]->isa == MCC_ISA_avx512vnni ? 128 : 0;
}

static size_t depth_of(const mcc_qgemm *g) {
    return g->taps * ((g->k + g->set.kr - 1) / g->set.kr) * g->set.kr;
}

/* One panel: columns first..first + width of a weight whose columns are taps * k int8. */
static void pack_panel(const mcc_qgemm *g, uint8_t *out, size_t width, const int8_t *w, const int32_t *bias, const float *scale,
                       int32_t x_zero) {
    const size_t nr = g->set.nr, kr = g->set.kr, groups = (g->k + kr - 1) / kr, depth = g->taps * g->k;
    const int32_t shift = x_zero + mcc_gemm_s8_offset(&g->set);
    int32_t *b = (int32_t *)(void *)out;
    float *s = (float *)(void *)(b + nr);
    int8_t *packed = (int8_t *)(s + nr);
    memset(out, 0, g->panel);
    for (size_t j = 0; j < width; j++) {
        int64_t sum = 0;
        for (size_t d = 0; d < depth; d++) sum += w[j * depth + d];
        /* Wraps as the kernels' sums do; the true result fits. */
        b[j] = (int32_t)(uint32_t)((bias ? bias[j] : 0) - sum * shift);
        s[j] = scale ? scale[j] : 1.0f;
        for (size_t t = 0; t < g->taps; t++)
            for (size_t d = 0; d < g->k; d++)
                packed[((t * groups + d / kr) * nr + j) * kr + d % kr] = w[j * depth + t * g->k + d];
    }
}

mcc_status mcc_qgemm_pack(mcc_net *net, mcc_qgemm *g, size_t groups, size_t n, size_t k, size_t taps, const int8_t *w,
                          const int32_t *bias, const float *scale, int32_t x_zero) {
    g->n = n, g->k = k, g->taps = taps;
    mcc_gemm_pick(MCC_S8, n, &g->set);
    const size_t panels = (n + g->set.nr - 1) / g->set.nr;
    if (k > SIZE_MAX / 64 || (taps && depth_of(g) / taps < k) || depth_of(g) > SIZE_MAX / 1024 / (panels + 1) / (groups + 1)) return MCC_NO_MEMORY;
    g->panel = g->set.nr * (depth_of(g) + sizeof(int32_t) + sizeof(float));
    g->group_bytes = panels * g->panel;
    uint8_t *out = mcc_net_alloc(net, groups * g->group_bytes);
    if (!out) return MCC_NO_MEMORY;
    g->w = out;
    for (size_t group = 0; group < groups; group++)
        for (size_t j = 0; j < n; j += g->set.nr, out += g->panel) {
            const size_t at = group * n + j;
            pack_panel(g, out, n - j < g->set.nr ? n - j : g->set.nr, w + at * taps * k, bias ? bias + at : NULL,
                       scale ? scale + at : NULL, x_zero);
        }
    return MCC_OK;
}

void mcc_table_s8(int8_t *y, size_t count, const int8_t *table) {
    for (size_t i = 0; i < count; i++) y[i] = table[y[i] + 128];
}

/* --- the walk ------------------------------------------------------------------------------------------------- */

static void block(void *arg, size_t batch, size_t row, size_t rows, size_t column, size_t columns, unsigned thread) {
    const mcc_qjob *job = arg;
    const mcc_qgemm *g = job->gemm;
    const mcc_gemm_kernel *kernel = g->set.serve[rows];
    mcc_gemm_s8_fn *fn = (mcc_gemm_s8_fn *)kernel->fn;
    _Alignas(64) char scratch[MCC_GEMM_SCRATCH];
    const void *small[MCC_GEMM_TABLE];
    const void **table = g->taps <= MCC_GEMM_TABLE / g->set.mr
                             ? small : (const void **)job->tables + thread * g->taps * g->set.mr;
    size_t unused = 0, c = 0;
    job->place(job->arg, batch, row, rows, kernel->mr, scratch, table, &unused, &c);

    const uint8_t *panel = g->w + batch * g->group_bytes + column / g->set.nr * g->panel;
    _Alignas(64) int32_t acc[MCC_GEMM_MAX_MR * 64]; /* NR of the widest kernel */
    for (size_t j = column; j < column + columns; j += g->set.nr, panel += g->panel) {
        const size_t n = column + columns - j < g->set.nr ? column + columns - j : g->set.nr;
        if (job->out == MCC_Q_S8) {
            fn(rows, n, g->k, g->taps, (const int8_t *const *)table, panel, (int8_t *)job->c + c + j, job->c_stride,
               job->residual_s8 ? job->residual_s8 + c + j : NULL, &job->requant);
            continue;
        }
        if (job->out == MCC_Q_S32) {
            fn(rows, n, g->k, g->taps, (const int8_t *const *)table, panel, (int32_t *)job->c + c + j, job->c_stride, NULL, NULL);
            continue;
        }
        fn(rows, n, g->k, g->taps, (const int8_t *const *)table, panel, acc, g->set.nr, NULL, NULL);
        for (size_t i = 0; i < rows; i++) {
            const size_t at = c + i * job->c_stride + j, channel = batch * g->n + j;
            mcc_qfinish(n, acc + i * g->set.nr, (float *)job->c + at, job->scale + channel,
                        job->out == MCC_Q_DYN ? job->row_scale + (row + i) / job->rows_per_scale : NULL,
                        job->bias ? job->bias + channel : NULL, job->residual ? job->residual + at : NULL, job->post.lo,
                        job->post.hi);
        }
    }
    if (job->out == MCC_Q_S8 && job->table)
        for (size_t i = 0; i < rows; i++) mcc_table_s8((int8_t *)job->c + c + i * job->c_stride + column, columns, job->table);
    if (job->out == MCC_Q_F32 || job->out == MCC_Q_DYN)
        mcc_epilogue_after(&job->post, (float *)job->c + c + column, rows, columns, job->c_stride);
}

void mcc_qgemm_run(mcc_exec *exec, const mcc_qjob *job) {
    const mcc_qgemm *g = job->gemm;
    const mcc_gemm_walk walk = {.batch = job->batch, .m = job->m, .n = g->n, .mr = g->set.mr, .nr = g->set.nr,
                                .column_bytes = depth_of(g) + 8};
    mcc_gemm_blocks(exec, &walk, block, (void *)(uintptr_t)job);
}

/* --- attributes and operands that all integer ops share ------------------------------------------------------------ */

mcc_status mcc_qtail_read(mcc_net *net, mcc_node *node, size_t n, mcc_qtail *tail) {
    mcc_tensor *bias = mcc_in(node, 2), *scale = mcc_in(node, 3), *residual = mcc_in(node, 4), *table = mcc_in(node, 5);
    mcc_tensor *y = node->out[0];
    mcc_status status;
    MCC_NEED(scale && scale->constant && scale->type == MCC_F32 && scale->count == n, "the scale is constant float32, one per output");
    MCC_NEED(!bias || (bias->constant && bias->type == MCC_S32 && bias->count == n), "the bias is constant int32, one per output");
    tail->scale = mcc_dense(net, scale, &status);
    if (!tail->scale) return status;
    tail->bias = bias ? mcc_dense(net, bias, &status) : NULL;
    if (bias && !tail->bias) return status;
    for (size_t i = 0; i < n; i++) MCC_NEED(isfinite(tail->scale[i]), "a scale is not finite");
    tail->residual = residual != NULL, tail->table = table != NULL;
    const bool real = strcmp(mcc_string(node, "out", "int8"), "float32") == 0;
    if (real) {
        MCC_NEED(y->type == MCC_F32 && !residual && !table, "a float32 result takes no residual and no table");
        tail->out = MCC_Q_F32;
        return mcc_epilogue_read(net, node, &tail->post);
    }
    tail->out = MCC_Q_S8;
    MCC_NEED(y->type == MCC_S8, "the result is int8");
    MCC_TRY(mcc_requant_read(net, node, &tail->requant));
    if (residual) {
        MCC_NEED(residual->type == MCC_S8 && mcc_same_shape(residual, y), "the residual is int8 and shaped like y");
        if (residual->constant && !mcc_dense(net, residual, &status)) return status;
    }
    return table ? mcc_table_read(net, node, table) : MCC_OK;
}

mcc_status mcc_requant_read(mcc_net *net, const mcc_node *node, mcc_requant *q) {
    const int64_t zero = mcc_int(node, "y_zero", 0), lo = mcc_int(node, "lo", -128), hi = mcc_int(node, "hi", 127);
    const int64_t r_zero = mcc_int(node, "r_zero", 0);
    MCC_NEED(zero >= -128 && zero <= 127 && r_zero >= -128 && r_zero <= 127, "a zero point is not an int8");
    MCC_NEED(lo >= -128 && lo <= hi && hi <= 127, "lo and hi are no int8 range");
    *q = (mcc_requant){.lo = (float)(lo - zero), .hi = (float)(hi - zero), .zero = (int32_t)zero,
                       .r_scale = mcc_float(node, "r_scale", 1.0f), .r_zero = (int32_t)r_zero};
    MCC_NEED(isfinite(q->r_scale), "a scale is not finite");
    return MCC_OK;
}

mcc_status mcc_table_read(mcc_net *net, const mcc_node *node, mcc_tensor *table) {
    mcc_status status;
    MCC_NEED(table->constant && table->type == MCC_S8 && table->count == 256, "the table is 256 constant int8");
    return mcc_dense(net, table, &status) ? MCC_OK : status;
}

void mcc_qtail_job(const mcc_node *node, const mcc_qtail *tail, mcc_qjob *job) {
    const mcc_tensor *residual = mcc_in(node, 4), *table = mcc_in(node, 5);
    job->out = tail->out, job->requant = tail->requant, job->post = tail->post, job->scale = tail->scale;
    job->c = node->out[0]->data;
    job->residual_s8 = residual ? residual->data : NULL;
    job->table = table ? table->data : NULL;
}
