/* state.h: what a net is made of. Private to core; families see net.h only. */
#ifndef MCC_CORE_STATE_H
#define MCC_CORE_STATE_H

#include <stdatomic.h>

#include "file.h"

/* The most that one file may ask for, activations or one constant. */
#define MCC_MAX_BYTES ((size_t)1 << 34)

/* --- memory (arena.c) -------------------------------------------------------------------------- */

/* Blocks that are freed together. */
typedef struct mcc_pool {
    struct mcc_block *first;
    size_t bytes;    /* handed out, in total */
    size_t expected; /* about how many that will be: the size of the first block; 0: few */
} mcc_pool;

/* Zeroed, 64-byte aligned; NULL when there is none. A request for 0 bytes gives a valid pointer. */
void *mcc_pool_alloc(mcc_pool *pool, size_t bytes);
/* The same for count * size, NULL on overflow. */
void *mcc_pool_array(mcc_pool *pool, size_t count, size_t size);
void mcc_pool_free(mcc_pool *pool);

/* Zeroed and 64-byte aligned, with 64 bytes of slack after the end. Freed by mcc_aligned_free. */
void *mcc_aligned_alloc(size_t bytes);
void mcc_aligned_free(void *memory);

/* --- files (map.c) ----------------------------------------------------------------------------- */

typedef struct mcc_map {
    const uint8_t *bytes;
    size_t size;
    enum { MCC_MAP_BORROWED, MCC_MAP_MAPPED, MCC_MAP_READ } how;
} mcc_map;

mcc_status mcc_map_file(const char *path, mcc_map *map);
/* These bytes of the file will not be read again, or seldom: their pages need not stay resident. */
void mcc_map_release(const mcc_map *map, const void *from, size_t bytes);
void mcc_map_close(mcc_map *map);

/* --- threads (threads.c) ----------------------------------------------------------------------- */

typedef struct mcc_workers mcc_workers;

struct mcc_exec {
    mcc_workers *workers; /* NULL with 1 thread */
    unsigned threads;
    void *workspace;
    bool turned;          /* mcc_turned */
};

/* A pool of `threads` - 1 threads beside the caller's; NULL when they cannot be had. */
mcc_workers *mcc_workers_start(unsigned threads);
void mcc_workers_stop(mcc_workers *workers); /* NULL is allowed, as it is below */
/* Has sleeping workers come and spin: a run begins that is worth it. */
void mcc_workers_wake(mcc_workers *workers);
bool mcc_workers_asleep(mcc_workers *workers); /* one or more of them */
unsigned mcc_cores(void);

/* --- the net ----------------------------------------------------------------------------------- */

/* A constant's values that mcc_dense or mcc_dense_to_pack decoded; `kept` when they live as long as the net. */
typedef struct mcc_decoded { void *values; bool kept; } mcc_decoded;

/* Packed weights (prepack.c): those that the file carries, and what mcc_net_pack has handed out, in order. */
typedef struct mcc_packed_block { const void *at; size_t bytes; } mcc_packed_block;
#define MCC_PACKING_KEY 24
typedef struct mcc_packing {
    uint8_t key[MCC_PACKING_KEY]; /* all that packing depends on, as in file.h */
    const uint8_t *section;       /* of the file, when it has this key */
    size_t size, bytes;           /* of it; of the blocks that are used in place */
    uint32_t count, next;         /* its blocks; the one that comes next */
    mcc_packed_state state;
    mcc_packed_block *block;
    size_t blocks, room;
} mcc_packing;

/* Packed weights of another version are not used: to be raised with every change of what a packing function writes that
 * changes neither a kernel's name nor how many bytes there are. */
#define MCC_PACKING_VERSION 1

/* Makes the key from the checksums of the file's sections, before anything is packed or found. */
void mcc_packing_start(mcc_packing *packing, uint32_t graph_crc, uint32_t data_crc, uint32_t choices_crc);
/* Looks into the file's packed section, which may be anybody's. */
void mcc_packing_find(mcc_packing *packing, const uint8_t *section, size_t size);

/* The checksum of the names of all micro-kernels. */
uint32_t mcc_kernels_crc(void);
/* The kernel, or NULL, that this thread's next layers take where it can serve them, unless mcc_limit_kernel has asked for one;
 * the name is mcc_kernel_at's. And has it asked? */
void mcc_kernel_prefer(const char *name);
bool mcc_kernel_any_forced(void);

/* All that clones share; immutable once mcc_open* has returned. */
typedef struct mcc_shared {
    _Atomic uint32_t users;
    mcc_map map;
    mcc_pool graph, state; /* the parsed file; what prepare made */
    mcc_packing packing;
    uint32_t tensors, nodes, inputs, outputs;
    uint32_t *input, *output; /* tensor numbers */
    size_t arena_bytes;
    uint64_t macs; /* of one run */
    const char *note;
    size_t note_bytes;
    mcc_decoded *decoded; /* per tensor */
    size_t decoded_bytes;
    mcc_packed_state tuned;
    const char **choice; /* per node a kernel's name or NULL; NULL when the file has none for this machine */
    uint32_t choice_crc; /* of that section; 0 */
    char isa[128];
} mcc_shared;

/* What runs of a small net take alone and with all threads, the least in ms; when the last one ended; how many of this
 * round have followed each other, and how many have waited for sleeping workers. */
typedef struct mcc_trial { double best[2], ended; unsigned runs, round, waited; } mcc_trial;

struct mcc_net {
    mcc_shared *shared;
    mcc_pool own;       /* this net's tensors, nodes and ports */
    mcc_tensor *tensor;
    mcc_node *node;
    mcc_port *input, *output;
    void *arena;
    mcc_exec exec;
    mcc_trial trial;
    int profiling;
    mcc_node_profile *profile;
};

/* Reads the file's choices section, which may be anybody's, into shared->choice when it is for this machine. */
mcc_status mcc_choices_find(mcc_shared *shared, const uint8_t *section, size_t size, uint32_t graph_crc);

/* Frees a constant's decoded values that are not kept, and has its pages of the file go. */
void mcc_dense_drop(mcc_net *net, mcc_tensor *constant);

/* Parses and checks the whole file in shared->map; fills `net` (tensors, nodes) and shared. */
mcc_status mcc_file_parse(mcc_net *net);

/* --- reasons (why.c) --------------------------------------------------------------------------- */

/* Records why, for mcc_why, and returns `status`. */
mcc_status mcc_fail(mcc_status status, const char *format, ...) __attribute__((format(printf, 2, 3)));
void mcc_why_clear(void);

#endif
