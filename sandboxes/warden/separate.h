/* What a sandbox gets for itself from the kernel before its first command: a user namespace with a creator of its own, a
 * limit of terminals, a network interface. And what it must not see of the kernel. All of it happens in `serve`, which
 * then drops the capabilities that it takes. */
#pragma once
#include "launch.h"

enum { FIRST_CREATOR = 0x70000000, CREATOR_BITS = 0x0fffffff, MOST_TERMINALS = 64 };
#define OWN_NAME "/.warden"
#define PROC_FLAGS (MS_NOSUID | MS_NODEV | MS_NOEXEC)
#define NETWORK_CAPABILITIES (1u << 10 | 1u << 12 | 1u << 13) /* bind to low ports, administer, raw packets */

static long own_proc; /* /proc as only the warden has it: files in it can be written */

/* Makes /proc read-only for commands. What they could set there is whom the kernel kills for want of memory, and the
 * warden is to be the last. An engine's rules (AppArmor) may forbid it; then they can. */
static void lock_proc(int launched) {
    own_proc = SYS4(openat, AT_FDCWD, "/proc", O_PATH | O_DIRECTORY | O_CLOEXEC, 0);
    must(own_proc, "/proc");
    long error = SYS5(mount, "/proc", "/proc", 0, MS_BIND | MS_REC, 0);
    if (error >= 0) error = SYS5(mount, 0, "/proc", 0, MS_BIND | MS_REMOUNT | MS_RDONLY | PROC_FLAGS, 0);
    if (launched) must(error, "/proc cannot be made read-only");
}

/* Maps every user or group of this namespace to itself, as far as there are any. Runs in the outer namespace. */
static long map_to_itself(const char *own, const char *of_init) {
    static char outer[4096], inner[8192];
    long n = slurp(own, outer, sizeof outer);
    if (n < 0) return n;
    char *end = inner;
    for (const char *at = outer; *at;) {
        u64 fields[3];
        for (int i = 0; i < 3; i++) {
            while (*at == ' ') at++;
            fields[i] = number(at);
            while (*at >= '0' && *at <= '9') at++;
        }
        while (*at && *at++ != '\n') {}
        *(end = decimal(end, fields[0], 1)) = ' ';
        *(end = decimal(end + 1, fields[0], 1)) = ' ';
        *(end = decimal(end + 1, fields[2], 1)) = '\n';
        *++end = 0;
    }
    return spit_at(own_proc, of_init, inner);
}

/* Switches the effective user and takes back the capabilities that this costs; the permitted ones stay. */
static long act_as(u32 user) {
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3, .pid = 0};
    struct __user_cap_data_struct sets[2];
    long error = SYS3(setresuid, 0, user, 0);
    if (error >= 0) error = SYS2(capget, &header, sets);
    for (int half = 0; half < 2; half++) sets[half].effective = sets[half].permitted;
    return error < 0 ? error : SYS2(capset, &header, sets);
}

/* Moves PID 1 into a user namespace in which every user keeps their number, so files belong to whom they did. The kernel
 * charges what a user holds (inotify instances and watches, pending signals, queued messages, locked memory, processes)
 * to the user in this namespace, and its sum to the namespace's creator outside. The creator is a random user that exists
 * nowhere else: so nothing is charged to an account that another sandbox, or the host, has too.
 *
 * Fails where this process is no root, or the kernel or the outer namespace has no room for it. Then a sandbox shares
 * the limits of its user, and nothing else changes. */
