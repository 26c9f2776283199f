"""What an AArch64 instruction word does, as far as counting and cycle models want to know: class, unit, registers, bytes.

Encodings are those of the Arm Architecture Reference Manual (DDI 0487, C4). Registers are numbers: x0..x30 are 0..30,
v0..v31 are 32..63, the flags 64; register 31 of the integer file (zero or stack pointer) makes no dependence that matters.
"""
from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import NamedTuple

FLAGS = 64
# What people are told. "widen": integer multiplies of vectors, with and without accumulation (SMULL, SMLAL, MLA, MUL).
CLASSES = ("fmla", "dot", "mmla", "widen", "vector", "load", "store", "branch", "other")

# (mask, bits) -> class, the first that fits; what is a vector instruction and none of these is "vector".
MULTIPLIES = (
    (0xBF20FC00, 0x0E20CC00, "fmla"),    # FMLA, FMLS vector, single and double
    (0xBF60FC00, 0x0E400C00, "fmla"),    # half
    (0xBF80B400, 0x0F801000, "fmla"),    # by element, single and double
    (0xBFC0B400, 0x0F001000, "fmla"),    # half
    (0xFF000000, 0x1F000000, "fmla"),    # FMADD and its kin, scalar
    (0xBF60FC00, 0x0E20EC00, "fmla"),    # FMLAL, FMLSL
    (0xBF60FC00, 0x2E20CC00, "fmla"),    # FMLAL2, FMLSL2
    (0x9FE0F400, 0x0E809400, "dot"),     # SDOT, UDOT, USDOT
    (0x9FC0F400, 0x0F80E000, "dot"),     # by element
    (0xBF40F400, 0x0F00F000, "dot"),     # USDOT, SUDOT by element
    (0xFFE0FC00, 0x2E40FC00, "dot"),     # BFDOT, 64 and 128 bits
    (0xFFE0FC00, 0x6E40FC00, "dot"),
    (0xBFC0F400, 0x0F40F000, "dot"),     # BFDOT by element
    (0xDFE0F400, 0x4E80A400, "mmla"),    # SMMLA, UMMLA, USMMLA
    (0xFFE0FC00, 0x6E40EC00, "mmla"),    # BFMMLA
    (0x9F20DC00, 0x0E208000, "widen"),   # SMLAL, UMLAL, SMLSL, UMLSL: three different, opcode 10x0
    (0x9F20FC00, 0x0E20A000, "widen"),
    (0x9F20FC00, 0x0E20C000, "widen"),   # SMULL, UMULL
    (0x9F00B400, 0x0F002000, "widen"),   # by element
    (0x9F00F400, 0x0F00A000, "widen"),
    (0x9F20F400, 0x0E209400, "widen"),   # MLA, MLS, MUL of integers
    (0xBF00B400, 0x2F000000, "widen"),   # MLA, MLS by element
    (0xBF00F400, 0x0F008000, "widen"),   # MUL by element
)


class Op(NamedTuple):
    """unit: vector, load, store, branch, integer; wide: 128 bits; bytes: moved by a load or store; defines, uses: registers;
    base: the register that a load or store writes back, or -1; slow: a multiplier or another long path."""

    kind: str
    unit: str
    wide: bool
    bytes: int
    vector: bool
    defines: tuple[int, ...]
    uses: tuple[int, ...]
    base: int
    slow: bool


@functools.cache
def decode(word: int) -> Op:
    group = word >> 25 & 15
    if group & 5 == 4:
        return _memory(word)
    if group & 14 == 10:
        return _branch(word)
    if group & 7 == 7:
        return _vector(word)
    return _integer(word)


def loops(block: Sequence[int]) -> bool:
    """It ends in a jump to its own start."""
    word, back = block[-1], 4 * (1 - len(block))
    if word & 0x7C000000 == 0x14000000:  # B, BL
        return _signed(word, 0, 26) == back
    if word & 0xFF000010 == 0x54000000 or word & 0x7E000000 == 0x34000000:  # B.cond, CBZ, CBNZ
        return _signed(word, 5, 19) == back
    return word & 0x7E000000 == 0x36000000 and _signed(word, 5, 14) == back  # TBZ, TBNZ


def _signed(word: int, low: int, bits: int) -> int:
    """An offset in words, as bytes."""
    value = word >> low & (1 << bits) - 1
    return 4 * (value - (value >> bits - 1 << bits))


def kind(word: int) -> str:
    """The class of CLASSES."""
    return decode(word).kind


def _fields(word: int) -> tuple[int, int, int, int]:
    """Rd, Rn, Rm, Ra: they stand at the same bits everywhere."""
    return word & 31, word >> 5 & 31, word >> 16 & 31, word >> 10 & 31


