/* mark.h: says which node runs to a tool that counts instructions from outside of the program (an emulator's plugin).
 *
 * Only in builds with -DMCC_MARKS for arm64: a system call that no kernel has, which costs the program nothing that it could
 * notice. The counts are those between two marks. */
#ifndef MCC_CORE_MARK_H
#define MCC_CORE_MARK_H

#define MCC_MARK_SYSCALL 0x6d6363
#define MCC_MARK_NONE (-1L) /* what follows belongs to no region */

static inline void mcc_mark(long region) {
#if defined(MCC_MARKS) && defined(__aarch64__)
    register long number __asm__("x8") = MCC_MARK_SYSCALL;
    register long value __asm__("x0") = region;
    __asm__ volatile("svc #0" : "+r"(value) : "r"(number) : "memory", "cc");
#else
    (void)region;
#endif
}
#endif
