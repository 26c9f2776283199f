/* qtable_neon.c: look-ups by TBL and TBX, 64 entries each; an index that is not among them changes nothing. */
#if defined(__aarch64__)
#include "../core/neon.h"

#include "qtable.h"

void mcc_qtable_s8_neon(size_t n, const int8_t *x, int8_t *y, const int8_t *table) {
    const int8x16x4_t t0 = vld1q_s8_x4(table), t1 = vld1q_s8_x4(table + 64);
    const int8x16x4_t t2 = vld1q_s8_x4(table + 128), t3 = vld1q_s8_x4(table + 192);
    const uint8x16_t next = vdupq_n_u8(64);
    size_t i = 0;
    for (; i + 16 <= n; i += 16) {
        uint8x16_t at = veorq_u8(vreinterpretq_u8_s8(vld1q_s8(x + i)), vdupq_n_u8(0x80));
        int8x16_t v = vqtbl4q_s8(t0, at);
        v = vqtbx4q_s8(v, t1, at = vsubq_u8(at, next));
        v = vqtbx4q_s8(v, t2, at = vsubq_u8(at, next));
        vst1q_s8(y + i, vqtbx4q_s8(v, t3, vsubq_u8(at, next)));
    }
    for (; i < n; i++) y[i] = table[x[i] + 128];
}
#endif