def _branch(word: int) -> Op:
    if word & 0xFF000000 == 0xD5000000:  # hints, barriers, system registers
        return Op("other", "integer", False, 0, False, (word & 31,) if word & 0x00200000 else (), (), -1, False)
    conditional = word & 0xFF000010 == 0x54000000
    tested = word & 0x7C000000 == 0x34000000  # CBZ, CBNZ, TBZ, TBNZ
    through = word & 0xFE000000 == 0xD6000000  # BR, BLR, RET
    uses = (FLAGS,) if conditional else (word & 31,) if tested else (word >> 5 & 31,) if through else ()
    return Op("branch", "branch", False, 0, False, (), uses, -1, False)


def _integer(word: int) -> Op:
    d, n, m, a = _fields(word)
    if word & 0x1C000000 == 0x10000000:  # immediate
        wide_move, address = word & 0x1F800000 == 0x12800000, word & 0x1F000000 == 0x10000000
        uses = () if address else (d,) if wide_move and word & 0x60000000 == 0x60000000 else () if wide_move else (n,)
        sets = word & 0x3F000000 == 0x31000000 or word & 0x7F800000 == 0x72000000  # ADDS, SUBS, ANDS
        return Op("other", "integer", False, 0, False, (d, FLAGS) if sets else (d,), uses, -1, False)
    return _registers(word, d, n, m, a)


def _registers(word: int, d: int, n: int, m: int, a: int) -> Op:
    multiplies = word & 0x1F000000 == 0x1B000000
    divides = word & 0x5FE0F800 == 0x1AC00800
    compares = word & 0x3FE00400 in (0x3A400000, 0x3A400400, 0x3A400800, 0x3A400C00)
    sets = word & 0x3F000000 == 0x2B000000 or word & 0x7F000000 == 0x6A000000 or word & 0x3FE00000 == 0x3A400000
    selects = word & 0x1FE00000 == 0x1A800000
    uses = (n, m, a) if multiplies else (n, m, FLAGS) if selects or compares else (n, m)
    return Op("other", "integer", False, 0, False, (d, FLAGS) if sets else (d,), uses, -1, multiplies or divides)


def _memory(word: int) -> Op:
    t, n, m, t2 = _fields(word)
    vector = bool(word >> 26 & 1)
    high, q = word >> 30 & 3, word >> 30 & 1
    shape = word >> 24 & 0x3F
    file = 32 if vector else 0
    if shape in (0x0C, 0x0D):  # LD1..LD4, ST1..ST4: whole registers, or a lane of them
        return _structure(word, t, n, m, q)
    if shape & 0x3B == 0x18:  # literal
        return Op("load", "load", vector and high == 2, 4 << min(high, 2) if vector else 8, vector, (file + t,), (), -1, False)
    if shape & 0x38 == 0x28:  # pairs
        loads, size = word >> 22 & 1, (4 << high) if vector else (8 if high & 2 else 4)
        back = n if word >> 23 & 1 else -1
        return _moved(loads, vector, size == 16, 2 * size, (file + t, file + t2), (n,), back)
    if shape & 0x3B == 0x38:
        opc = word >> 22 & 3
        size = 16 if vector and opc & 2 else 1 << high
        loads = bool(opc & 1) if vector else opc != 0
        by_register, indexed = word >> 21 & 1, not word >> 21 & 1 and word >> 10 & 1
        back = n if indexed else -1
        prefetch = not vector and high == 3 and opc == 2
        return _moved(loads, vector, size == 16, 0 if prefetch else size, () if prefetch else (file + t,),
                      (n, m) if by_register else (n,), back)
    if shape & 0x3B == 0x39:  # unsigned offset
        opc = word >> 22 & 3
        size = 16 if vector and opc & 2 else 1 << high
        prefetch = not vector and high == 3 and opc == 2
        return _moved(bool(opc & 1) if vector else opc != 0, vector, size == 16, 0 if prefetch else size,
                      () if prefetch else (file + t,), (n,), -1)
    return _moved(bool(word >> 22 & 1), False, False, 8, (t,), (n,), -1)  # exclusive and ordered


def _structure(word: int, t: int, n: int, m: int, q: int) -> Op:
    loads, back, opcode = word >> 22 & 1, n if word >> 23 & 1 else -1, word >> 12 & 15
    if word >> 24 & 1:  # a lane of each, or the same value in every lane
        count = ((word >> 13 & 1) << 1 | (word >> 21 & 1)) + 1
        size = 1 << min(opcode >> 2, 2) if opcode >> 2 < 3 else 1 << (word >> 10 & 3)
        lanes = opcode >> 2 < 3
        registers = tuple(32 + (t + i) % 32 for i in range(count))
        uses = (n, *((registers) if lanes and loads else ()))
        return _moved(loads, True, False, size * count, registers, uses, back)
    count = {0: 4, 2: 4, 4: 3, 6: 3, 7: 1, 8: 2, 10: 2}.get(opcode, 1)
    uses = (n, m) if back >= 0 and m != 31 else (n,)
    return _moved(loads, True, bool(q), count * (16 if q else 8), tuple(32 + (t + i) % 32 for i in range(count)), uses, back)


