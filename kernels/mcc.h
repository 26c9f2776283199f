/* mcc.h: run a .mcc model. C11, libc and threads only; nothing here prints, exits or reads the environment.
 *
 *     mcc_net *net;
 *     mcc_status s = mcc_open("model.mcc", &net);
 *     if (s != MCC_OK) { puts(mcc_status_text(s)); return 1; }
 *     memcpy(mcc_input(net, 0)->data, image, mcc_input(net, 0)->bytes);
 *     mcc_run(net);
 *     const float *scores = mcc_output(net, 0)->data;
 *     mcc_close(net);
 *
 * A net belongs to one thread at a time; mcc_clone gives another thread its own, sharing the weights. */
#ifndef MCC_H
#define MCC_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif
#if defined(__GNUC__)
#pragma GCC visibility push(default) /* everything else in libmcc.so is hidden */
#endif

typedef enum mcc_status {
    MCC_OK = 0,
    MCC_NO_FILE,       /* cannot be opened or read */
    MCC_NO_MEMORY,
    MCC_BAD_FILE,      /* not a .mcc file, truncated, or damaged (checksum, offsets) */
    MCC_BAD_VERSION,   /* made by another version of mcc */
    MCC_BAD_GRAPH,     /* an op is used in a way that it does not allow; see mcc_why */
    MCC_NO_OP,         /* an op that this build of the engine does not have; see mcc_why */
    MCC_BAD_ARGUMENT
} mcc_status;

/* Element types, numbered as in ONNX TensorProto.DataType. */
typedef enum mcc_type {
    MCC_F32 = 1, MCC_U8 = 2, MCC_S8 = 3, MCC_U16 = 4, MCC_S16 = 5, MCC_S32 = 6, MCC_S64 = 7,
    MCC_BOOL = 9, MCC_F16 = 10, MCC_F64 = 11, MCC_U32 = 12, MCC_U64 = 13, MCC_BF16 = 16
} mcc_type;

/* How the file keeps a constant; core/file.h has the bytes. */
typedef enum mcc_storage {
    MCC_RAW = 0, MCC_PALETTE = 1, MCC_BITMASK = 2, MCC_CODED = 3, MCC_QUANTIZED = 4, MCC_HASHED = 5
} mcc_storage;

typedef struct mcc_net mcc_net;

/* One input or output, as the original model has it (NCHW stays NCHW). Write inputs into `data` before
 * mcc_run, read outputs from it after; the pointers stay the same until mcc_close. */
typedef struct mcc_port {
    const char *name;
    mcc_type type;
    unsigned rank;
    const size_t *shape;
    size_t bytes;
    void *data;
} mcc_port;

mcc_status mcc_open(const char *path, mcc_net **net);
/* The memory must stay valid and unchanged until mcc_close of this net and all its clones;
 * it must be aligned to 64 bytes. */
mcc_status mcc_open_memory(const void *bytes, size_t size, mcc_net **net);
mcc_status mcc_clone(const mcc_net *net, mcc_net **copy);
void mcc_close(mcc_net *net); /* NULL is allowed */

size_t mcc_inputs(const mcc_net *net);
size_t mcc_outputs(const mcc_net *net);
const mcc_port *mcc_input(const mcc_net *net, size_t i);  /* NULL when i is out of range */
const mcc_port *mcc_output(const mcc_net *net, size_t i);

mcc_status mcc_run(mcc_net *net); /* allocates nothing */
mcc_status mcc_set_threads(mcc_net *net, unsigned threads); /* 1 (the default) to 64; 0: as many as pay, found by a few runs */

/* Per-node times of the last mcc_run, when switched on. */
typedef struct mcc_node_profile {
    const char *name, *op, *kernel; /* kernel "" when the op has only one way */
    double ms;
    uint64_t macs;
} mcc_node_profile;
void mcc_set_profile(mcc_net *net, int on);
size_t mcc_profile(const mcc_net *net, const mcc_node_profile **nodes);

/* Packed weights in the file (mcc_prepack): there are none; they are another machine's or engine's and were not used, so
 * that the net was opened as if there were none; they are used in place. */
typedef enum mcc_packed_state { MCC_PACKED_NONE, MCC_PACKED_UNUSED, MCC_PACKED_USED } mcc_packed_state;

typedef struct mcc_facts {
    size_t arena_bytes, weight_bytes; /* activations; packed weights and other state made at open */
    unsigned threads;
    const char *isa;
    const char *meta;  /* the file's JSON note, and its length */
    size_t meta_bytes;
    mcc_packed_state packed;
    size_t packed_bytes; /* of the file, used in place of memory of this process */
    const char *core;    /* arm64: the core that the caller runs on, "cortex-a76"; "" when it is not known */
    uint32_t midr;       /* and its identification register; 0 */
    mcc_packed_state tuned; /* kernels chosen by measurement (`mcc lower --tune`): none, for another machine, in use */
} mcc_facts;
void mcc_describe(const mcc_net *net, mcc_facts *facts);

/* Writes the file that the net was opened from to `path`, which must be another one, with the weights as this machine has
 * packed them: there and on its equals mcc_open then only maps them. A file is left at `path` in any case. */
mcc_status mcc_prepack(const mcc_net *net, const char *path);

const char *mcc_status_text(mcc_status status);
/* What the last failed mcc_open* of this thread objected to: node and reason; "" when none. */
const char *mcc_why(void);

/* For tests and benchmarks: keep only these ISA words ("avx2", "c", ...; NULL lifts the limit) for nets
 * opened from now on. MCC_BAD_ARGUMENT when a word is unknown. */
mcc_status mcc_limit_isa(const char *words);
/* Likewise: of the micro-kernels that could serve a layer take the one of this name (NULL lifts the limit).
 * MCC_BAD_ARGUMENT when there is none or this CPU cannot run it. */
mcc_status mcc_limit_kernel(const char *name);

#if defined(__GNUC__)
#pragma GCC visibility pop
#endif
#ifdef __cplusplus
}
#endif
#endif
