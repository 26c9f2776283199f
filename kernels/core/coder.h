/* coder.h: rANS over small symbols (Duda, arXiv 1311.2540), static frequencies, interleaved lanes.
 *
 * A stream:
 *   u8  log2 of lanes (0..6)         u8  scale, the frequencies add up to 1 << scale (8..14)
 *   u16 symbols (1..256)             u32 bytes of the whole stream, these 8 included
 *   frequencies: uv each (0 = does not occur), one per symbol
 *   states: lanes * u32, lane 0 first
 *   words: u16 each, in the order in which the decoder takes them
 * Symbol i belongs to lane i % lanes. Decoding symbol i with state x of its lane:
 *   slot = x & ((1 << scale) - 1); s = the symbol whose range holds slot
 *   x = freq[s] * (x >> scale) + slot - start[s];  if (x < 1 << 16) x = x << 16 | next word
 * All lanes end at 1 << 16 and all words are used, or the stream is damaged. */
#ifndef MCC_CORE_CODER_H
#define MCC_CORE_CODER_H

#include <stddef.h>
#include <stdint.h>

/* Decodes `count` symbols into `out` (one byte each). Returns the stream's length in bytes, or 0 when it is
 * damaged or does not end within `size`. */
size_t mcc_rans_decode(const uint8_t *stream, size_t size, uint8_t *out, size_t count);

#endif
