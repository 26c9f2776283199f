/* registry.c: walks the families' own tables. */
#include "registry.h"

#include <stdatomic.h>
#include <string.h>

#include "isa.h"
#include "names.h"
#include "state.h"

static const char names[] = "" /* of a library that lists no kernels */
#define FAMILY(name) #name "\0"
#include "families.def"
#undef FAMILY
    ;
enum {
#define FAMILY(name) FAMILY_##name,
#include "families.def"
#undef FAMILY
    FAMILIES
};

#ifdef MCC_SUBSET
#define PRESENT(function) (function)
#else
#define PRESENT(function) true
#endif

/* The k-th kernel of a family, which a subset build may have left out. A switch: ops.c says why. */
static bool kernel_of(int family, size_t k, mcc_kernel_info *info) {
    (void)k, (void)info;
    switch (family) {
#define FAMILY(name) case FAMILY_##name: return PRESENT(mcc_kernels_##name) && mcc_kernels_##name(k, info);
#include "families.def"
#undef FAMILY
    default: return false;
    }
}

bool mcc_kernel_at(size_t i, const char **name, mcc_kernel_info *info) {
    *name = names;
    for (int family = 0; family < FAMILIES; family++, *name += strlen(*name) + 1) {
        size_t k = 0;
        for (; kernel_of(family, k, info); k++)
            if (k == i) return true;
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
