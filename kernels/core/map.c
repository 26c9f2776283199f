/* map.c: a file as memory: mapped where the system can, read otherwise. */
#if defined(__linux__)
#define _GNU_SOURCE
#else
#define MAP_POPULATE 0
#endif
#define _POSIX_C_SOURCE 200809L
#define _FILE_OFFSET_BITS 64
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "state.h"

static mcc_status read_all(int file, mcc_map *map) {
    uint8_t *bytes = mcc_aligned_alloc(map->size);
    if (!bytes) return mcc_fail(MCC_NO_MEMORY, "%zu bytes for the file", map->size);
    map->bytes = bytes;
    map->how = MCC_MAP_READ;
    for (size_t done = 0; done < map->size;) {
        const ssize_t n = read(file, bytes + done, map->size - done);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return mcc_fail(MCC_NO_FILE, "read: %s", n ? strerror(errno) : "the file became shorter");
        done += (size_t)n;
    }
    return MCC_OK;
}

mcc_status mcc_map_file(const char *path, mcc_map *map) {
    const int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0) return mcc_fail(MCC_NO_FILE, "%s: %s", path, strerror(errno));
    struct stat info;
    mcc_status status = MCC_OK;
    if (fstat(file, &info) != 0) {
        status = mcc_fail(MCC_NO_FILE, "%s: %s", path, strerror(errno));
    } else if (!S_ISREG(info.st_mode)) {
        status = mcc_fail(MCC_NO_FILE, "%s: not a regular file", path);
    } else if ((uintmax_t)info.st_size > MCC_MAX_BYTES) {
        status = mcc_fail(MCC_BAD_FILE, "%s: larger than 16 GiB", path);
    } else {
        map->size = (size_t)info.st_size;
        /* All of it at once: the checksum reads every page, and one by one they cost more than it does. */
        void *bytes = map->size ? mmap(NULL, map->size, PROT_READ, MAP_PRIVATE | MAP_POPULATE, file, 0) : MAP_FAILED;
        if (bytes != MAP_FAILED) {
            map->bytes = bytes;
            map->how = MCC_MAP_MAPPED;
        } else {
            status = read_all(file, map);
        }
    }
    close(file);
    if (status != MCC_OK) mcc_map_close(map);
    return status;
}

void mcc_map_release(const mcc_map *map, const void *from, size_t bytes) {
#if defined(__linux__)
    const size_t page = (size_t)sysconf(_SC_PAGESIZE), at = (size_t)((const uint8_t *)from - map->bytes);
    const size_t begin = (at + page - 1) / page * page, end = (at + bytes) / page * page;
    /* Private pages that were never written: what is read again comes from the file again. */
    if (map->how == MCC_MAP_MAPPED && begin < end) madvise((void *)(map->bytes + begin), end - begin, MADV_DONTNEED);
#else
    (void)map, (void)from, (void)bytes;
#endif
}

void mcc_map_close(mcc_map *map) {
    if (map->how == MCC_MAP_MAPPED) munmap((void *)map->bytes, map->size);
    if (map->how == MCC_MAP_READ) mcc_aligned_free((void *)map->bytes);
    *map = (mcc_map){0};
}
