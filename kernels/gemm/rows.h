/* rows.h: GEMM_ROWS(n, X) is X(0) X(1) ... X(n - 1). Accumulators get names of their own this way: kept in arrays,
 * gcc 12 spills them on arm64. */
#ifndef MCC_GEMM_ROWS_H
#define MCC_GEMM_ROWS_H

#define GEMM_ROWS(n, X) GEMM_ROWS_##n(X)
#define GEMM_ROWS_1(X) X(0)
#define GEMM_ROWS_2(X) GEMM_ROWS_1(X) X(1)
#define GEMM_ROWS_3(X) GEMM_ROWS_2(X) X(2)
#define GEMM_ROWS_4(X) GEMM_ROWS_3(X) X(3)
#define GEMM_ROWS_5(X) GEMM_ROWS_4(X) X(4)
#define GEMM_ROWS_6(X) GEMM_ROWS_5(X) X(5)
#define GEMM_ROWS_7(X) GEMM_ROWS_6(X) X(6)
#define GEMM_ROWS_8(X) GEMM_ROWS_7(X) X(7)
#define GEMM_ROWS_9(X) GEMM_ROWS_8(X) X(8)
#define GEMM_ROWS_10(X) GEMM_ROWS_9(X) X(9)
#define GEMM_ROWS_11(X) GEMM_ROWS_10(X) X(10)
#define GEMM_ROWS_12(X) GEMM_ROWS_11(X) X(11)
#define GEMM_ROWS_13(X) GEMM_ROWS_12(X) X(12)
#define GEMM_ROWS_14(X) GEMM_ROWS_13(X) X(13)

#endif
