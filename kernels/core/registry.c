/* registry.c: walks the families' own tables. */
#include "registry.h"

#include <stdatomic.h>
#include <string.h>

#include "isa.h"
#include "names.h"
#include "state.h"

typedef struct family {
    mcc_what name;
    bool (*kernel)(size_t i, mcc_kernel_info *info);
} family;

static const family families[] = {
#define FAMILY(name) {#name, mcc_kernels_##name},
#include "families.def"
#undef FAMILY
    {"", NULL},
};

bool mcc_kernel_at(size_t i, const char **name, mcc_kernel_info *info) {
    for (const family *f = families; *f->name; f++) {
        size_t k = 0;
        for (; f->kernel && f->kernel(k, info); k++)
            if (k == i) return *name = f->name, true;
        i -= k;
    }
    return false;
}

static const char *_Atomic forced;

static _Thread_local const char *preferred;

void mcc_kernel_prefer(const char *name) { preferred = name; }

bool mcc_kernel_any_forced(void) { return atomic_load_explicit(&forced, memory_order_relaxed) != NULL; }

bool mcc_kernel_forced(const char *name) {
    const char *wanted = atomic_load_explicit(&forced, memory_order_relaxed);
    if (!wanted) wanted = preferred;
    return wanted && strcmp(name, wanted) == 0;
}

mcc_status mcc_limit_kernel(const char *name) {
    mcc_why_clear();
    atomic_store_explicit(&forced, NULL, memory_order_relaxed);
    if (!name) return MCC_OK;
    const char *family;
    mcc_kernel_info info;
    for (size_t i = 0; mcc_kernel_at(i, &family, &info); i++) {
        if (strcmp(info.name, name) != 0) continue;
        if ((info.isa & mcc_isa()) != info.isa) return mcc_fail(MCC_BAD_ARGUMENT, "this CPU cannot run kernel '%s'", name);
        atomic_store_explicit(&forced, info.name, memory_order_relaxed);
        return MCC_OK;
    }
    return mcc_fail(MCC_BAD_ARGUMENT, "unknown kernel '%s'", name);
}
