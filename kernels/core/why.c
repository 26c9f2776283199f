/* why.c: words for statuses, and the reason of this thread's last failure. */
#include <stdarg.h>
#include <stdio.h>

#include "state.h"

static _Thread_local char why[256];

mcc_status mcc_fail(mcc_status status, const char *format, ...) {
    va_list args;
    va_start(args, format);
    vsnprintf(why, sizeof why, format, args);
    va_end(args);
    return status;
}

void mcc_why_clear(void) { why[0] = 0; }

const char *mcc_why(void) { return why; }

mcc_status mcc_refuse(mcc_net *net, const mcc_node *node, const char *text) {
    (void)net;
    return mcc_fail(MCC_BAD_GRAPH, "node '%s': %s", node->name, text);
}

const char *mcc_status_text(mcc_status status) {
    switch (status) {
    case MCC_OK: return "ok";
    case MCC_NO_FILE: return "the file cannot be opened or read";
    case MCC_NO_MEMORY: return "out of memory";
    case MCC_BAD_FILE: return "not a .mcc file, truncated, or damaged";
    case MCC_BAD_VERSION: return "made by another version of mcc";
    case MCC_BAD_GRAPH: return "an op is used in a way that it does not allow";
    case MCC_NO_OP: return "an op that this engine does not have";
    case MCC_BAD_ARGUMENT: return "bad argument";
    }
    return "unknown status";
}
