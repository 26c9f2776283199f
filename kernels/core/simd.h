/* simd.h: float vectors under one set of names, so that a kernel that is the same on every ISA is written once.
 * A file defines MCC_SIMD as avx512, avx2 or neon before it includes this; every function it makes opens with VFN.
 *
 *   vf, vi, vm   VN floats, VN int32, a mask of VN lanes. v_load_n and v_store_n touch n <= VN elements; the
 *   lanes past n load as 0. v_min/v_max: NaN in the second operand wins; v_minn/v_maxn: NaN in any operand wins.
 *   v_sum, v_peak: the sum and the largest of the lanes (of numbers). */
#ifndef MCC_CORE_SIMD_H
#define MCC_CORE_SIMD_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "isa.h"

#define MCC_CAT_(a, b, c) a##_##b##_##c
#define MCC_CAT(a, b, c) MCC_CAT_(a, b, c)
/* NAME(relu) with MCC_NAME_STEM mcc_eltwise_f32 -> mcc_eltwise_f32_relu_avx2 */
#define NAME(what) MCC_CAT(MCC_NAME_STEM, what, MCC_SIMD)
#define MCC_FN_OF(isa) MCC_FN(isa)
#define VKERNEL MCC_FN_OF(MCC_SIMD)
#define VFN VKERNEL static inline __attribute__((always_inline, unused))

#define MCC_IS_avx2 1
#define MCC_IS_avx512 2
#define MCC_IS_avx512bf16 2 /* and what a file adds to that itself */
#define MCC_IS_neon 3
#define MCC_IS__(isa) MCC_IS_##isa
#define MCC_IS_(isa) MCC_IS__(isa)

