/* dwconv_float_neon.h: along a row, a vector of channels at a time, with the weights of the window in registers. Each column of the
 * image is read once and adds to all outputs whose windows have it, so that per output of 3x3 windows 9 of 17 instructions
 * multiply. Sums take turns by name: what was the second output's is the first one's a step later.
 *
 * A file defines and includes this, then the kernels are ROLL(K, stride, sums):
 *   KERNEL(what)             the kernel of that name; KERNEL(taps) is there already
 *   FN                     what every function begins with
 *   number, vec, WIDE      an element, a vector, elements of a vector; LANES: a vector in assembler
 *   LOAD, FMA, MIN, MAX    of vectors; DUP a float in all elements */
#include "../core/isa.h"

/* gcc 12 would hold the loads of three columns in registers at once, and spill. */
#if !defined(__clang__)
#pragma GCC optimize("no-schedule-insns", "no-ivopts")
#endif

/* A step makes one output: it reads `stride` columns, the last of its window. (kw - 1) / stride steps before the first output do
 * the same without storing. Columns of step j begin at j * stride + 1 - stride. Steps [blank, from) and [to, steps) see pads:
 * `at` has the pointers of their columns, kh each. What sees nothing else adds nothing: steps before `blank`, and from `clear`
 * on. */
enum { EDGE = 12 }; /* columns at edges, at most */
typedef struct walk {
    size_t steps, blank, from, to, clear;
    const char *at[EDGE * MCC_DWCONV_ROWS];
} walk;

static size_t smaller(size_t a, size_t b) { return a < b ? a : b; }
static size_t larger(size_t a, size_t b) { return a > b ? a : b; }

/* false: too many columns at edges. */
__attribute__((noinline)) static bool plan(walk *walk, size_t pixels, size_t k, size_t stride, const mcc_dwconv_in *in) {
    const size_t warm = (k - 1) / stride, steps = pixels + warm, end = in->first + in->inside;
    walk->steps = steps;
    walk->blank = smaller(warm, (in->first + stride - 1) / stride);
    walk->from = smaller(steps, larger(walk->blank, (in->first + 2 * (stride - 1)) / stride));
    walk->to = smaller(steps, larger(walk->from, in->inside ? (end - 1) / stride + 1 : 0));
    walk->clear = larger(walk->to, (end + 2 * (stride - 1)) / stride);
    const size_t head = (walk->from - walk->blank) * stride, tail = (steps - walk->to) * stride;
    if (head + tail > EDGE) return false;
    mcc_dwconv_point(in, walk->blank * stride + 1 - stride, head, k, walk->at);
    mcc_dwconv_point(in, walk->to * stride + 1 - stride, tail, k, walk->at + head * k);
    return true;
}

#define ARGS                                                                                                             \
    size_t pixels, size_t channel, size_t n, size_t channels, const mcc_dwconv_in *in, const number *w, number *y,        \
        const number *residual, float lo, float hi

/* What has no walk: runs with a residual, wide pads, channels that fill no vector. */
__attribute__((noinline)) FN static void by_pixels(size_t k, size_t stride, ARGS) {
    const void *cells[MCC_DWCONV_ROWS * MCC_DWCONV_ROWS];
    const number *taps[MCC_DWCONV_ROWS * MCC_DWCONV_ROWS];
    for (size_t p = 0, at = channel; p < pixels; p++, at += channels) {
        mcc_dwconv_cells(in, p * stride, k, k, cells);
        for (size_t t = 0; t < k * k; t++) taps[t] = (const number *)cells[t] + channel;
        KERNEL(taps)(1, n, k * k, taps, w, y + at, residual ? residual + at : NULL, lo, hi);
    }
}

/* One instruction each, where the compiler makes two. */
FN static inline vec load(const char **p, size_t step) {
    vec x;
    __asm__("ld1 {%0." LANES "}, [%1], %2" : "=w"(x), "+r"(*p) : "r"(step), "m"(*(const number(*)[WIDE])(const void *)*p));
    return x;
}
FN static inline void store(char **p, size_t step, vec y) {
    __asm__("st1 {%2." LANES "}, [%0], %3" : "+r"(*p), "=m"(*(number(*)[WIDE])(void *)*p) : "w"(y), "r"(step));
}

