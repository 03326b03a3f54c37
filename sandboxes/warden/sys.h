/* The few system calls that the warden needs, without a C library: one static binary of some kilobytes runs in every
 * Linux image of its architecture, whatever libc the image has. All calls return the kernel's value: negative is -errno. */
#pragma once
#include <asm/ioctls.h>
#include <asm/stat.h>
#include <asm/unistd.h>
#include <linux/audit.h>
#include <linux/capability.h>
#include <linux/errno.h>
#include <linux/fcntl.h>
#include <linux/filter.h>
#include <linux/mman.h>
#include <linux/mount.h>
#include <linux/poll.h>
#include <linux/prctl.h>
#include <linux/resource.h>
#include <linux/sched.h>
#include <linux/seccomp.h>
#include <linux/sockios.h>
#include <linux/stat.h>
#include <linux/time.h>
#include <linux/types.h>
#include <linux/wait.h>
#include <asm/statfs.h>

typedef __u8 u8;
typedef __u32 u32;
typedef __s32 i32;
typedef __u64 u64;
typedef __s64 i64;

static inline long call6(long n, long a, long b, long c, long d, long e, long f) {
#if defined(__x86_64__)
    long result;
    register long r10 __asm__("r10") = d;
    register long r8 __asm__("r8") = e;
    register long r9 __asm__("r9") = f;
    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "a"(n), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                     : "rcx", "r11", "memory");
    return result;
#elif defined(__aarch64__)
    register long x8 __asm__("x8") = n;
    register long x0 __asm__("x0") = a;
    register long x1 __asm__("x1") = b;
    register long x2 __asm__("x2") = c;
    register long x3 __asm__("x3") = d;
    register long x4 __asm__("x4") = e;
    register long x5 __asm__("x5") = f;
    __asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5) : "memory");
    return x0;
#else
#error "the warden knows x86_64 and aarch64"
#endif
}

#define SYS6(name, a, b, c, d, e, f) call6(__NR_##name, (long)(a), (long)(b), (long)(c), (long)(d), (long)(e), (long)(f))
#define SYS5(name, a, b, c, d, e) SYS6(name, a, b, c, d, e, 0)
#define SYS4(name, a, b, c, d) SYS6(name, a, b, c, d, 0, 0)
#define SYS3(name, a, b, c) SYS6(name, a, b, c, 0, 0, 0)
#define SYS2(name, a, b) SYS6(name, a, b, 0, 0, 0, 0)
#define SYS1(name, a) SYS6(name, a, 0, 0, 0, 0, 0)
#define SYS0(name) SYS6(name, 0, 0, 0, 0, 0, 0)

#define KERNEL_SIGSET_BYTES 8
enum { SIGKILL = 9, SIGCHLD = 17, SIG_BLOCK = 0 };
#define MNT_DETACH 2
#define NEVER_KILLED "-1000" /* for want of memory; the most of /proc/PID/oom_score_adj */
#define S_IS(mode, kind) (((mode) & S_IFMT) == (kind))

__attribute__((noreturn)) static inline void quit(int code) {
    for (;;) SYS1(exit_group, code);
}

/* The compiler may emit calls to these two. */
void *memcpy(void *to, const void *from, unsigned long n) {
    for (unsigned long i = 0; i < n; i++) ((u8 *)to)[i] = ((const u8 *)from)[i];
    return to;
}
void *memset(void *to, int value, unsigned long n) {
    for (unsigned long i = 0; i < n; i++) ((u8 *)to)[i] = (u8)value;
    return to;
}

static unsigned long length(const char *s) {
    unsigned long n = 0;
    while (s[n]) n++;
    return n;
}
static int same(const char *a, const char *b) {
    while (*a && *a == *b) a++, b++;
    return *a == *b;
}
static u64 number(const char *s) {
    u64 n = 0;
    while (*s >= '0' && *s <= '9') n = n * 10 + (u64)(*s++ - '0');
    return n;
}
/* Writes `n` in decimal at `to`, at least `width` digits, without a final NUL; returns the end. */
static char *decimal(char *to, u64 n, int width) {
    char digits[24];
    int count = 0;
    do {
        digits[count++] = (char)('0' + n % 10);
        n /= 10;
    } while (n);
    while (count < width) digits[count++] = '0';
    while (count) *to++ = digits[--count];
    return to;
}
static char *append(char *to, const char *s) {
    while (*s) *to++ = *s++;
    *to = 0;
    return to;
}

/* How many inodes go with a disk limit; 0 for none. The same ratio as on a new ext4, and some for small disks. */
static u64 most_inodes(u64 disk_bytes) { return disk_bytes ? disk_bytes / 16384 + 16384 : 0; }

static u64 now_us(void) {
    struct __kernel_timespec t;
    SYS2(clock_gettime, CLOCK_MONOTONIC, &t);
    return (u64)t.tv_sec * 1000000u + (u64)t.tv_nsec / 1000u;
}

/* Reads a small file whole into `to` (at most `room` - 1 bytes, NUL-terminated); negative on failure. */
static long slurp(const char *path, char *to, long room) {
    long fd = SYS4(openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC | O_NONBLOCK, 0);
    if (fd < 0) return fd;
    long used = 0, got;
    while (used < room - 1 && (got = SYS3(read, fd, to + used, room - 1 - used)) > 0) used += got;
    to[used] = 0;
    SYS1(close, fd);
    return used;
}
static long spit_at(long dir, const char *path, const char *text) {
    long fd = SYS4(openat, dir, path, O_WRONLY | O_CLOEXEC, 0);
    if (fd < 0) return fd;
    long result = SYS3(write, fd, text, length(text));
    SYS1(close, fd);
    return result;
}
static long spit(const char *path, const char *text) { return spit_at(AT_FDCWD, path, text); }
static long write_all(long fd, const void *from, u64 n) {
    while (n) {
        long put = SYS3(write, fd, from, n);
        if (put == -EINTR) continue;
        if (put < 0) return put;
        from = (const u8 *)from + put, n -= (u64)put;
    }
    return 0;
}
/* The number after `key` in `text`, 0 if it is not there. */
static u64 field(const char *text, const char *key) {
    unsigned long n = length(key);
    for (const char *line = text; *line;) {
        unsigned long i = 0;
        while (i < n && line[i] == key[i]) i++;
        if (i == n) {
            const char *digits = line + n;
            while (*digits == ' ' || *digits == ':') digits++;
            return number(digits);
        }
        while (*line && *line != '\n') line++;
        if (*line) line++;
    }
    return 0;
}