#if MCC_IS_(MCC_SIMD) == 1
#include <immintrin.h>
typedef __m256 vf;
typedef __m256i vi;
typedef __m256 vm;
enum { VN = 8 };
VFN vi v_first_(size_t n) { /* lanes below n */
    return _mm256_cmpgt_epi32(_mm256_set1_epi32((int)n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
VFN vf v_set(float a) { return _mm256_set1_ps(a); }
VFN vf v_load(const float *p) { return _mm256_loadu_ps(p); }
VFN void v_store(float *p, vf a) { _mm256_storeu_ps(p, a); }
VFN vf v_load_n(const float *p, size_t n) { return _mm256_maskload_ps(p, v_first_(n)); }
VFN void v_store_n(float *p, vf a, size_t n) { _mm256_maskstore_ps(p, v_first_(n), a); }
VFN vf v_add(vf a, vf b) { return _mm256_add_ps(a, b); }
VFN vf v_sub(vf a, vf b) { return _mm256_sub_ps(a, b); }
VFN vf v_mul(vf a, vf b) { return _mm256_mul_ps(a, b); }
VFN vf v_div(vf a, vf b) { return _mm256_div_ps(a, b); }
VFN vf v_fma(vf a, vf b, vf c) { return _mm256_fmadd_ps(a, b, c); }
VFN vf v_min(vf a, vf b) { return _mm256_min_ps(a, b); }
VFN vf v_max(vf a, vf b) { return _mm256_max_ps(a, b); }
VFN vf v_sqrt(vf a) { return _mm256_sqrt_ps(a); }
VFN vf v_rint(vf a) { return _mm256_round_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
VFN vf v_floor(vf a) { return _mm256_round_ps(a, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC); }
VFN vf v_ceil(vf a) { return _mm256_round_ps(a, _MM_FROUND_TO_POS_INF | _MM_FROUND_NO_EXC); }
VFN vm v_lt(vf a, vf b) { return _mm256_cmp_ps(a, b, _CMP_LT_OQ); }
VFN vm v_le(vf a, vf b) { return _mm256_cmp_ps(a, b, _CMP_LE_OQ); }
VFN vm v_eq(vf a, vf b) { return _mm256_cmp_ps(a, b, _CMP_EQ_OQ); }
VFN vm v_nan(vf a) { return _mm256_cmp_ps(a, a, _CMP_UNORD_Q); }
VFN vf v_sel(vm m, vf yes, vf no) { return _mm256_blendv_ps(no, yes, m); }
VFN int v_any(vm m) { return _mm256_movemask_ps(m) != 0; }
VFN vi vi_set(int32_t a) { return _mm256_set1_epi32(a); }
VFN vi vi_add(vi a, vi b) { return _mm256_add_epi32(a, b); }
VFN vi vi_sub(vi a, vi b) { return _mm256_sub_epi32(a, b); }
VFN vi vi_and(vi a, vi b) { return _mm256_and_si256(a, b); }
VFN vi vi_or(vi a, vi b) { return _mm256_or_si256(a, b); }
#define vi_shl(a, k) _mm256_slli_epi32(a, k)
#define vi_sra(a, k) _mm256_srai_epi32(a, k)
#define vi_srl(a, k) _mm256_srli_epi32(a, k)
VFN vi v_int(vf a) { return _mm256_cvtps_epi32(a); } /* rounds to nearest, ties to even */
VFN vf v_float(vi a) { return _mm256_cvtepi32_ps(a); }
VFN vi v_bits(vf a) { return _mm256_castps_si256(a); }
VFN vf v_of_bits(vi a) { return _mm256_castsi256_ps(a); }
VFN float v_sum(vf a) {
    __m128 s = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    s = _mm_add_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
}
VFN float v_peak(vf a) {
    __m128 s = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    s = _mm_max_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_max_ss(s, _mm_movehdup_ps(s)));
}
VFN vi v_load_u8(const uint8_t *p) { return _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)(const void *)p)); }
VFN vi v_load_s8(const int8_t *p) { return _mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)(const void *)p)); }
VFN void v_store_8(void *p, vi a) { /* the low byte of every lane */
    const __m256i pick = _mm256_setr_epi8(0, 4, 8, 12, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1,
                                          0, 4, 8, 12, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1);
    a = _mm256_shuffle_epi8(a, pick);
    _mm_storel_epi64((__m128i *)p, _mm_unpacklo_epi32(_mm256_castsi256_si128(a), _mm256_extracti128_si256(a, 1)));
}
VFN vi v_load_u16(const uint16_t *p) { return _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)(const void *)p)); }
VFN void v_store_16(uint16_t *p, vi a) { /* lanes hold 0..65535 */
    _mm_storeu_si128((__m128i *)(void *)p, _mm_packus_epi32(_mm256_castsi256_si128(a), _mm256_extracti128_si256(a, 1)));
}
VFN vf v_load_f16(const uint16_t *p) { return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(const void *)p)); }
VFN void v_store_f16(uint16_t *p, vf a) {
    _mm_storeu_si128((__m128i *)(void *)p, _mm256_cvtps_ph(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}

#elif MCC_IS_(MCC_SIMD) == 2
#include <immintrin.h>
typedef __m512 vf;
typedef __m512i vi;
typedef __mmask16 vm;
enum { VN = 16 };
VFN __mmask16 v_first_(size_t n) { return (__mmask16)((1u << n) - 1); }
VFN vf v_set(float a) { return _mm512_set1_ps(a); }
VFN vf v_load(const float *p) { return _mm512_loadu_ps(p); }
VFN void v_store(float *p, vf a) { _mm512_storeu_ps(p, a); }
VFN vf v_load_n(const float *p, size_t n) { return _mm512_maskz_loadu_ps(v_first_(n), p); }
VFN void v_store_n(float *p, vf a, size_t n) { _mm512_mask_storeu_ps(p, v_first_(n), a); }
VFN vf v_add(vf a, vf b) { return _mm512_add_ps(a, b); }
VFN vf v_sub(vf a, vf b) { return _mm512_sub_ps(a, b); }
VFN vf v_mul(vf a, vf b) { return _mm512_mul_ps(a, b); }
VFN vf v_div(vf a, vf b) { return _mm512_div_ps(a, b); }
VFN vf v_fma(vf a, vf b, vf c) { return _mm512_fmadd_ps(a, b, c); }
VFN vf v_min(vf a, vf b) { return _mm512_min_ps(a, b); }
VFN vf v_max(vf a, vf b) { return _mm512_max_ps(a, b); }
VFN vf v_sqrt(vf a) { return _mm512_sqrt_ps(a); }
VFN vf v_rint(vf a) { return _mm512_roundscale_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
VFN vf v_floor(vf a) { return _mm512_roundscale_ps(a, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC); }
VFN vf v_ceil(vf a) { return _mm512_roundscale_ps(a, _MM_FROUND_TO_POS_INF | _MM_FROUND_NO_EXC); }
VFN vm v_lt(vf a, vf b) { return _mm512_cmp_ps_mask(a, b, _CMP_LT_OQ); }
VFN vm v_le(vf a, vf b) { return _mm512_cmp_ps_mask(a, b, _CMP_LE_OQ); }
VFN vm v_eq(vf a, vf b) { return _mm512_cmp_ps_mask(a, b, _CMP_EQ_OQ); }
VFN vm v_nan(vf a) { return _mm512_cmp_ps_mask(a, a, _CMP_UNORD_Q); }
VFN vf v_sel(vm m, vf yes, vf no) { return _mm512_mask_blend_ps(m, no, yes); }
VFN int v_any(vm m) { return m != 0; }
VFN vi vi_set(int32_t a) { return _mm512_set1_epi32(a); }
VFN vi vi_add(vi a, vi b) { return _mm512_add_epi32(a, b); }
VFN vi vi_sub(vi a, vi b) { return _mm512_sub_epi32(a, b); }
VFN vi vi_and(vi a, vi b) { return _mm512_and_si512(a, b); }
VFN vi vi_or(vi a, vi b) { return _mm512_or_si512(a, b); }
#define vi_shl(a, k) _mm512_slli_epi32(a, k)
#define vi_sra(a, k) _mm512_srai_epi32(a, k)
#define vi_srl(a, k) _mm512_srli_epi32(a, k)
VFN vi v_int(vf a) { return _mm512_cvtps_epi32(a); }
VFN vf v_float(vi a) { return _mm512_cvtepi32_ps(a); }
VFN vi v_bits(vf a) { return _mm512_castps_si512(a); }
VFN vf v_of_bits(vi a) { return _mm512_castsi512_ps(a); }
VFN float v_sum(vf a) { return _mm512_reduce_add_ps(a); }
VFN float v_peak(vf a) { return _mm512_reduce_max_ps(a); }
VFN vi v_load_u8(const uint8_t *p) { return _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)(const void *)p)); }
VFN vi v_load_s8(const int8_t *p) { return _mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)(const void *)p)); }
VFN void v_store_8(void *p, vi a) { _mm_storeu_si128((__m128i *)p, _mm512_cvtepi32_epi8(a)); }
VFN vi v_load_u16(const uint16_t *p) { return _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)(const void *)p)); }
VFN void v_store_16(uint16_t *p, vi a) { _mm256_storeu_si256((__m256i *)(void *)p, _mm512_cvtepi32_epi16(a)); }
VFN vf v_load_f16(const uint16_t *p) { return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(const void *)p)); }
VFN void v_store_f16(uint16_t *p, vf a) {
    _mm256_storeu_si256((__m256i *)(void *)p, _mm512_cvtps_ph(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}

#elif MCC_IS_(MCC_SIMD) == 3
#include "neon.h"
typedef float32x4_t vf;
typedef int32x4_t vi;
typedef uint32x4_t vm;
enum { VN = 4 };
VFN vf v_set(float a) { return vdupq_n_f32(a); }
VFN vf v_load(const float *p) { return vld1q_f32(p); }
VFN void v_store(float *p, vf a) { vst1q_f32(p, a); }
/* Called, not copied: tails stand at the end of nearly every kernel. */
__attribute__((noinline, unused)) static vf v_load_n(const float *p, size_t n) {
    float t[4] = {0};
    for (size_t i = 0; i < n; i++) t[i] = p[i];
    return vld1q_f32(t);
}
__attribute__((noinline, unused)) static void v_store_n(float *p, vf a, size_t n) {
    float t[4];
    vst1q_f32(t, a);
    for (size_t i = 0; i < n; i++) p[i] = t[i];
}
VFN vf v_add(vf a, vf b) { return vaddq_f32(a, b); }
VFN vf v_sub(vf a, vf b) { return vsubq_f32(a, b); }
VFN vf v_mul(vf a, vf b) { return vmulq_f32(a, b); }
VFN vf v_div(vf a, vf b) { return vdivq_f32(a, b); }
VFN vf v_fma(vf a, vf b, vf c) { return vfmaq_f32(c, a, b); }
VFN vf v_min(vf a, vf b) { return vminq_f32(a, b); }
VFN vf v_max(vf a, vf b) { return vmaxq_f32(a, b); }
VFN vf v_sqrt(vf a) { return vsqrtq_f32(a); }
VFN vf v_rint(vf a) { return vrndnq_f32(a); }
VFN vf v_floor(vf a) { return vrndmq_f32(a); }
VFN vf v_ceil(vf a) { return vrndpq_f32(a); }
VFN vm v_lt(vf a, vf b) { return vcltq_f32(a, b); }
VFN vm v_le(vf a, vf b) { return vcleq_f32(a, b); }
VFN vm v_eq(vf a, vf b) { return vceqq_f32(a, b); }
VFN vm v_nan(vf a) { return vmvnq_u32(vceqq_f32(a, a)); }
VFN vf v_sel(vm m, vf yes, vf no) { return vbslq_f32(m, yes, no); }
VFN int v_any(vm m) { return vmaxvq_u32(m) != 0; }
VFN vi vi_set(int32_t a) { return vdupq_n_s32(a); }
/* Unsigned: both wrap around (v_neg counts on it), and gcc's arm_neon.h has the signed ones as plain + and - of C. */
VFN vi vi_add(vi a, vi b) { return vreinterpretq_s32_u32(vaddq_u32(vreinterpretq_u32_s32(a), vreinterpretq_u32_s32(b))); }
VFN vi vi_sub(vi a, vi b) { return vreinterpretq_s32_u32(vsubq_u32(vreinterpretq_u32_s32(a), vreinterpretq_u32_s32(b))); }
VFN vi vi_and(vi a, vi b) { return vandq_s32(a, b); }
VFN vi vi_or(vi a, vi b) { return vorrq_s32(a, b); }
#define vi_shl(a, k) vshlq_n_s32(a, k)
#define vi_sra(a, k) vshrq_n_s32(a, k)
#define vi_srl(a, k) vreinterpretq_s32_u32(vshrq_n_u32(vreinterpretq_u32_s32(a), k))
VFN vi v_int(vf a) { return vcvtnq_s32_f32(a); }
VFN vf v_float(vi a) { return vcvtq_f32_s32(a); }
VFN vi v_bits(vf a) { return vreinterpretq_s32_f32(a); }
VFN vf v_of_bits(vi a) { return vreinterpretq_f32_s32(a); }
VFN float v_sum(vf a) { return vaddvq_f32(a); }
VFN float v_peak(vf a) { return vmaxvq_f32(a); }
VFN uint8x8_t v_four_(const void *p) { uint32_t w; memcpy(&w, p, 4); return vcreate_u8(w); }
VFN vi v_load_u8(const uint8_t *p) { return vreinterpretq_s32_u32(vmovl_u16(vget_low_u16(vmovl_u8(v_four_(p))))); }
VFN vi v_load_s8(const int8_t *p) { return vmovl_s16(vget_low_s16(vmovl_s8(vreinterpret_s8_u8(v_four_(p))))); }
VFN void v_store_8(void *p, vi a) {
    const int16x4_t h = vmovn_s32(a);
    const int8x8_t b = vmovn_s16(vcombine_s16(h, h));
    const uint32_t w = vget_lane_u32(vreinterpret_u32_s8(b), 0);
    memcpy(p, &w, 4);
}
VFN vi v_load_u16(const uint16_t *p) { return vreinterpretq_s32_u32(vmovl_u16(vld1_u16(p))); }
VFN void v_store_16(uint16_t *p, vi a) { vst1_u16(p, vmovn_u32(vreinterpretq_u32_s32(a))); }
VFN vf v_load_f16(const uint16_t *p) { return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p))); }
VFN void v_store_f16(uint16_t *p, vf a) { vst1_u16(p, vreinterpret_u16_f16(vcvt_f16_f32(a))); }
#else
#error "define MCC_SIMD as avx512, avx2 or neon"
#endif

