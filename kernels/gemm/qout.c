/* qout.c: the ways out of an int8 product: what becomes of the sums of a tile. */
#include <math.h>
#include <string.h>

#include "../core/element.h"
#include "../eltwise/qtable.h"
#include "qfinish.h"
#include "qgemm.h"


void mcc_table_s8(int8_t *y, size_t count, const int8_t *table) {
    mcc_qtable_pick()->fn(count, y, y, table);
}

void mcc_qgemm_subtract(int32_t *acc, size_t stride, const int32_t *minus, size_t rows, size_t n) {
    for (size_t i = 0; i < rows; i++, acc += stride)
        for (size_t j = 0; j < n; j++) acc[j] = (int32_t)((uint32_t)acc[j] - (uint32_t)minus[j]);
}

/* A tile whose result is float32, from its sums on the stack. `first`: its first row in the whole product. MCC_Q_CODES makes
 * int8 of it again: the values themselves never leave the cache. */
static void finish(const mcc_qjob *job, mcc_qfinish_fn *fn, const int32_t *acc, size_t nr, size_t first, size_t rows,
                   size_t channel, size_t n, size_t at) {
    float row_scale[MCC_GEMM_MAX_MR];
    const bool dynamic = job->out == MCC_Q_DYN;
    for (size_t i = 0; dynamic && i < rows; i++) row_scale[i] = job->row_scale[(first + i) / job->rows_per_scale];
    if (job->out != MCC_Q_CODES) {
        fn(rows, n, acc, nr, (float *)job->c + at, job->c_stride, job->scale + channel, dynamic ? row_scale : NULL,
           job->bias ? job->bias + channel : NULL, job->residual ? job->residual + at : NULL, job->post.lo, job->post.hi);
        mcc_epilogue_after(&job->post, (float *)job->c + at, rows, n, job->c_stride);
        return;
    }
    _Alignas(64) float real[MCC_GEMM_MAX_MR * 64];
    int8_t codes[MCC_GEMM_MAX_MR * 64];
    for (size_t i = 0; job->residual && i < rows; i++) /* which does not lie like the values here */
        fn(1, n, acc + i * nr, nr, real + i * n, n, job->scale + channel, NULL, job->bias ? job->bias + channel : NULL,
           job->residual + at + i * job->c_stride, job->post.lo, job->post.hi);
    if (!job->residual)
        fn(rows, n, acc, nr, real, n, job->scale + channel, NULL, job->bias ? job->bias + channel : NULL, NULL, job->post.lo, job->post.hi);
    mcc_epilogue_after(&job->post, real, rows, n, n);
    job->quantize(rows * n, real, codes, job->y_scale, job->requant.zero);
    for (size_t i = 0; i < rows; i++) memcpy((int8_t *)job->c + at + i * job->c_stride, codes + i * n, n);
}

/* A tile of a layer whose scales are so large that kernels cannot requantize it: by the definition, one by one. */
bool mcc_qgemm_wild(const mcc_qjob *job) {
    return job->out == MCC_Q_S8 && !(job->gemm->top + 256 * fabs((double)job->requant.r_scale) < 0x1p30);
}

void mcc_qgemm_out(const mcc_qjob *job, const mcc_qfinish_kernel *kernel, int32_t *acc, size_t stride, size_t row, size_t rows,
                   size_t channel, size_t n) {
    const size_t at = row * job->c_stride + channel;
    if (job->out == MCC_Q_S8) {
        (mcc_qgemm_wild(job) ? mcc_qrequant_f32_c : kernel->requant)(rows, n, acc, stride, (int8_t *)job->c + at, job->c_stride,
            job->scale + channel, job->residual_s8 ? job->residual_s8 + at : NULL, &job->requant);
        return;
    }
    if (job->minus) mcc_qgemm_subtract(acc, stride, job->minus + channel, rows, n);
    if (job->out != MCC_Q_S32) {
        finish(job, kernel->finish, acc, stride, row, rows, channel, n, at);
        return;
    }
    for (size_t i = 0; i < rows; i++) memcpy((int32_t *)job->c + at + i * job->c_stride, acc + i * stride, n * sizeof *acc);
}

void mcc_qgemm_look_up(const mcc_qjob *job, size_t row, size_t rows, size_t channel, size_t n) {
    if (job->out != MCC_Q_S8 || !job->table) return;
    const size_t at = row * job->c_stride + channel, runs = n == job->c_stride ? 1 : rows, run = n * (rows / runs);
    for (size_t i = 0; i < runs; i++) mcc_table_s8((int8_t *)job->c + at + i * job->c_stride, run, job->table);
}
