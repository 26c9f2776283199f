/* neon_pieces.h: 1 to 8 vectors of rows that follow each other, by as few loads as there can be. NEON_PIECES(C, c, p) takes C vectors from p;
 * before: LOAD(n), which loads n vectors of LANE_STEP elements, as VECTORS(n); and USE(i, x, c), what becomes of vector i. */
#ifndef MCC_NEON_PIECES_H
#define MCC_NEON_PIECES_H

#define NEON_ONE(i, c, p) USE(i, LOAD(1)(p), c)
#define NEON_TWO(i, j, c, p) { const VECTORS(2) t = LOAD(2)(p); USE(i, t.val[0], c) USE(j, t.val[1], c) }
#define NEON_FOUR(i, j, k, l, c, p) \
    { const VECTORS(4) t = LOAD(4)(p); USE(i, t.val[0], c) USE(j, t.val[1], c) USE(k, t.val[2], c) USE(l, t.val[3], c) }
#define NEON_PIECES_1(c, p) NEON_ONE(0, c, p)
#define NEON_PIECES_2(c, p) NEON_TWO(0, 1, c, p)
#define NEON_PIECES_3(c, p) NEON_TWO(0, 1, c, p) NEON_ONE(2, c, p + 2 * LANE_STEP)
#define NEON_PIECES_4(c, p) NEON_FOUR(0, 1, 2, 3, c, p)
#define NEON_PIECES_5(c, p) NEON_PIECES_4(c, p) NEON_ONE(4, c, p + 4 * LANE_STEP)
#define NEON_PIECES_6(c, p) NEON_PIECES_4(c, p) NEON_TWO(4, 5, c, p + 4 * LANE_STEP)
#define NEON_PIECES_7(c, p) NEON_PIECES_6(c, p) NEON_ONE(6, c, p + 6 * LANE_STEP)
#define NEON_PIECES_8(c, p) NEON_PIECES_4(c, p) NEON_FOUR(4, 5, 6, 7, c, p + 4 * LANE_STEP)
#define NEON_PIECES(C, c, p) NEON_PIECES_##C(c, p)

#endif
