/* check.h: the kernel checker's harness. A family adds check_<family>.c with `void check_<family>(void)` and
 * one line in families.def. The function walks the family's own table:
 *
 *     for each kernel of the table:
 *         if (!check_can(kernel->name, kernel->isa)) continue;      // prints skip
 *         for each case (all tile sizes, tails, extremes):
 *             make inputs and outputs with check_alloc, fill them, run kernel and the direct sum of the test
 *             if (differs) { check_fail(kernel->name, "m=%zu n=%zu: %d, want %d", ...); break; }
 *         check_ok(kernel->name, cases);                            // does nothing after check_fail
 *
 * Memory from check_alloc lies between guard bytes; check_ok and check_free_all look whether they were touched. */
#ifndef CHECK_H
#define CHECK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* --- results ----------------------------------------------------------------------------------- */

/* Begins the check of a kernel: a signal from here on is reported as its failure.
 * False, after printing `skip <name>`, when this CPU (under the current limit) lacks one of `isa`'s bits. */
bool check_can(const char *name, uint32_t isa);
void check_skip(const char *name, const char *why);
/* Counts and prints one kernel as passed, unless it has failed already or a guard byte was touched. Frees all. */
void check_ok(const char *name, size_t cases);
void check_fail(const char *name, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Has the kernel that is being checked failed? Loops stop on it. */
bool check_failed(void);

/* --- memory ------------------------------------------------------------------------------------ */

/* `bytes` bytes, 64-byte aligned, filled with a pattern that is not zero, guards on both sides. */
void *check_alloc(size_t bytes);
/* The same, its end right at a page that must not be touched (a guard page where the system has them), so that reading
 * past the end is caught as well. Aligned to 1 byte only. */
void *check_alloc_end(size_t bytes);
/* Frees all of the above; reports touched guards as a failure of `name`. */
void check_free_all(const char *name);

/* --- random numbers (seeded: printed first, given as the program's argument to repeat a run) ------ */

uint32_t check_u32(void);
int check_int(int lo, int hi); /* both included */
float check_normal(void);
/* Every fourth array is adversarial: all lowest, all highest, alternating, zeros. */
void check_fill_s8(int8_t *out, size_t count);
void check_fill_u8(uint8_t *out, size_t count);
void check_fill_s32(int32_t *out, size_t count, int32_t limit); /* within -limit..limit */
void check_fill_f32(float *out, size_t count);                  /* normal; or zeros, large, tiny, mixed signs */

void check_fill_f16(uint16_t *out, size_t count);               /* the same within what sums of float16 hold */

/* Elements of float32 (elem 4) or float16 (elem 2): memory with guards, filled; element i; and how far a sum of `depth` products
 * whose magnitudes add up to `size` may be off. */
void *check_some(size_t elem, size_t count);
double check_at(size_t elem, const void *p, size_t i);
double check_slack(size_t elem, size_t depth, double size);

/* |got - want| <= tolerance * (|want| + scale), and NaN and infinities only where wanted. */
bool check_close(float got, float want, float tolerance, float scale);

/* --- nets made in memory (build.c), to check op runners and hostile files ------------------------- */

#include "../../kernels/mcc.h"

typedef struct builder builder;
builder *build_new(void);
/* Tensors: return their number. Activations get places of their own; constants are copied, RAW. */
int build_activation(builder *b, mcc_type type, unsigned rank, const size_t *dim);
int build_constant(builder *b, mcc_type type, unsigned rank, const size_t *dim, const void *values);
/* A constant with its storage and blob given. */
int build_blob(builder *b, mcc_type type, unsigned rank, const size_t *dim, mcc_storage storage, const void *blob, size_t bytes);
void build_input(builder *b, int tensor);
void build_output(builder *b, int tensor);
/* Begins a node; build_in (-1 = absent) and build_attr_* add to the last one. */
void build_node(builder *b, const char *op);
void build_in(builder *b, int tensor);
void build_out(builder *b, int tensor);
void build_attr_int(builder *b, const char *key, int64_t value);
void build_attr_float(builder *b, const char *key, float value);
void build_attr_string(builder *b, const char *key, const char *value);
void build_attr_ints(builder *b, const char *key, size_t count, const int64_t *values);
/* The file's bytes, aligned for mcc_open_memory, until build_free. */
const void *build_file(builder *b, size_t *bytes);
void build_free(builder *b);
/* Rewrites the checksums (of a changed copy), so that the parser behind them is reached. */
void build_checksums(uint8_t *file, size_t bytes);

#endif
