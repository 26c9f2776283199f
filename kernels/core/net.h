/* net.h: what an op runner sees. A net is tensors and nodes in running order.
 *
 * The life of a node:
 *   prepare  once, at open. Checks EVERYTHING the runner will rely on (counts of inputs and outputs,
 *            dtypes, ranks, shapes, attributes, constants): the file may be hostile, and a status is the
 *            only answer. Picks a kernel, packs weights into `node->state` (mcc_net_alloc), asks for
 *            workspace. The state is immutable afterwards and shared by clones, so it holds no pointer
 *            to an activation.
 *   run      any number of times. No allocation, no failure, no checks.
 * Values are contiguous, row-major, but for slices: an activation that lies inside another along the last axis, so that a
 * concat has nothing to copy. Only concat reads slices. A runner that can write one says so (node->writes_slice); what
 * another makes is moved to a place of its own when the net opens, and concat copies it.
 * Images are NHWC in the nhwc_* ops; every other op takes what it gets. */
#ifndef MCC_CORE_NET_H
#define MCC_CORE_NET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "../mcc.h"
#include "names.h"

#define MCC_MAX_RANK 8
#define MCC_MAX_THREADS 64

typedef struct mcc_tensor {
    const char *name;            /* "" when the file keeps none */
    mcc_type type;
    uint32_t rank;
    size_t dim[MCC_MAX_RANK];
    size_t count;                /* product of dim; 1 for a scalar; 0 is legal */
    size_t bytes;                /* count * size of type */
    bool constant;
    bool slice;                  /* an activation inside another one, see above */
    mcc_storage storage;         /* of a constant; MCC_RAW for activations */
    const uint8_t *blob;         /* a constant's bytes in the file, and how many */
    size_t blob_bytes;
    size_t offset;               /* an activation's place in the arena */
    size_t pitch;                /* elements from one row (last axis) to the next: more than a row in a slice */
    void *data;                  /* activation: arena + offset. constant: dense values, or NULL before
                                  * mcc_dense made them (RAW constants have it from the start) */
} mcc_tensor;

typedef struct mcc_attr mcc_attr;
typedef struct mcc_node mcc_node;
typedef struct mcc_exec mcc_exec; /* one run: thread pool and workspace */

typedef struct mcc_op {
    const char *name;
    mcc_status (*prepare)(mcc_net *net, mcc_node *node);
    void (*run)(const mcc_node *node, mcc_exec *exec);
} mcc_op;

struct mcc_node {
    mcc_op op;
    const char *name;
    uint32_t inputs, outputs, attrs;
    mcc_tensor **in;             /* an absent optional input is NULL; all outputs are there */
    mcc_tensor **out;
    const mcc_attr *attr;
    void *state;                 /* made by prepare; freed with the net */
    const char *kernel;          /* the micro-kernel's name, for profiles; a static string, or NULL */
    uint64_t macs;               /* multiply-accumulates of one run that are really done, for profiles */
    bool writes_slice;           /* `run` keeps to out[0]->pitch */
    size_t workspace;            /* bytes that `run` may use through mcc_workspace, and */
    size_t workspace_each;       /* through mcc_workspace_each, this many times the number of threads */
};

/* --- for prepare ------------------------------------------------------------------------------- */

/* Zeroed, 64-byte aligned memory that lives as long as the net; NULL when there is none. */
void *mcc_net_alloc(mcc_net *net, size_t bytes);

/* The same for packed weights: when the file carries them as this machine packs them, they are there already, `*ready` is
 * true and the memory is read-only; otherwise the caller fills it. Only for numbers that a kernel may trust whatever they
 * are, since the file may be hostile: no indices, no sizes, no pointers. How many bytes are asked for, and in which order,
 * depends on the graph, the engine and the CPU only. */
void *mcc_net_pack(mcc_net *net, size_t bytes, bool *ready);

/* Refuse: records `text` (static, says what is wrong: "conv: weight has 3 channels per group, input 4")
 * with the node's name, and returns MCC_BAD_GRAPH. */
mcc_status mcc_refuse(mcc_net *net, const mcc_node *node, const char *text);
/* MCC_TRY(x): return the status of x unless it is MCC_OK. MCC_NEED(cond, "text"): refuse unless cond. */
#define MCC_TRY(x) do { mcc_status mcc_s_ = (x); if (mcc_s_ != MCC_OK) return mcc_s_; } while (0)
#define MCC_NEED(cond, text) do { if (!(cond)) return mcc_refuse(net, node, text); } while (0)