def _moved(loads, vector: bool, wide: bool, size: int, data: tuple[int, ...], uses: tuple[int, ...], back: int) -> Op:
    if loads:
        return Op("load", "load", wide, size, vector, data, uses, back, False)
    return Op("store", "store", wide, size, vector, (), (*uses, *data), back, False)


def _vector(word: int) -> Op:
    d, n, m, a = _fields(word)
    found = next((name for mask, bits, name in MULTIPLIES if word & mask == bits), "vector")
    scalar = word >> 28 & 1
    wide = bool(word >> 30 & 1) and not scalar or found == "mmla"
    if word & 0x5F200000 == 0x1E200000:  # scalar floating point, conversions, moves to and from integers
        return _scalar(word, d, n, m)
    if word & 0xFF000000 == 0x1F000000:
        return Op(found, "vector", False, 0, True, (32 + d,), (32 + n, 32 + m, 32 + a), -1, True)
    if word & 0x9FE08400 == 0x0E000400:  # DUP, INS, SMOV, UMOV
        opcode = word >> 11 & 15
        if word & 0x20000000:  # INS of an element
            return Op("vector", "vector", False, 0, True, (32 + d,), (32 + n, 32 + d), -1, False)
        if opcode in (5, 7):  # SMOV, UMOV
            return Op("vector", "vector", False, 0, True, (d,), (32 + n,), -1, False)
        if opcode == 3:
            return Op("vector", "vector", False, 0, True, (32 + d,), (n, 32 + d), -1, False)
        return Op("vector", "vector", wide, 0, True, (32 + d,), (n if opcode == 1 else 32 + n,), -1, False)
    accumulates = found in ("fmla", "dot", "mmla") or found == "widen" and not _multiplies_only(word)
    immediate = word & 0x9FF80400 == 0x0F000400
    two = word & 0x9F3E0C00 == 0x0E200800
    # The narrowing and widening ones make or take 128 bits whatever Q says.
    three_different = word & 0x9F200C00 == 0x0E200000
    uses = () if immediate else (32 + n,) if two else (32 + n, 32 + m)
    if accumulates or word & 0xBF20FC00 == 0x2E201C00:  # BSL, BIT, BIF read what they write
        uses = (*uses, 32 + d)
    slow = found != "vector" or _floats(word)
    return Op(found, "vector", wide or three_different, 0, True, (32 + d,), uses, -1, slow)


def _multiplies_only(word: int) -> bool:
    """SMULL, UMULL, MUL: no accumulator."""
    return (word & 0x9F20FC00 == 0x0E20C000 or word & 0x9F00F400 in (0x0F00A000, 0x0F008000)
            or word & 0xBF20FC00 == 0x0E209C00)


def _floats(word: int) -> bool:
    """Floating-point arithmetic and integer saturating multiplies: the long pipeline."""
    three_same = word & 0x9F200400 == 0x0E200400 and (word >> 11 & 31) >= 0x18
    doubling = word & 0x9F20FC00 == 0x0E20B400
    by_element = word & 0x9F00F400 in (0x0F009000, 0x0F00C000, 0x0F00D000)
    converts = word & 0x9F3E0C00 == 0x0E200800 and (word >> 12 & 31) >= 0x16
    return three_same or doubling or by_element or converts


def _scalar(word: int, d: int, n: int, m: int) -> Op:
    converts = word & 0x5F20FC00 == 0x1E200000
    if converts:  # between the files: FMOV, SCVTF, FCVTNS ...
        to_vector = word >> 16 & 7 in (2, 3, 7) or (word >> 16 & 31) in (2, 3, 7, 15)
        to_integer = not to_vector
        return Op("vector", "vector", False, 0, True, (d if to_integer else 32 + d,), (32 + n if to_integer else n,), -1, True)
    compares = word & 0x5F203C00 == 0x1E202000 or word & 0x5F200C00 == 0x1E200400
    if compares:
        return Op("vector", "vector", False, 0, True, (FLAGS,), (32 + n, 32 + m), -1, False)
    one = word & 0x5F207C00 == 0x1E204000
    selects = word & 0x5F200C00 == 0x1E200C00
    uses = (32 + n,) if one else (32 + n, 32 + m, FLAGS) if selects else (32 + n, 32 + m)
    return Op("vector", "vector", False, 0, True, (32 + d,), uses, -1, not selects)
