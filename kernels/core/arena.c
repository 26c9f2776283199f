/* arena.c: memory. Everything a net allocates comes from here, checked for overflow. */
#define _POSIX_C_SOURCE 200809L
#include <stdlib.h>
#include <string.h>

#include "state.h"

struct mcc_block {
    struct mcc_block *next;
    void *memory;
};

void *mcc_aligned_alloc(size_t bytes) {
    enum { ALIGN = 64, SLACK = 64 };
    if (bytes > MCC_MAX_BYTES) return NULL;
    /* calloc and not posix_memalign: large zeroed pages come from the system untouched. */
    char *base = calloc(1, bytes + SLACK + ALIGN);
    if (!base) return NULL;
    char *memory = base + ALIGN - (uintptr_t)base % ALIGN; /* malloc aligns to 8 at least, so a pointer fits before */
    memcpy(memory - sizeof base, &base, sizeof base);
    return memory;
}

void mcc_aligned_free(void *memory) {
    if (!memory) return;
    char *base;
    memcpy(&base, (char *)memory - sizeof base, sizeof base);
    free(base);
}

void *mcc_pool_alloc(mcc_pool *pool, size_t bytes) {
    struct mcc_block *block = malloc(sizeof *block);
    if (!block) return NULL;
    if (!(block->memory = mcc_aligned_alloc(bytes))) {
        free(block);
        return NULL;
    }
    block->next = pool->first;
    pool->first = block;
    pool->bytes += bytes;
    return block->memory;
}

void *mcc_pool_array(mcc_pool *pool, size_t count, size_t size) {
    return size && count > MCC_MAX_BYTES / size ? NULL : mcc_pool_alloc(pool, count * size);
}

void mcc_pool_free(mcc_pool *pool) {
    for (struct mcc_block *block = pool->first, *next; block; block = next) {
        next = block->next;
        mcc_aligned_free(block->memory);
        free(block);
    }
    *pool = (mcc_pool){0};
}
