/* attr.c: a node's attributes by key. */
#include <string.h>

#include "file.h"

static const mcc_attr *find(const mcc_node *node, const char *key) {
    for (uint32_t i = 0; i < node->attrs; i++)
        if (strcmp(node->attr[i].key, key) == 0) return &node->attr[i];
    return NULL;
}

int64_t mcc_int(const mcc_node *node, const char *key, int64_t fallback) {
    const mcc_attr *a = find(node, key);
    return a && a->kind == MCC_ATTR_INT ? a->v.i : fallback;
}

float mcc_float(const mcc_node *node, const char *key, float fallback) {
    const mcc_attr *a = find(node, key);
    return !a ? fallback : a->kind == MCC_ATTR_FLOAT ? a->v.f : a->kind == MCC_ATTR_INT ? (float)a->v.i : fallback;
}

const char *mcc_string(const mcc_node *node, const char *key, const char *fallback) {
    const mcc_attr *a = find(node, key);
    return a && a->kind == MCC_ATTR_STRING ? a->v.s : fallback;
}

const int64_t *mcc_ints(const mcc_node *node, const char *key, size_t *count) {
    const mcc_attr *a = find(node, key);
    const bool one = a && a->kind == MCC_ATTR_INT, many = a && a->kind == MCC_ATTR_INTS;
    *count = one || many ? a->count : 0;
    return one ? &a->v.i : many ? a->v.is : NULL;
}

const float *mcc_floats(const mcc_node *node, const char *key, size_t *count) {
    const mcc_attr *a = find(node, key);
    const bool one = a && a->kind == MCC_ATTR_FLOAT, many = a && a->kind == MCC_ATTR_FLOATS;
    *count = one || many ? a->count : 0;
    return one ? &a->v.f : many ? a->v.fs : NULL;
}

bool mcc_attr_part(mcc_net *net, const mcc_node *node, const char *prefix, mcc_node *part) {
    const size_t length = strlen(prefix);
    mcc_attr *out = mcc_net_alloc(net, node->attrs * sizeof *out);
    if (!out) return false;
    part->attr = out, part->attrs = 0;
    for (uint32_t i = 0; i < node->attrs; i++) {
        if (strncmp(node->attr[i].key, prefix, length) != 0) continue;
        out[part->attrs] = node->attr[i];
        out[part->attrs++].key += length;
    }
    return true;
}