static long enter_own_user_namespace(int own_network) {
    u32 creator = 0;
    i32 ready[2];
    SYS3(getrandom, &creator, sizeof creator, 0);
    long error = SYS2(pipe2, ready, O_CLOEXEC);
    if (error < 0) return error;
    long mapper = SYS5(clone, SIGCHLD, 0, 0, 0, 0);
    if (mapper == 0) {
        u8 entered = 0;
        SYS1(close, ready[1]);
        if (SYS3(read, ready[0], &entered, 1) != 1) quit(1);
        if (map_to_itself("/proc/self/uid_map", "1/uid_map") < 0) quit(1);
        quit(map_to_itself("/proc/self/gid_map", "1/gid_map") < 0);
    }
    error = mapper < 0 ? mapper : act_as(FIRST_CREATOR | (creator & CREATOR_BITS));
    if (error >= 0) error = SYS1(unshare, CLONE_NEWUSER | (own_network ? CLONE_NEWNET : 0));
    if (error >= 0) SYS3(write, ready[1], "!", 1);
    SYS1(close, ready[0]);
    SYS1(close, ready[1]);
    i32 status = 0;
    if (mapper > 0) SYS4(wait4, mapper, &status, 0, 0);
    if (error >= 0 && status) fail("the own user namespace has no map", -EPERM);
    long back = act_as(0);
    if (error >= 0) must(back, "root of the own user namespace");
    return error;
}

/* Gives the sandbox's own instance of terminals a limit; the kernel's is one for all. An engine's rules (AppArmor) may
 * forbid it. */
static void limit_terminals(void) {
    static char options[64];
    decimal(append(options, "ptmxmode=0666,mode=620,max="), MOST_TERMINALS, 1);
    SYS5(mount, 0, "/dev/pts", 0, MS_REMOUNT | MS_NOSUID | MS_NOEXEC, options);
}

static void cover(const char *path, int launched) {
    struct stat file;
    if (SYS4(newfstatat, AT_FDCWD, path, &file, 0) < 0 || S_IS(file.st_mode, S_IFCHR)) return; /* not there, or covered */
    long error = S_IS(file.st_mode, S_IFDIR)
                     ? SYS5(mount, "none", path, "tmpfs", MS_RDONLY | PROC_FLAGS, "size=4k,mode=0555")
                     : SYS5(mount, "/dev/null", path, 0, MS_BIND, 0);
    if (launched) must(error, path);
}

/* Hides what tells how the kernel was built and what it holds. Under our launchers it also makes the kernel's switches
 * read-only; an engine has done that, and may forbid these mounts (AppArmor). */
static void cover_kernel(int launched) {
    static const char *switches[] = {"/proc/sys", "/proc/sysrq-trigger", "/proc/irq", "/proc/bus", "/proc/fs"};
    static const char *hidden[] = {
        "/proc/acpi",    "/proc/asound",      "/proc/config.gz",   "/proc/interrupts", "/proc/iomem",
        "/proc/ioports", "/proc/kallsyms",    "/proc/kcore",       "/proc/key-users",  "/proc/keys",
        "/proc/kmsg",    "/proc/kpagecgroup", "/proc/kpagecount",  "/proc/kpageflags", "/proc/latency_stats",
        "/proc/modules", "/proc/sched_debug", "/proc/scsi",        "/proc/slabinfo",
        "/proc/timer_list",  "/proc/timer_stats", "/proc/vmallocinfo",
    };
    for (u64 i = 0; launched && i < sizeof switches / sizeof *switches; i++) {
        long error = SYS5(mount, switches[i], switches[i], 0, MS_BIND, 0);
        if (error >= 0) error = SYS5(mount, 0, switches[i], 0, MS_BIND | MS_REMOUNT | MS_RDONLY | PROC_FLAGS, 0);
        if (error != -ENOENT) must(error, switches[i]);
    }
    for (u64 i = 0; i < sizeof hidden / sizeof *hidden; i++) cover(hidden[i], launched);
}

/* The kernel's sockaddr_in, ifreq and rtentry; their public headers need a C library. */
struct address {
    unsigned short family, port;
    u32 ip;
    u8 zero[8];
};
struct interface {
    char name[16];
    union {
        struct address address;
        short flags;
        u8 room[24];
    };
};
struct route {
    unsigned long pad1;
    struct address destination, gateway, mask;
    unsigned short flags;
    short pad2;
    unsigned long pad3;
    void *pad4;
    short metric;
    const char *device;
    unsigned long mtu, window;
    unsigned short rtt;
};

