/* qimage.c: see qimage.h. */
#include "qimage.h"

#include <string.h>

#include "../gemm/qgemm.h"

#define SLACK 64

static bool bytes_of(mcc_qimage *image) {
    const mcc_window *v = &image->window;
    size_t bytes;
    if (__builtin_mul_overflow(v->n, v->h, &bytes) || __builtin_mul_overflow(bytes, v->w, &bytes) ||
        __builtin_mul_overflow(bytes, v->c, &bytes) || __builtin_add_overflow(bytes, SLACK, &bytes)) return false;
    image->bytes = bytes;
    return true;
}

bool mcc_qimage_of(const mcc_window *v, int8_t zero, mcc_qimage *image) {
    *image = (mcc_qimage){.n = v->n, .h = v->h, .w = v->w, .c = v->c, .top = v->top, .left = v->left, .window = *v, .padded = true, .zero = zero, .shift = -128};
    mcc_window *p = &image->window;
    /* Sizes are below 2^30 each (core/window.h), and windows fit into the padded image. */
    p->h = (v->oh - 1) * v->sh + (v->kh - 1) * v->dh + 1;
    p->w = (v->ow - 1) * v->sw + (v->kw - 1) * v->dw + 1;
    p->top = p->left = 0;
    const size_t source = v->n * v->h * v->w * v->c;
    if (bytes_of(image) && image->bytes / 4 <= source + 65536) return true;
    *p = *v, image->padded = false, image->top = image->left = 0;
    return bytes_of(image);
}

typedef struct job { const mcc_qimage *image; const void *x; int8_t *copy; } job;

static void lines(void *arg, size_t begin, size_t end, unsigned thread) {
    const job *j = arg;
    const mcc_qimage *m = j->image;
    const size_t width = m->window.w * m->c;
    const int64_t wide = (int64_t)m->window.w, w = (int64_t)m->w;
    /* Columns [from, to) of the copy are in the source. */
    int64_t from = m->left > 0 ? m->left : 0, to = m->left + w < wide ? m->left + w : wide;
    if (from > to) from = to = wide;
    const size_t head = (size_t)from * m->c, body = (size_t)(to - from) * m->c;
    (void)thread;
    for (size_t i = begin; i < end; i++) {
        const size_t image = i / m->window.h;
        const int64_t y = (int64_t)(i % m->window.h) - m->top;
        int8_t *out = j->copy + i * width;
        const int fill = (uint8_t)(m->zero ^ m->shift);
        if (y < 0 || y >= (int64_t)m->h) {
            memset(out, fill, width);
            continue;
        }
        memset(out, fill, head);
        const size_t at = ((image * m->h + (size_t)y) * m->w + (size_t)(from - m->left)) * m->c;
        if (m->quantize) m->quantize(body, (const float *)j->x + at, out + head, m->scale, m->zero - m->shift);
        else if (body) mcc_qgemm_shift(body, (const int8_t *)j->x + at, out + head);
        memset(out + head + body, fill, width - head - body);
    }
}

void mcc_qimage_copy(mcc_exec *exec, const mcc_qimage *image, const void *x, int8_t *copy) {
    job j = {image, x, copy};
    const size_t line = image->window.w * image->c;
    mcc_parallel(exec, image->n * image->window.h, 1 + 16384 / (line + 1), lines, &j);
}
