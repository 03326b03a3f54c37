/* What a command may not do: the system-call filter and capabilities. */
#pragma once
#include "sys.h"

#if defined(__x86_64__)
#define NATIVE_ARCH AUDIT_ARCH_X86_64
#else
#define NATIVE_ARCH AUDIT_ARCH_AARCH64
#endif
#define NEW_NAMESPACES \
    (CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNET)

#define LOAD(offset) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offset)
#define LOAD_NUMBER LOAD(0)
#define LOAD_ARGUMENT(index) LOAD(16 + 8 * (index)) /* its low half, all that the kernel looks at here */
#define ALLOW BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)
#define ANSWER(error) BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (error))
#define EQUALS(value, then, otherwise) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, value, then, otherwise)
#define CALL(name, length) EQUALS(__NR_##name, 0, length) /* skips `length` instructions for any other call */
#define NOT_FOR_THE_WARDEN(name) CALL(name, 4), LOAD_ARGUMENT(0), EQUALS(1, 0, 1), ANSWER(EPERM), ALLOW
#define NOT_FOR_ITS_USER(name, user) /* (which, who): the warden has the user of the commands */ \
    CALL(name, 6), LOAD_ARGUMENT(0), EQUALS(user, 2, 0), LOAD_ARGUMENT(1), EQUALS(1, 0, 1), ANSWER(EPERM), ALLOW
#define RANGE(first, last) \
    BPF_JUMP(BPF_JMP | BPF_JGT | BPF_K, last, 2, 0), BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, first, 0, 1), ALLOW

/* The calls that docker's default profile allows a container without capabilities, by number; left out although it has
 * them: io_uring (goes past this filter), io_setup, memfd_secret, modify_ldt. What has a number up to LAST_KNOWN and is not here
 * is refused: namespaces, mounts, modules, keys, BPF, other memory policies. What is newer does not exist. */
enum { LAST_KNOWN = 467 };
#if defined(__x86_64__)
#define OWN_RANGES                                                                                                    \
    RANGE(0, 102), RANGE(104, 133), RANGE(135, 135), RANGE(137, 138), RANGE(140, 152), RANGE(157, 162),                \
        RANGE(186, 205), RANGE(207, 211), RANGE(213, 213), RANGE(216, 226), RANGE(228, 235), RANGE(240, 245), RANGE(247, 247),          \
        RANGE(251, 255), RANGE(257, 271), RANGE(273, 278), RANGE(280, 297), RANGE(299, 299), RANGE(301, 303),          \
        RANGE(305, 307), RANGE(309, 311), RANGE(314, 319), RANGE(322, 322), RANGE(324, 334)
#else
#define OWN_RANGES                                                                                                    \
    RANGE(1, 17), RANGE(19, 38), RANGE(43, 57), RANGE(59, 59), RANGE(61, 88), RANGE(90, 96), RANGE(98, 103),           \
        RANGE(107, 111), RANGE(113, 115), RANGE(117, 141), RANGE(143, 160), RANGE(163, 169), RANGE(171, 216),          \
        RANGE(220, 223), RANGE(226, 234), RANGE(240, 240), RANGE(242, 243), RANGE(260, 261), RANGE(263, 264),          \
        RANGE(266, 267), RANGE(269, 271), RANGE(274, 279), RANGE(281, 281), RANGE(283, 293)
#endif
#define COMMON_RANGES                                                                                                 \
    RANGE(424, 424), RANGE(434, 434), RANGE(436, 437), RANGE(439, 439), RANGE(441, 441), RANGE(444, 446),              \
        RANGE(448, 449), RANGE(451, 456), RANGE(462, 466)

/* Lists what is allowed. Containers of an engine have the engine's own filter on top; under bubblewrap this one stands
 * alone. Socket families beyond the four that programs need (and raw packets, which need a capability) are left out:
 * no network namespace holds AF_VSOCK, which reaches the host of a virtual machine. */
