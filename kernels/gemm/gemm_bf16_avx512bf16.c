/* gemm_bf16_avx512bf16.c: bf16 gemm on VDPBF16PS, which multiplies pairs of bfloat16 and adds both products to a float32: twice
 * the multiply-adds of an instruction of float32, otherwise the same tiles. Numbers below 2^-126 count as zero. */
#if defined(__x86_64__)
#define MCC_SIMD avx512bf16
#define GEMM_TYPE bf16
#define GEMM_KR 2
#define GEMM_FMA(x, w, sum) _mm512_dpbf16_ps(sum, (__m512bh)(x), (__m512bh)(w))
#include "bf16.h"
#include "gemm_f32_simd.h"

TILES_OF_14

/* 32 floats at a time; the second operand of the instruction makes the lower half. */
VKERNEL void mcc_round_bf16_avx512bf16(size_t rows, size_t k, const float *x, size_t x_stride, uint16_t *y) {
    for (; rows; rows--, x += x_stride, y += (k + 1) / 2 * 2) {
        size_t q = 0;
        for (; q + 32 <= k; q += 32)
            _mm512_storeu_si512(y + q, (__m512i)_mm512_cvtne2ps_pbh(v_load(x + q + 16), v_load(x + q)));
        const size_t left = k - q;
        if (!left) continue;
        const vf low = v_load_n(x + q, left < 16 ? left : 16), high = left > 16 ? v_load_n(x + q + 16, left - 16) : v_set(0);
        _mm512_mask_storeu_epi16(y + q, (__mmask32)(((uint64_t)1 << (left + 1) / 2 * 2) - 1), (__m512i)_mm512_cvtne2ps_pbh(high, low));
    }
}
#endif
