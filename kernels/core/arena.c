/* arena.c: memory. Everything a net allocates comes from here, checked for overflow. */
#if defined(__linux__)
#define _GNU_SOURCE
#include <sys/mman.h>
#endif
#define _POSIX_C_SOURCE 200809L
#include <stdlib.h>
#include <string.h>

#include "state.h"

#if defined(__SANITIZE_ADDRESS__)
#define CHECKED 1 /* every block apart, so that the sanitizer sees what is written past its end */
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define CHECKED 1
#endif
#endif

enum { ALIGN = 64, SLACK = 64 };

/* Before every block: what to free, and the bytes that were mapped for it, 0 when it comes from calloc. */
typedef struct head { void *base; size_t mapped; } head;
_Static_assert(sizeof(head) <= ALIGN, "a head fits before a block");

#if defined(__linux__) && !defined(CHECKED)
/* Large blocks begin on a large page and ask for such pages: each is had by one fault and zeroed at once, where 512 small
 * ones cost three times as much, which is most of the time that opening a net takes. Untouched pages cost nothing. Small
 * pages lie anywhere, so that some of a second-level cache's sets have more lines than they hold and others few: 1.9 MB of
 * weights stay in one of 2 MB, and are read 1.6 times as fast, when they are one page. So a page may be a quarter empty. */
#define LARGE_PAGE ((size_t)2 << 20)
#define NEARLY_LARGE (LARGE_PAGE / 4 * 3)

static char *map_pages(size_t bytes, size_t *mapped) {
    const size_t page = bytes % LARGE_PAGE < NEARLY_LARGE ? 4096 : LARGE_PAGE;
    const size_t size = (bytes + page - 1) / page * page;
    char *all = mmap(NULL, size + LARGE_PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (all == MAP_FAILED) return NULL;
    const size_t before = (LARGE_PAGE - (uintptr_t)all % LARGE_PAGE) % LARGE_PAGE;
    if (before) munmap(all, before);
    if (LARGE_PAGE - before) munmap(all + before + size, LARGE_PAGE - before);
    madvise(all + before, size, MADV_HUGEPAGE); /* where refused, small pages do */
    *mapped = size;
    return all + before;
}

static void unmap_pages(void *base, size_t mapped) { munmap(base, mapped); }
#else
#define NEARLY_LARGE (MCC_MAX_BYTES * 2)
static char *map_pages(size_t bytes, size_t *mapped) { return (void)bytes, (void)mapped, NULL; }
static void unmap_pages(void *base, size_t mapped) { (void)base, (void)mapped; }
#endif

void *mcc_aligned_alloc(size_t bytes) {
    if (bytes > MCC_MAX_BYTES) return NULL;
    head h = {NULL, 0};
    if (bytes >= NEARLY_LARGE) h.base = map_pages(ALIGN + bytes + SLACK, &h.mapped);
    /* calloc and not posix_memalign: large zeroed pages come from the system untouched. */
    if (!h.base) h.base = calloc(1, ALIGN + bytes + SLACK + ALIGN);
    if (!h.base) return NULL;
    char *memory = (char *)h.base + ALIGN; /* room for the head, then up to the next multiple */
    memory += (ALIGN - (uintptr_t)memory % ALIGN) % ALIGN;
    memcpy(memory - sizeof h, &h, sizeof h);
    return memory;
}

void mcc_aligned_free(void *memory) {
    if (!memory) return;
    head h;
    memcpy(&h, (char *)memory - sizeof h, sizeof h);
    if (h.mapped) unmap_pages(h.base, h.mapped);
    else free(h.base);
}

/* --- pools: requests are cut from blocks ------------------------------------------------------------ */

struct mcc_block {
    struct mcc_block *next;
    size_t used, size; /* of the bytes behind this head */
    char apart[ALIGN - sizeof(void *) - 2 * sizeof(size_t)];
};
_Static_assert(sizeof(struct mcc_block) == ALIGN, "what follows is aligned");

void *mcc_pool_alloc(mcc_pool *pool, size_t bytes) {
    if (bytes > MCC_MAX_BYTES) return NULL;
    const size_t need = (bytes + ALIGN - 1) / ALIGN * ALIGN + SLACK;
    struct mcc_block *b = pool->first;
    if (!b || b->size - b->used < need) {
        size_t size = need;
#if !defined(CHECKED)
        const size_t least = pool->first ? pool->bytes / 4 : pool->expected;
        if (size < least) size = least;
        if (size < 16384) size = 16384;
#endif
        if (!(b = mcc_aligned_alloc(sizeof *b + size)) && !(b = mcc_aligned_alloc(sizeof *b + (size = need)))) return NULL;
        b->size = size;
        b->next = pool->first;
        pool->first = b;
    }
    char *memory = (char *)(b + 1) + b->used;
    b->used += need;
    pool->bytes += bytes;
    return memory;
}

void *mcc_pool_array(mcc_pool *pool, size_t count, size_t size) {
    return size && count > MCC_MAX_BYTES / size ? NULL : mcc_pool_alloc(pool, count * size);
}

void mcc_pool_free(mcc_pool *pool) {
    for (struct mcc_block *block = pool->first, *next; block; block = next) {
        next = block->next;
        mcc_aligned_free(block);
    }
    *pool = (mcc_pool){0};
}
