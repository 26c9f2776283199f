/* allocations.c: how often does mcc_run ask for memory?
 *
 *     allocations MODEL.mcc THREADS
 *
 * Opens the model, runs it three times and prints "open N run M", the calls of malloc and its relatives that the whole
 * process made in each. Stands in front of glibc's allocator. Exit code 2 when the model cannot be opened. */
#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include "../../kernels/mcc.h"

extern void *__libc_malloc(size_t bytes);
extern void *__libc_calloc(size_t count, size_t bytes);
extern void *__libc_realloc(void *memory, size_t bytes);
extern void *__libc_memalign(size_t alignment, size_t bytes);

static _Atomic unsigned long calls;

void *malloc(size_t bytes) { return calls++, __libc_malloc(bytes); }
void *calloc(size_t count, size_t bytes) { return calls++, __libc_calloc(count, bytes); }
void *realloc(void *memory, size_t bytes) { return calls++, __libc_realloc(memory, bytes); }
void *memalign(size_t alignment, size_t bytes) { return calls++, __libc_memalign(alignment, bytes); }
void *aligned_alloc(size_t alignment, size_t bytes) { return calls++, __libc_memalign(alignment, bytes); }
int posix_memalign(void **memory, size_t alignment, size_t bytes) {
    calls++;
    void *made = __libc_memalign(alignment, bytes);
    if (!made) return ENOMEM;
    *memory = made;
    return 0;
}

int main(int argc, char **argv) {
    mcc_net *net;
    if (argc != 3 || mcc_open(argv[1], &net) != MCC_OK || mcc_set_threads(net, (unsigned)atoi(argv[2])) != MCC_OK) {
        fprintf(stderr, "allocations: %s\n", argc == 3 ? mcc_why() : "MODEL.mcc THREADS");
        return 2;
    }
    const unsigned long opened = calls;
    for (int i = 0; i < 3; i++) mcc_run(net);
    const unsigned long ran = calls - opened;
    mcc_close(net);
    printf("open %lu run %lu\n", opened, ran);
    return 0;
}
