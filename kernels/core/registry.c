/* registry.c: walks the families' own tables. */
#include "registry.h"

typedef struct family {
    const char *name;
    bool (*kernel)(size_t i, mcc_kernel_info *info);
} family;

static const family families[] = {
#define FAMILY(name) {#name, mcc_kernels_##name},
#include "families.def"
#undef FAMILY
    {NULL, NULL},
};

bool mcc_kernel_at(size_t i, const char **name, mcc_kernel_info *info) {
    for (const family *f = families; f->name; f++) {
        size_t k = 0;
        for (; f->kernel && f->kernel(k, info); k++)
            if (k == i) return *name = f->name, true;
        i -= k;
    }
    return false;
}