/* A column of the window: its rows, in memory and in registers. */
#define ROWS3(X) X(0) X(1) X(2)
#define ROWS5(X) X(0) X(1) X(2) X(3) X(4)
#define READ(r) const vec x##r = load(&p##r, step##r);
#define FETCH(r) const vec x##r = LOAD((const number *)(const void *)(at[r] + offset));
#define ADD(s, r, kx) s = FMA(s, x##r, w##r##kx);
#define PLACE(r)                                                                       \
    const size_t step##r = in->step[r];                                                \
    const char *const first##r = in->x[r] + begin * step##r;
#define POINT(r) const char *p##r = first##r + offset;
#define WEIGHTS3(r)                                                                                                      \
    const vec w##r##0 = LOAD(w + (3 * r + 1) * WIDE), w##r##1 = LOAD(w + (3 * r + 2) * WIDE),                    \
                      w##r##2 = LOAD(w + (3 * r + 3) * WIDE);
#define WEIGHTS5(r)                                                                                                      \
    const vec w##r##0 = LOAD(w + (5 * r + 1) * WIDE), w##r##1 = LOAD(w + (5 * r + 2) * WIDE),                    \
                      w##r##2 = LOAD(w + (5 * r + 3) * WIDE), w##r##3 = LOAD(w + (5 * r + 4) * WIDE),                    \
                      w##r##4 = LOAD(w + (5 * r + 5) * WIDE);

/* A step by window and stride: GET reads a column, sum a is complete at its end, the last one begins. */
#define STEP_3s1(GET, a, b, c) { ROWS3(GET) c = bias; TAKE_3s1(0, a, b, c) TAKE_3s1(1, a, b, c) TAKE_3s1(2, a, b, c) }
#define TAKE_3s1(r, a, b, c) ADD(a, r, 2) ADD(b, r, 1) ADD(c, r, 0)
#define STEP_3s2(GET, a, b)                                                                          \
    { ROWS3(GET) ADD(a, 0, 1) ADD(a, 1, 1) ADD(a, 2, 1) }                                            \
    NEXT(GET, 3)                                                                                     \
    { ROWS3(GET) b = bias; TAKE_3s2(0, a, b) TAKE_3s2(1, a, b) TAKE_3s2(2, a, b) }
#define TAKE_3s2(r, a, b) ADD(a, r, 2) ADD(b, r, 0)
#define STEP_5s1(GET, a, b, c, d, e)                                                                 \
    {                                                                                                \
        ROWS5(GET)                                                                                   \
        e = bias;                                                                                    \
        TAKE_5s1(0, a, b, c, d, e) TAKE_5s1(1, a, b, c, d, e) TAKE_5s1(2, a, b, c, d, e)             \
        TAKE_5s1(3, a, b, c, d, e) TAKE_5s1(4, a, b, c, d, e)                                        \
    }
#define TAKE_5s1(r, a, b, c, d, e) ADD(a, r, 4) ADD(b, r, 3) ADD(c, r, 2) ADD(d, r, 1) ADD(e, r, 0)
#define STEP_5s2(GET, a, b, c)                                                                       \
    { ROWS5(GET) TAKE_5odd(0, a, b) TAKE_5odd(1, a, b) TAKE_5odd(2, a, b) TAKE_5odd(3, a, b) TAKE_5odd(4, a, b) } \
    NEXT(GET, 5)                                                                                     \
    {                                                                                                \
        ROWS5(GET)                                                                                   \
        c = bias;                                                                                    \
        TAKE_5s2(0, a, b, c) TAKE_5s2(1, a, b, c) TAKE_5s2(2, a, b, c) TAKE_5s2(3, a, b, c) TAKE_5s2(4, a, b, c) \
    }
#define TAKE_5odd(r, a, b) ADD(a, r, 3) ADD(b, r, 1)
#define TAKE_5s2(r, a, b, c) ADD(a, r, 4) ADD(b, r, 2) ADD(c, r, 0)
/* To the next column of the table; rows in memory moved along as they were read. */
#define NEXT(GET, KH) NEXT_##GET(KH)
#define NEXT_READ(KH)
#define NEXT_FETCH(KH) at += KH;