VFN vf v_abs(vf a) { return v_of_bits(vi_and(v_bits(a), vi_set(0x7FFFFFFF))); }
VFN vf v_sign_of(vf value, vf sign) { /* |value| with the sign of `sign` */
    return v_of_bits(vi_or(v_bits(v_abs(value)), vi_and(v_bits(sign), vi_set(INT32_MIN))));
}
/* a 2^n of integral n in -252..254; subnormal results are rounded once */
VFN vf v_scale(vf a, vf n) {
#if MCC_IS_(MCC_SIMD) == 2
    return _mm512_scalef_ps(a, n);
#else
    const vi i = v_int(n), half = vi_sra(i, 1), one = vi_set(127); /* in two steps: 2^n alone may be no float */
    const vf low = v_of_bits(vi_shl(vi_add(half, one), 23)), high = v_of_bits(vi_shl(vi_add(vi_sub(i, half), one), 23));
    return v_mul(v_mul(a, low), high);
#endif
}
VFN vf v_neg(vf a) { return v_of_bits(vi_sub(v_bits(a), vi_set(INT32_MIN))); }
#if defined(__aarch64__) /* FMIN and FMAX do that by themselves */
VFN vf v_minn(vf a, vf b) { return v_min(a, b); }
VFN vf v_maxn(vf a, vf b) { return v_max(a, b); }
#else
VFN vf v_minn(vf a, vf b) { return v_sel(v_nan(a), a, v_min(a, b)); }
VFN vf v_maxn(vf a, vf b) { return v_sel(v_nan(a), a, v_max(a, b)); }
#endif
VFN float v_top(vf a) { /* the largest lane; NaN when a lane is NaN */
    float t[VN];
    v_store(t, a);
    float m = t[0];
    for (int i = 1; i < VN; i++) m = t[i] > m || t[i] != t[i] ? t[i] : m;
    return m;
}
VFN float v_bottom(vf a) { return -v_top(v_neg(a)); }

#endif