/* Attributes by key. A missing one gives the fallback; one of another kind likewise (an int serves as a float). */
int64_t mcc_int(const mcc_node *node, const char *key, int64_t fallback);
float mcc_float(const mcc_node *node, const char *key, float fallback);
const char *mcc_string(const mcc_node *node, const char *key, const char *fallback);
/* Lists: the values and their count; NULL and 0 when missing. A single int or float is a list of one. */
const int64_t *mcc_ints(const mcc_node *node, const char *key, size_t *count);
const float *mcc_floats(const mcc_node *node, const char *key, size_t *count);

/* The attributes whose keys begin with `prefix`, without it, for a node that is a part of this one. False: no memory. */
bool mcc_attr_part(mcc_net *net, const mcc_node *node, const char *prefix, mcc_node *part);

/* A constant's dense values (decoded on first call and kept); tensor->data is set too. NULL and a
 * status through *status (MCC_BAD_FILE, MCC_NO_MEMORY) when the blob is not well formed. */
const void *mcc_dense(mcc_net *net, mcc_tensor *constant, mcc_status *status);
/* The same for a weight that prepare packs and `run` never reads: the decoded values are gone when prepare has returned,
 * unless somebody asked for them by mcc_dense. */
const void *mcc_dense_to_pack(mcc_net *net, mcc_tensor *constant, mcc_status *status);

/* Views of constants that are kept as small codes, one byte per element here; the caller frees them.
 *
 * MCC_PALETTE: element i is entry index[i] of its group's palette: `groups` palettes of `entries` values each, of the tensor's
 * type, not aligned; they divide axis 0 evenly. Every index is below `entries`, checked; bits are those of the largest. */
typedef struct mcc_palette {
    unsigned bits;
    size_t groups, entries;
    const uint8_t *values;
    uint8_t *index;
} mcc_palette;
mcc_status mcc_palette_of(mcc_tensor *constant, mcc_palette *out);
void mcc_palette_free(mcc_palette *palette);

/* MCC_QUANTIZED: element (r, c) of rows * columns is (code - zero[b]) * scale[b], b = r * blocks + c / block, in float32. */
typedef struct mcc_quantized {
    unsigned bits;
    size_t rows, columns, block, blocks;
    float *scale, *zero;
    uint8_t *code;
} mcc_quantized;
mcc_status mcc_quantized_of(mcc_tensor *constant, mcc_quantized *out);
void mcc_quantized_free(mcc_quantized *quantized);

/* MCC_HASHED: element (r, c) of rows * columns (axis 0 and the others) is bucket 4 * mcc_hash_run(x, runs) + place[r] +
 * column_place[c] or, where mcc_hash_negative(x), its negative, x = mcc_hash(row[r] ^ column[c]) (core/hash.h); 0 where a mask says
 * so. The buckets are of the tensor's type. All are one block of memory, but for buckets and mask. */
typedef struct mcc_hashed {
    size_t rows, columns;
    uint32_t runs; /* buckets / 4 */
    bool turned;   /* another axis than the first goes by fours; else column_place is 0 */
    uint32_t *row, *place, *column, *column_place;
    uint8_t *bucket;
    uint8_t *mask; /* one byte per element, or NULL */
} mcc_hashed;
mcc_status mcc_hashed_of(mcc_tensor *constant, mcc_hashed *out);
void mcc_hashed_free(mcc_hashed *hashed);

/* Elements of `type`: size in bytes (0 for a type that does not exist). */
size_t mcc_type_bytes(mcc_type type);
bool mcc_same_shape(const mcc_tensor *a, const mcc_tensor *b);

/* --- for run ----------------------------------------------------------------------------------- */

/* Calls fn(arg, begin, end, thread) over disjoint ranges covering [0, count), on up to all threads of
 * the pool; `thread` is below mcc_threads(exec). Ranges are multiples of `grain` (but for the last).
 * Returns when all are done. Which thread takes which range never changes a result. */
typedef void (*mcc_task)(void *arg, size_t begin, size_t end, unsigned thread);
void mcc_parallel(mcc_exec *exec, size_t count, size_t grain, mcc_task fn, void *arg);
unsigned mcc_threads(const mcc_exec *exec);
/* True in every second run: what reads weights once may begin at the end that the last run left in the cache. */
bool mcc_turned(const mcc_exec *exec);

/* The same for work that calls runners: on each thread fn gets an exec that is that thread alone, whose workspace is its
 * part of the node's workspace_each. */
typedef void (*mcc_task_alone)(void *arg, size_t begin, size_t end, mcc_exec *alone);
void mcc_parallel_alone(const mcc_node *node, mcc_exec *exec, size_t count, mcc_task_alone fn, void *arg);

/* At least node->workspace bytes, 64-byte aligned, contents undefined. */
void *mcc_workspace(mcc_exec *exec);
/* At least mcc_threads(exec) * node->workspace_each bytes, behind those, 64-byte aligned as well. */
void *mcc_workspace_each(const mcc_node *node, mcc_exec *exec);

#endif