#define PUT(a) store(&to, pixel, MIN(high, MAX(low, a)));

/* By the number of sums: their names, one step whose names then move on, as many steps as there are names. */
#define SUMS2 vec a = bias, b = bias;
#define SUMS3 vec a = bias, b = bias, c = bias;
#define SUMS5 vec a = bias, b = bias, c = bias, d = bias, e = bias;
#define MADE2(STEP, GET) STEP(GET, a, b)
#define MADE3(STEP, GET) STEP(GET, a, b, c)
#define MADE5(STEP, GET) STEP(GET, a, b, c, d, e)
#define EMPTY2 b = bias;
#define EMPTY3 c = bias;
#define EMPTY5 e = bias;
#define TURN2 a = b;
#define TURN3 a = b, b = c;
#define TURN5 a = b, b = c, c = d, d = e;
#define ROUND2(STEP) STEP(READ, a, b) PUT(a) STEP(READ, b, a) PUT(b)
#define ROUND3(STEP) STEP(READ, a, b, c) PUT(a) STEP(READ, b, c, a) PUT(b) STEP(READ, c, a, b) PUT(c)
#define ROUND5(STEP)                                                                                                     \
    STEP(READ, a, b, c, d, e) PUT(a) STEP(READ, b, c, d, e, a) PUT(b) STEP(READ, c, d, e, a, b) PUT(c)                   \
    STEP(READ, d, e, a, b, c) PUT(d) STEP(READ, e, a, b, c, d) PUT(e)

#define ROLL(K, S, N)                                                                                      \
    FN void KERNEL(K##x##K##s##S)(ARGS) {                                                                  \
        walk walk;                                                                                         \
        if (residual || !plan(&walk, pixels, K, S, in)) {                                                  \
            by_pixels(K, S, pixels, channel, n, channels, in, w, y, residual, lo, hi);                     \
            return;                                                                                        \
        }                                                                                                  \
        const vec low = DUP(lo), high = DUP(hi);                                                           \
        const size_t pixel = channels * sizeof(number), warm = (K - 1) / S, steps = walk.steps;            \
        const size_t blank = walk.blank, from = walk.from, end = walk.to, clear = walk.clear;              \
        const size_t begin = from < end ? from * S + 1 - S - in->first : 0;                                \
        ROWS##K(PLACE)                                                                                     \
        for (; n >= WIDE; n -= WIDE, channel += WIDE, w += (1 + K * K) * WIDE) {                           \
            const size_t offset = channel * sizeof(number);                                                \
            const vec bias = LOAD(w);                                                                      \
            ROWS##K(WEIGHTS##K)                                                                            \
            SUMS##N                                                                                        \
            char *to = (char *)(y + channel);                                                              \
            const char *const *at = walk.at;                                                               \
            for (size_t j = blank; j < from; j++, at += K) {                                               \
                MADE##N(STEP_##K##s##S, FETCH)                                                             \
                if (j >= warm) { PUT(a) }                                                                  \
                TURN##N                                                                                    \
            }                                                                                              \
            if (from < end) {                                                                              \
                ROWS##K(POINT)                                                                             \
                size_t j = from;                                                                           \
                for (; j < warm && j < end; j++) { MADE##N(STEP_##K##s##S, READ) TURN##N }                 \
                size_t left = end - j;                                                                     \
                for (; left >= N; left -= N) { ROUND##N(STEP_##K##s##S) }                                  \
                for (; left; left--) {                                                                     \
                    MADE##N(STEP_##K##s##S, READ)                                                          \
                    PUT(a)                                                                                 \
                    TURN##N                                                                                \
                }                                                                                          \
            }                                                                                              \
            for (size_t j = end; j < steps; j++) {                                                         \
                if (j < clear) { MADE##N(STEP_##K##s##S, FETCH) at += K; }                                 \
                else { EMPTY##N }                                                                          \
                if (j >= warm) { PUT(a) }                                                                  \
                TURN##N                                                                                    \
            }                                                                                              \
        }                                                                                                  \
        if (n) by_pixels(K, S, pixels, channel, n, channels, in, w, y, NULL, lo, hi);                      \
    }