static long filter_system_calls(void) {
    static struct sock_filter program[] = {
        LOAD(4), /* seccomp_data.arch */
        EQUALS(NATIVE_ARCH, 1, 0),
        ANSWER(ENOSYS),
        LOAD_NUMBER,
#if defined(__x86_64__)
        BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, 0x40000000, 0, 1), /* the x32 table */
        ANSWER(ENOSYS),
#endif
        CALL(clone3, 1), /* its flags lie in memory: send libc to clone */
        ANSWER(ENOSYS),
        CALL(io_setup, 1), /* its room is one for all of the kernel; programs go without */
        ANSWER(ENOSYS),
        CALL(clone, 4),
        LOAD_ARGUMENT(0),
        BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, NEW_NAMESPACES, 0, 1),
        ANSWER(EPERM),
        ALLOW,
        CALL(socket, 8),
        LOAD_ARGUMENT(0),
        EQUALS(1, 5, 0),  /* AF_UNIX */
        EQUALS(2, 4, 0),  /* AF_INET */
        EQUALS(10, 3, 0), /* AF_INET6 */
        EQUALS(16, 2, 0), /* AF_NETLINK: this network namespace's own tables */
        EQUALS(17, 1, 0), /* AF_PACKET */
        ANSWER(EAFNOSUPPORT),
        ALLOW,
        CALL(personality, 8),
        LOAD_ARGUMENT(0),
        EQUALS(0, 5, 0),       /* PER_LINUX */
        EQUALS(0x8, 4, 0),     /* PER_LINUX32 */
        EQUALS(0x20000, 3, 0), /* UNAME26 */
        EQUALS(0x20008, 2, 0),
        EQUALS(0xffffffff, 1, 0), /* ask only */
        ANSWER(EPERM),
        ALLOW,
        CALL(ioctl, 5),
        LOAD_ARGUMENT(1),
        EQUALS(TIOCSTI, 1, 0), /* types into a terminal that is shared */
        EQUALS(TIOCLINUX, 0, 1),
        ANSWER(EPERM),
        ALLOW,
        /* Limits, priority and processors of the warden, which has the same user: it would be killed or starved. */
        NOT_FOR_THE_WARDEN(prlimit64), NOT_FOR_THE_WARDEN(sched_setparam), NOT_FOR_THE_WARDEN(sched_setscheduler),
        NOT_FOR_THE_WARDEN(sched_setaffinity), NOT_FOR_THE_WARDEN(sched_setattr), NOT_FOR_ITS_USER(setpriority, 2),
        NOT_FOR_ITS_USER(ioprio_set, 3),
        OWN_RANGES,
        COMMON_RANGES,
        BPF_JUMP(BPF_JMP | BPF_JGT | BPF_K, LAST_KNOWN, 0, 1),
        ANSWER(ENOSYS),
        ANSWER(EPERM),
    };
    struct sock_fprog filter = {.len = sizeof program / sizeof program[0], .filter = program};
    return SYS3(seccomp, SECCOMP_SET_MODE_FILTER, 0, &filter);
}

/* Keeps only the capabilities of `mask`, in every set. Without new privileges no exec, not even one by root, brings any
 * other back. Fails if a foreign one stays within bounds: its owner did not let the warden drop it (SETPCAP). */
static long drop_capabilities(u64 mask) {
    int foreign = 0;
    for (int cap = 0; cap < 64; cap++) {
        if (mask >> cap & 1) continue;
        SYS2(prctl, PR_CAPBSET_DROP, cap);
        foreign |= SYS2(prctl, PR_CAPBSET_READ, cap) == 1; /* -EINVAL: this kernel has no such capability */
    }
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3, .pid = 0};
    struct __user_cap_data_struct sets[2];
    long error = SYS2(capget, &header, sets);
    if (error < 0) return error;
    for (int half = 0; half < 2; half++) {
        u32 keep = (u32)(mask >> (32 * half));
        sets[half].effective &= keep;
        sets[half].permitted &= keep;
        sets[half].inheritable = 0; /* and with it the ambient set */
    }
    error = SYS2(capset, &header, sets);
    return error < 0 ? error : foreign ? -EPERM : 0;
}
