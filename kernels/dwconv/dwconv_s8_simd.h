/* dwconv_s8_simd.h: a run of outputs of one row, int8, for one vector ISA. A file defines W(name), which makes the names of its
 * width, and for blocks of W(VC) channels:
 *   VA, VT          accumulators (of int32) per pixel; taps of one column that a multiply takes together
 *   xv, iv          a row's channels as loaded; an accumulator
 *   x_load, group, mac, i_load, put
 * and includes this. The taps of a window's column are interleaved once, channel by channel, and serve every output whose
 * window has the column; PIXELS outputs are made at a time, so that their sums stay in registers. */

enum { W(PIXELS) = 4 };

/* `pixels` outputs (constant) from column `column` of the run on; channels [c, c + n). edge: some column may be a pad (looking
 * for them here is faster than a table made before). */
VROW void W(tile)(size_t pixels, size_t kh, size_t kw, size_t stride, bool edge, const mcc_dwconv_in *in, size_t column, size_t c,
                  size_t n, const uint8_t *block, size_t channels, void *y, const int8_t *residual, const mcc_requant *q) {
    const int32_t *bias = (const int32_t *)(const void *)block;
    const float *scale = (const float *)(const void *)(bias + W(VC));
    const uint8_t *w = (const uint8_t *)(scale + W(VC));
    const size_t groups = (kh + W(VT) - 1) / W(VT);
    W(iv) acc[W(PIXELS)][W(VA)];
    for (size_t i = 0; i < W(VA); i++) {
        acc[0][i] = W(i_load)(bias, i);
        for (size_t p = 1; p < pixels; p++) acc[p][i] = acc[0][i];
    }
    const char *at[MCC_DWCONV_ROWS];
    if (!edge)
        for (size_t ky = 0; ky < kh; ky++) at[ky] = in->x[ky] + (column - in->first) * in->step[ky] + c;
    _Pragma("GCC unroll 16") for (size_t k = 0; k < (pixels - 1) * stride + kw; k++) {
        if (edge) {
            const size_t from = column + k - in->first;
            _Pragma("GCC unroll 5") for (size_t ky = 0; ky < kh; ky++)
                at[ky] = (from < in->inside ? in->x[ky] + from * in->step[ky] : in->fill) + c;
        }
        _Pragma("GCC unroll 3") for (size_t g = 0; g < groups; g++) {
            W(xv) x[W(VT)];
            W(iv) data[W(VA)];
            const size_t rows = kh - g * W(VT) < W(VT) ? kh - g * W(VT) : W(VT);
            _Pragma("GCC unroll 4") for (size_t r = 0; r < rows; r++) x[r] = W(x_load)((const int8_t *)at[g * W(VT) + r], n);
            W(group)(x, rows, data);
            _Pragma("GCC unroll 4") for (size_t p = 0; p < pixels; p++) {
                const size_t kx = k - p * stride;
                if (kx >= kw) continue;
                _Pragma("GCC unroll 4") for (size_t i = 0; i < W(VA); i++)
                    acc[p][i] = W(mac)(acc[p][i], data[i], w + ((kx * groups + g) * W(VA) + i) * sizeof(W(iv)));
            }
        }
        if (!edge)
            _Pragma("GCC unroll 5") for (size_t ky = 0; ky < kh; ky++) at[ky] += in->step[ky];
    }
    _Pragma("GCC unroll 4") for (size_t p = 0; p < pixels; p++)
        W(put)(acc[p], scale, n, y, p * channels, residual ? residual + p * channels : NULL, q);
}

/* All pixels of a run. The last tile ends with the run and makes some pixels again; where that could add a residual twice,
 * and in runs shorter than a tile, they go pixel by pixel. */
VROW void W(run)(size_t kh, size_t kw, size_t stride, const mcc_dwconv_in *in, size_t pixels, size_t c, size_t n, const uint8_t *block,
                 size_t channels, void *y, const int8_t *residual, const mcc_requant *q) {
    const size_t columns = (W(PIXELS) - 1) * stride + kw, bytes = channels * (q ? 1 : sizeof(int32_t));
    uint8_t *out = (uint8_t *)y + c * (q ? 1 : sizeof(int32_t));
    if (residual) residual += c;
    if (pixels < W(PIXELS) || residual) {
        for (size_t p = 0; p < pixels; p++)
            W(tile)(1, kh, kw, stride, true, in, p * stride, c, n, block, channels, out + p * bytes,
                    residual ? residual + p * channels : NULL, q);
        return;
    }
    for (size_t p = 0; p < pixels; p += W(PIXELS)) {
        if (p + W(PIXELS) > pixels) p = pixels - W(PIXELS);
        const size_t column = p * stride;
        if (mcc_dwconv_inside(in, column, columns))
            W(tile)(W(PIXELS), kh, kw, stride, false, in, column, c, n, block, channels, out + p * bytes, NULL, q);
        else
            W(tile)(W(PIXELS), kh, kw, stride, true, in, column, c, n, block, channels, out + p * bytes, NULL, q);
    }
}
