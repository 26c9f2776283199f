/* file.h: the .mcc format, version 1, and its bounds-checked reader.
 *
 * Little-endian. `uv` is an unsigned LEB128 number of at most 10 bytes, `sv` a zigzag one
 * (n >= 0 -> 2n, n < 0 -> -2n - 1). A `ref` is uv: 0 = none, k = tensor k - 1. A `str` is uv: string number.
 *
 *   header, 24 bytes + 24 per section
 *      0  u8[4]  'M' 'C' 'C' 0x1A
 *      4  u32    version, 1
 *      8  u64    bytes of the whole file
 *     16  u32    sections
 *     20  u32    CRC-32 (zlib) of the header and section table, with this field 0
 *     24  per section: u32 kind, u32 CRC-32 of its bytes, u64 offset, u64 bytes
 *   section kinds: 1 graph (required), 2 data (required), 3 note (JSON, UTF-8; optional), 4 packed weights
 *   (optional), 5 choices (optional), each at most once. Unknown kinds are skipped. At most 64 sections; they lie behind the table, do not overlap, and every byte of the file outside of them is zero.
 *
 *   graph: strings  uv count (>= 1; string 0 is ""), each: uv length, well-formed UTF-8 (RFC 3629: no overlong
 *                     forms, no surrogates) without NUL
 *          tensors  uv count, each: str name, u8 type, u8 kind, uv rank (<= 8), uv dim...
 *                     kind 0 activation: uv offset / 64 in the arena
 *                     kind 1 constant:   u8 storage, uv offset in the data section, uv bytes
 *                     kind 2 slice:      uv tensor (an activation listed before it), uv first index along the last axis
 *          inputs   uv count, each: uv tensor (an activation)
 *          outputs  uv count, each: uv tensor (any)
 *          nodes    uv count, each: str op, str name, uv inputs, ref..., uv outputs, uv tensor...,
 *                     uv attributes, each: str key, u8 kind, value
 *                     kind 0 int: sv; 1 float: f32; 2 string: str; 3 ints: uv n, sv...; 4 floats: uv n, f32...
 *          arena    uv bytes (a multiple of 64)
 *          Every tensor a node reads is a constant, an input, or an output of an earlier node; a tensor gets its
 *          value once. An output may take exactly the place of an input of its node (begin where it begins), but
 *          not overlap it partly; outputs of one node lie apart. A slice is a part of its tensor along the last axis,
 *          of one type and otherwise one shape with it; it is made by one node and read by one concat, into that very
 *          tensor at that very place, and is neither input nor output. Activations lie inside the arena; the arena and
 *          every tensor have at most 2^34 bytes. Ends exactly at the section's end.
 *
 *   data: the constants' blobs, by storage:
 *     0 RAW      the values, row-major. Blobs of 64 bytes or more start at multiples of 64 in the *file*
 *                (the data section itself starts at one), smaller ones at multiples of their element size.
 *     1 PALETTE  u8 bits (1..8), u8 coder, u16 groups, u16 entries (<= 1 << bits), u16 zero,
 *                groups * entries values of the tensor's type, then the indices, one per element:
 *                  coder 0: packed little-endian at `bits` bits; coder 1: a rANS stream (core/coder.h)
 *     2 BITMASK  u8 mask coder, u8 value coder (0), u16 zero, u32 nonzeros, u32 bytes of the mask stream,
 *                the mask (one bit per element, packed like indices of 1 bit, or a rANS stream of 0/1),
 *                then the nonzero values in order (unaligned)
 *     3 CODED    a rANS stream of the bytes of the RAW form (8-bit types only)
 *     4 QUANTIZED (float32 only) u8 bits (1..8), u8 coder, u8 flags (1: zero points, 2: float16 scales), u8 per (0 tensor,
 *                1 index of axis 0, 2 block), u32 block (elements of the last axis; 0 unless per 2), the scales, float32 or
 *                float16, in the order of the elements (the last block of a row may be short), with flag 1 as many u8 zero
 *                points (else all are 1 << (bits - 1)), then the codes, one per element, below 1 << bits, like the
 *                indices of a palette. A value is (code - zero) * scale, in float32.
 *     5 HASHED   (floats and int8) u32 seed, u32 base, u32 buckets (4, 8... 2^28), u8 storage of the buckets (0..4),
 *                u8 flags (1: a mask), u8 number of the axis that goes by fours, at most one (255: none), u8 zero, per axis u8
 *                number, u8 width (0, 4) and, with a width, the indices that it has of that axis, unsigned of so many bytes
 *                (else 0, 1, 2...); with flag 1 u32 coder, u32 bytes, one bit per element like the mask of BITMASK, 0 where the
 *                element is 0; then the blob of a tensor [buckets] of this type. An element is a bucket or its negative:
 *                core/hash.h says which, by seed, the axes' numbers and indices, and base, which is xored to the keys.
 *     A constant that is not RAW expands at most 4096 times plus 64 MiB, so that a small file cannot ask for
 *     much memory: dense bytes / 4096, rounded down, <= blob bytes + 16384.
 *
 *   choices: kernels that were the fastest on one machine, for it alone. Whoever has other values in the first three words, or another
 *   CPU, does as if the section were not there.
 *           u32 ISA bits of the CPU (core/isa.h), u32 CRC-32 of the names of all micro-kernels of the engine, each with its NUL, u32
 *           CRC-32 of the graph section, u32 count, the name of the CPU (core/cpu.h), then count times: u32 node, the name of the
 *           kernel. Names are UTF-8 and end with a NUL.
 *
 *   packed: weights as the kernels of one machine read them, so that opening is a map. Whoever has another key does as if
 *   the section were not there; nothing is lost, since the data section has all the constants.
 *     key     u32 packing version, u32 ISA bits of the CPU (core/isa.h), u32 CRC-32 of the names of all micro-kernels of
 *             the engine, each with its NUL and a byte that is 1 when mcc_limit_kernel asked for it, u32 CRC-32 of the graph
 *             section, u32 of the data section, u32 CRC-32 of
 *             the choices section that is in use, or 0
 *     blocks  u32 count, u32 0, each: u64 offset in this section, u64 bytes. In the order in which the nodes ask for them
 *             (mcc_net_pack). A block begins at a multiple of 64 in the *file*, and 64 zero bytes follow it.
 */
#ifndef MCC_CORE_FILE_H
#define MCC_CORE_FILE_H

#include "net.h"

#define MCC_FILE_VERSION 1

enum { MCC_SECTION_GRAPH = 1, MCC_SECTION_DATA = 2, MCC_SECTION_NOTE = 3, MCC_SECTION_PACKED = 4, MCC_SECTION_CHOICES = 5 };
enum { MCC_ATTR_INT, MCC_ATTR_FLOAT, MCC_ATTR_STRING, MCC_ATTR_INTS, MCC_ATTR_FLOATS };

struct mcc_attr {
    const char *key;
    uint32_t kind, count;
    union { int64_t i; float f; const char *s; const int64_t *is; const float *fs; } v;
};

#endif
