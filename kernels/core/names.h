/* names.h: names in tables stand in the table itself: a pointer to a string costs its eight bytes and, in a shared library, a
 * relocation of 24 more, to be done at every start. */
#ifndef MCC_CORE_NAMES_H
#define MCC_CORE_NAMES_H

typedef char mcc_name[36];    /* "eltwise_f32_thresholded_relu_avx512": of a kernel */
typedef char mcc_what[20];    /* "thresholded_relu": what a kernel of its family computes */

#endif
