/* How much of the disk a sandbox uses, in bytes and inodes, where the backend cannot limit it by a file system of its own.
 *
 * Cheap first: only if the file system has lost more than a limit since the start does the warden look closer, for
 * neighbours on the same file system can cause that too. Then it counts what this namespace wrote, and the blocks and
 * number of all files that changed since the start. What only an open but deleted file holds, and was allocated without
 * being written, is not seen. */
#pragma once
#include "processes.h"

enum { DISK_CHECK_US = 250000, MOST_DEPTH = 64 };

struct use {
    u64 bytes, inodes;
};
static u64 disk_bytes, next_disk_check_us;
static struct use free_at_start;
static i64 started_at_s;

static struct use free_now(void) {
    struct statfs fs;
    if (SYS2(statfs, "/", &fs) < 0) return (struct use){0, 0};
    return (struct use){(u64)fs.f_bavail * (u64)fs.f_bsize, (u64)fs.f_ffree};
}

static void watch_disk(u64 limit) {
    struct __kernel_timespec t;
    SYS2(clock_gettime, CLOCK_REALTIME, &t);
    started_at_s = t.tv_sec;
    disk_bytes = limit;
    free_at_start = free_now();
}

static int too_much(const struct use *use) { return use->bytes > disk_bytes || use->inodes > most_inodes(disk_bytes); }

/* Bytes that a process caused to be written: its own, and those of its dead children. */
static void add_written(const char *pid, void *context) {
    char path[32], io[512];
    append(append(append(path, "/proc/"), pid), "/io");
    if (slurp(path, io, sizeof io) <= 0) return;
    u64 written = field(io, "write_bytes"), cancelled = field(io, "cancelled_write_bytes");
    if (written > cancelled) *(u64 *)context += written - cancelled;
}

/* Adds what changed below directory `dir` since the start; stays on one file system. */
static void add_changed(long dir, u64 device, int depth, struct use *use) {
    char buffer[4096] __attribute__((aligned(8)));
    long n;
    while (!too_much(use) && (n = SYS3(getdents64, dir, buffer, sizeof buffer)) > 0)
        for (long at = 0; at < n;) {
            struct entry *e = (struct entry *)(buffer + at);
            at += e->size;
            struct stat file;
            if (same(e->name, ".") || same(e->name, "..")) continue;
            if (SYS4(newfstatat, dir, e->name, &file, AT_SYMLINK_NOFOLLOW) < 0) continue;
            if ((i64)file.st_ctime >= started_at_s) use->bytes += (u64)file.st_blocks * 512, use->inodes++;
            if (!S_IS(file.st_mode, S_IFDIR) || (u64)file.st_dev != device || depth == MOST_DEPTH) continue;
            long below = SYS4(openat, dir, e->name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW, 0);
            if (below < 0) continue;
            add_changed(below, device, depth + 1, use);
            SYS1(close, below);
        }
}

static int over_disk_limit(u64 now) {
    if (!disk_bytes || now < next_disk_check_us) return 0;
    next_disk_check_us = now + DISK_CHECK_US;
    struct use left = free_now(), lost = {0, 0}, changed = {0, 0};
    if (free_at_start.bytes > left.bytes) lost.bytes = free_at_start.bytes - left.bytes;
    if (free_at_start.inodes > left.inodes) lost.inodes = free_at_start.inodes - left.inodes;
    if (!too_much(&lost)) return 0;
    u64 written = 0;
    add_written("1", &written);
    each_process(add_written, &written);
    if (lost.bytes > disk_bytes && written > disk_bytes) return 1;
    struct stat root;
    long dir = SYS4(openat, AT_FDCWD, "/", O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
    if (dir < 0 || SYS2(fstat, dir, &root) < 0) return 0;
    add_changed(dir, (u64)root.st_dev, 0, &changed);
    SYS1(close, dir);
    next_disk_check_us = now_us() + DISK_CHECK_US;
    return too_much(&changed);
}
