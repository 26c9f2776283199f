/* choices.c: which kernel serves which layer, as it was measured when the file was made (file.h, section 5). */
#include <string.h>

#include "cpu.h"
#include "crc.h"
#include "isa.h"
#include "registry.h"
#include "state.h"

enum { HEAD = 16 };

static uint32_t get32(const uint8_t *p) {
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

uint32_t mcc_kernels_crc(void) {
    const char *family;
    mcc_kernel_info info;
    uint32_t sum = ~0u;
    for (size_t i = 0; mcc_kernel_at(i, &family, &info); i++) sum = mcc_crc32(sum, info.name, strlen(info.name) + 1);
    return ~sum;
}

/* The text that begins here and ends with a NUL before `end`; NULL when there is none. Moves behind it. */
static const char *text(const uint8_t **at, const uint8_t *end) {
    const uint8_t *nul = *at < end ? memchr(*at, 0, (size_t)(end - *at)) : NULL;
    if (!nul) return NULL;
    const char *found = (const char *)*at;
    *at = nul + 1;
    return found;
}

/* The engine's own copy of a name, of a kernel that this CPU runs. */
static const char *runs(const char *name) {
    const char *family;
    mcc_kernel_info info;
    for (size_t i = 0; mcc_kernel_at(i, &family, &info); i++)
        if (strcmp(info.name, name) == 0) return (info.isa & mcc_isa()) == info.isa ? info.name : NULL;
    return NULL;
}

mcc_status mcc_choices_find(mcc_shared *shared, const uint8_t *section, size_t size, uint32_t graph_crc) {
    const uint8_t *at = section + HEAD, *const end = section + size;
    char model[MCC_CPU_MODEL];
    mcc_cpu_model(model);
    shared->tuned = MCC_PACKED_UNUSED;
    if (size < HEAD || get32(section) != mcc_isa() || get32(section + 4) != mcc_kernels_crc() || get32(section + 8) != graph_crc)
        return MCC_OK;
    const char *cpu = text(&at, end);
    if (mcc_kernel_any_forced() || !cpu || !*model || strcmp(cpu, model) != 0) return MCC_OK;
    const char **choice = mcc_pool_array(&shared->graph, shared->nodes, sizeof *choice);
    if (!choice) return MCC_NO_MEMORY;
    for (uint32_t left = get32(section + 12); left; left--) {
        const uint8_t *number = at;
        if (end - at < 4) return MCC_OK;
        at += 4;
        const char *name = text(&at, end);
        if (!name || get32(number) >= shared->nodes || !(choice[get32(number)] = runs(name))) return MCC_OK;
    }
    shared->choice = choice;
    shared->choice_crc = mcc_crc32(~0u, section, size);
    shared->tuned = MCC_PACKED_USED;
    return MCC_OK;
}