static long loopback(const char *name, long request, struct interface *interface) {
    long fd = SYS3(socket, 2 /* AF_INET */, 2 /* SOCK_DGRAM */, 0);
    if (fd < 0) return fd;
    append(interface->name, name);
    long result = SYS3(ioctl, fd, request, interface);
    SYS1(close, fd);
    return result;
}

/* A new network namespace starts with loopback down; bubblewrap and engines have raised it already. */
static void raise_loopback(void) {
    struct interface interface;
    memset(&interface, 0, sizeof interface);
    interface.flags = 1 | 8 | 64; /* up, loopback, running */
    loopback("lo", SIOCSIFFLAGS, &interface);
}

/* The kernel's in6_rtmsg. */
struct route6 {
    u8 destination[16], source[16], gateway[16];
    u32 type;
    unsigned short destination_bits, source_bits;
    u32 metric;
    unsigned long info;
    u32 flags;
    i32 interface;
};

/* Where a kernel or a container has no version 6, its addresses are unreachable; that is no failure. */
static long swallow_packets_of_version_6(void) {
    long fd = SYS3(socket, 10 /* AF_INET6 */, 2, 0);
    if (fd < 0) return 0;
    struct route6 route;
    memset(&route, 0, sizeof route);
    route.flags = 1, route.interface = 1; /* up; loopback is the first interface of its namespace */
    route.metric = 1;
    SYS3(ioctl, fd, SIOCADDRT, &route);
    SYS1(close, fd);
    return 0;
}

/* Makes loopback the default route of both versions of IP, so that connections to anywhere are swallowed instead of
 * refused; some test suites distinguish the two. The source address is the one that is reserved for being nobody's
 * destination (RFC 7600), alone: with a wider mask loopback would answer for its whole network. */
static long swallow_packets(void) {
    struct interface interface;
    memset(&interface, 0, sizeof interface);
    interface.address = (struct address){.family = 2, .ip = 0x080000c0}; /* 192.0.0.8 in network order */
    long result = loopback("lo:1", SIOCSIFADDR, &interface);
    interface.address.ip = 0xffffffff;
    if (result >= 0) result = loopback("lo:1", SIOCSIFNETMASK, &interface);
    long fd = SYS3(socket, 2, 2, 0);
    if (result < 0 || fd < 0) return result < 0 ? result : fd;
    struct route route;
    memset(&route, 0, sizeof route);
    route.destination.family = route.gateway.family = route.mask.family = 2;
    route.flags = 1; /* up */
    route.device = "lo";
    result = SYS3(ioctl, fd, SIOCADDRT, &route);
    SYS1(close, fd);
    return result < 0 ? result : swallow_packets_of_version_6();
}

/* `program` is the name that this binary was started by: under our launchers `OWN_NAME`, a mount that shows where on the
 * host it lies. `kept` are the capabilities that commands will have. */
static void separate(const char *program, u64 kept, int blackhole) {
    int launched = same(program, OWN_NAME);
    limit_terminals();
    cover_kernel(launched);
    lock_proc(launched);
    if (launched) {
        must(SYS2(umount2, OWN_NAME, MNT_DETACH), OWN_NAME);
        SYS3(unlinkat, AT_FDCWD, OWN_NAME, 0);
    }
    /* Capabilities of the network are good for a network namespace of the same user namespace only, and engines switch
     * version 6 of IP off in theirs. */
    int own_network = blackhole || (kept & NETWORK_CAPABILITIES);
    if (!own_network) raise_loopback();
    enter_own_user_namespace(own_network);
    if (own_network) {
        raise_loopback();
        if (blackhole) must(swallow_packets(), "blackhole route");
    }
    if (launched) SYS2(prctl, PR_SET_PDEATHSIG, SIGKILL); /* a change of users has cleared the launcher's setting */
}
