/* The warden: PID 1 of every sandbox. It takes requests on stdin, runs commands, moves files, and answers on stdout.
 *
 *   warden serve TTL_S DISK_BYTES CAPABILITY_MASK BLACKHOLE WORKDIR CPU_MILLIS CPU_COUNTER      (inside, as PID 1)
 *   warden launch ...                                       (outside, see launch.h)
 *   warden clock [WALL_US USED_US IDLE_US WANTED_US]...     (how far the clock of a limit moves, for tests)
 *   warden confine CAPABILITY_MASK COMMAND...               (inside, for a person's shell)
 *   warden forward PORT SOCKET COMMAND...                   (inside, in a command: see forward.h)
 *
 * One request at a time. A request is {magic, operation, id, payload bytes} and the payload; a reply is {magic, id,
 * errno, payload bytes} and the payload; all numbers little-endian. `swe_aem/sandbox/channel.py` is the other end.
 *
 * When stdin closes (the owner died) or the time to live is over the warden exits, and the kernel ends all that is left in
 * the namespace. It is not dumpable, so a command cannot write to its memory or its descriptors. Build: build.sh. */
#include "clock.h"
#include "confine.h"
#include "disk.h"
#include "forward.h"
#include "launch.h"
#include "separate.h"
#include "tree.h"

/* Which source a binary was built from; a test compares it with the sources. */
__attribute__((used, section(".source"))) static const char source_digest[] = "warden-source=" SOURCE_DIGEST;

enum { MAGIC = 0x44525721, RUN = 1, READ = 2, WRITE = 3, CANCEL = 4, PING = 5 };
enum { SETTLE = 6, LIST_TREE = 7, READ_TREE = 8, CHANGE_TREE = 9, READ_OUTPUT = 10 };
enum { NOT_KILLED = 0, TIMEOUT = 1, DISK = 2, CANCELLED = 3, STARVED = 4 };
enum { POLL_MS = 200 }; /* how often disk use is looked at, at least, while something runs */
enum { RESERVED_OUTPUT_BYTES = 16384, OUTPUT_IN_MEMORY_BYTES = 8 << 20 };

struct request {
    u32 magic, operation, id, size;
};
struct reply {
    u32 magic, id, error, size;
};
struct run {
    u32 timeout_ms, head_max, tail_max, wall_ms;
}; /* then cwd, command and the environment, each ended by NUL */
struct result {
    u32 exit_code, killed_for, killed, survivors, kept, call;
    u64 wall_us, starved_us, used_us, output_bytes;
    u32 head, tail;
}; /* then head and tail */

static u64 expires_us, calls, disk_kills;
static long child_events, no_input, last_output = -1;

/* ---- frames ---- */

static void read_all(void *to, u64 n) {
    while (n) {
        long got = SYS3(read, 0, to, n);
        if (got == -EINTR) continue;
        if (got <= 0) quit(0); /* the owner is gone */
        to = (u8 *)to + got, n -= (u64)got;
    }
}
static void discard(u64 n) {
    char bytes[4096];
    for (; n; n -= n < sizeof bytes ? n : sizeof bytes) read_all(bytes, n < sizeof bytes ? n : sizeof bytes);
}
static void send(const void *data, u64 n) {
    if (write_all(1, data, n) < 0) quit(0);
}
static void answer(u32 id, long error, u32 size) {
    struct reply reply = {MAGIC, id, error < 0 ? (u32)-error : 0, size};
    send(&reply, sizeof reply);
}
/* A reply whose payload says which path an error is about. */
static void answer_path(u32 id, long error, const char *path) {
    u32 size = error < 0 ? (u32)length(path) : 0;
    answer(id, error, size);
    send(path, size);
}

/* ---- files of the warden's own ---- */

static char private_dir[64], output_dir[64], work_tree[4096];

/* Is `dir` the work tree or below it? By the names that the kernel has for both, so links make no difference. */
static int in_work_tree(long dir) {
    char handle[40], path[4096];
    *decimal(append(handle, "/proc/self/fd/"), (u64)dir, 1) = 0;
    long n = SYS4(readlinkat, AT_FDCWD, handle, path, sizeof path - 1);
    if (n < 0) return 1;
    path[n] = 0;
    unsigned long root = length(work_tree);
    for (unsigned long i = 0; i < root; i++)
        if (path[i] != work_tree[i]) return 0;
    return path[root] == 0 || path[root] == '/';
}
static void find_work_tree(const char *workdir) {
    char handle[40];
    if (length(workdir) < sizeof work_tree) append(work_tree, workdir);
    long dir = SYS4(openat, AT_FDCWD, workdir, O_PATH | O_DIRECTORY | O_CLOEXEC, 0);
    if (dir < 0) return;
    *decimal(append(handle, "/proc/self/fd/"), (u64)dir, 1) = 0;
    long n = SYS4(readlinkat, AT_FDCWD, handle, work_tree, sizeof work_tree - 1);
    if (n > 0) work_tree[n] = 0;
    SYS1(close, dir);
}

/* A handle on a directory of ours, made if it is not there; an error where a link leads into the work tree. */
static long own_directory(const char *path, u32 mode) {
    int made = SYS3(mkdirat, AT_FDCWD, path, mode) == 0;
    long dir = SYS4(openat, AT_FDCWD, path, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC, 0);
    if (dir < 0 || !in_work_tree(dir)) return dir;
    SYS1(close, dir);
    if (made) SYS3(unlinkat, AT_FDCWD, path, AT_REMOVEDIR);
    return -EPERM;
}

/* The first place for private files that is no part of the work tree and can be written to. */
static void find_private_dir(void) {
    static const char *places[] = {"/tmp", "/var/tmp", "/dev/shm", "/run"};
    for (unsigned i = 0; i < sizeof places / sizeof places[0]; i++) {
        append(append(private_dir, places[i]), "/swe-aem-private");
        append(append(output_dir, places[i]), "/swe-aem-output");
        long dir = own_directory(private_dir, 0700), output = dir < 0 ? dir : own_directory(output_dir, 0755);
        long usable = output < 0 ? output : SYS3(faccessat, output, ".", 2 /* W_OK */);
        if (usable >= 0) usable = SYS3(faccessat, dir, ".", 2);
        if (dir >= 0) SYS1(close, dir);
        if (output >= 0) SYS1(close, output);
        if (usable >= 0) return;
    }
    fail("no directory for private files: none of /tmp, /var/tmp, /dev/shm and /run can be written to and lies outside "
         "of the work tree", -EACCES);
}

/* A new file for the output, with room reserved so that the message about a full disk still fits; memory where there is
 * no room or no directory. `*kept` says whether it has a name. What stands at its name is removed or avoided. */
static long open_output(u32 *kept) {
    char name[32];
    append(decimal(name, calls, 6), ".log");
    long dir = own_directory(output_dir, 0755), fd = dir;
    for (int try = 0; dir >= 0 && try < 2; try++) {
        fd = SYS4(openat, dir, name, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0644);
        if (fd != -EEXIST || SYS3(unlinkat, dir, name, 0) < 0) break;
    }
    if (dir >= 0) SYS1(close, dir);
    *kept = fd >= 0 && SYS4(fallocate, fd, 1 /* FALLOC_FL_KEEP_SIZE */, 0, RESERVED_OUTPUT_BYTES) != -ENOSPC;
    if (*kept) {
        SYS3(fcntl, fd, F_SETFL, O_RDWR); /* the command's own descriptor blocks as usual */
        return fd;
    }
    if (fd >= 0) SYS1(close, fd);
    return SYS2(memfd_create, "output", 1 /* MFD_CLOEXEC */);
}

/* ---- running a command ---- */

/* What a command does must not depend on how the orchestrator was started: a signal that `nohup` or a shell's `&` ignores
 * stays ignored over execve, and a shell's `ulimit` reaches every process below it. Soft limits are what engines give a
 * container: as many open files as programs that visit every descriptor can bear, 8 MiB of stack, and of the rest all. */
static void forget_the_caller(void) {
    u64 default_action[4] = {0}; /* at least as large as the kernel's struct sigaction */
    for (int signal = 1; signal <= 64; signal++) SYS4(rt_sigaction, signal, default_action, 0, KERNEL_SIGSET_BYTES);
    for (int kind = 0; kind < RLIM_NLIMITS; kind++) {
        u64 limit[2]; /* soft, hard */
        if (SYS4(prlimit64, 0, kind, 0, limit) < 0) continue;
        limit[0] = limit[1];
        if (kind == RLIMIT_NOFILE && limit[0] > 1 << 20) limit[0] = limit[1] = 1 << 20;
        if (kind == RLIMIT_STACK && limit[0] > 8 << 20) limit[0] = 8 << 20;
        SYS4(prlimit64, 0, kind, limit, 0);
    }
}

__attribute__((noreturn)) static void become(const char *cwd, const char *command, char **env, long output) {
    u64 none = 0;
    SYS4(rt_sigprocmask, 2 /* SIG_SETMASK */, &none, 0, KERNEL_SIGSET_BYTES);
    SYS0(setsid);
    SYS1(umask, 022);
    /* Descriptors 0 and 1 are the control channel until here: no command may start with it. */
    if (SYS3(dup3, no_input, 0, 0) < 0 || SYS3(dup3, output, 1, 0) < 0 || SYS3(dup3, output, 2, 0) < 0) quit(125);
    spit_at(own_proc, "self/oom_score_adj", "500"); /* rather a command than the warden */
    u64 no_core[2] = {0, 0}, largest_file[2] = {disk_bytes, disk_bytes};
    SYS4(prlimit64, 0, RLIMIT_CORE, no_core, 0);
    if (disk_bytes) SYS4(prlimit64, 0, RLIMIT_FSIZE, largest_file, 0);
    if (SYS1(chdir, cwd) < 0) {
        static const char what[] = "swe-aem: no such working directory: ";
        write_all(2, what, sizeof what - 1);
        write_all(2, cwd, length(cwd));
        write_all(2, "\n", 1);
        quit(126);
    }
    if (filter_system_calls() < 0) quit(125); /* never unconfined */
    const char *argv[] = {"bash", "-c", command, 0};
    SYS3(execve, "/bin/bash", argv, env);
    static const char what[] = "swe-aem: cannot execute /bin/bash\n";
    write_all(2, what, sizeof what - 1);
    quit(127);
}

/* Waits until `main` has ended; kills what it started when time is up, the disk limit is passed or the owner cancels. */
static u32 supervise(i32 main, i32 *status, struct clock *clock, const struct table *before, struct result *result) {
    int ended = 0;
    for (;;) {
        reap(main, status, &ended);
        if (ended) return NOT_KILLED;
        u64 now = now_us(), wait_us = clock_wait_us(clock, now);
        if (now >= expires_us) quit(0);
        if (wait_us > POLL_MS * 1000) wait_us = POLL_MS * 1000;
        struct __kernel_timespec wait = {(i64)(wait_us / 1000000), (i64)(wait_us % 1000000) * 1000};
        struct pollfd fds[2] = {{.fd = (i32)child_events, .events = POLLIN}, {.fd = 0, .events = POLLIN}};
        SYS5(ppoll, fds, 2, &wait, 0, 0);
        u32 why = NOT_KILLED;
        if (fds[0].revents & POLLIN) {
            u8 discard[128 * 4];
            SYS3(read, child_events, discard, sizeof discard);
        }
        if (fds[1].revents & POLLIN) {
            struct request request;
            read_all(&request, sizeof request);
            if (request.magic != MAGIC || request.operation != CANCEL || request.size) quit(1);
            why = CANCELLED;
        } else if (fds[1].revents & (POLLHUP | POLLERR))
            quit(0);
        int time = look_at_clock(clock, now_us());
        if (!why && time) why = time == TIME_IS_UP ? TIMEOUT : STARVED;
        else if (!why && over_disk_limit(now_us())) why = DISK;
        if (why) {
            disk_kills += why == DISK;
            result->survivors = kill_others(before, &result->killed);
            reap(main, status, &ended);
            return why;
        }
    }
}

static void run(u32 id, char *payload, u32 size) {
    static struct table before;
    static const char *env[4096];
    struct run *how = (struct run *)payload;
    char *cwd = payload + sizeof *how, *end = payload + size;
    char *command = cwd + length(cwd) + 1, *variable = command + length(command) + 1;
    int count = 0;
    for (; variable < end && count < 4095; variable += length(variable) + 1) env[count++] = variable;
    env[count] = 0;

    struct result result;
    memset(&result, 0, sizeof result);
    result.call = (u32)++calls;
    long output = open_output(&result.kept);
    if (last_output >= 0) SYS1(close, last_output);
    last_output = output;
    if (output < 0) return answer(id, output, 0);

    i32 status = 0;
    int ended = 0;
    before.count = 0;
    if (reap(-1, &status, &ended)) list_processes(&before); /* no child left: the table would be empty */
    u64 from = now_us(), used_us = used_now_us();
    struct clock clock = start_clock(from, (u64)how->timeout_ms * 1000, (u64)how->wall_ms * 1000);
    long pid = SYS5(clone, SIGCHLD, 0, 0, 0, 0);
    if (pid == 0) become(cwd, command, (char **)env, output);
    if (pid < 0) { /* older background processes hold all pids: they go, and the caller is told */
        before.count = 0;
        result.survivors = end_everything(&result.killed);
        pid = SYS5(clone, SIGCHLD, 0, 0, 0, 0);
        if (pid == 0) become(cwd, command, (char **)env, output);
    }
    if (pid < 0) return answer(id, pid, 0);
    result.killed_for = supervise((i32)pid, &status, &clock, &before, &result);
    u64 until = now_us();
    if (clock.measured) close_window(&clock, until);
    result.wall_us = until - from;
    result.starved_us = clock.starved_us;
    result.used_us = used_now_us() - used_us;
    i32 signal = status & 0x7f;
    int late = result.killed_for == TIMEOUT || result.killed_for == STARVED;
    result.exit_code = late ? 124 : signal ? 128 + (u32)signal : (u32)status >> 8 & 0xff;

    struct stat file;
    memset(&file, 0, sizeof file);
    SYS2(fstat, output, &file);
    result.output_bytes = (u64)file.st_size;
    if (!result.kept && file.st_size > OUTPUT_IN_MEMORY_BYTES) { /* nothing may hold so much once the command is over */
        SYS2(ftruncate, output, OUTPUT_IN_MEMORY_BYTES);
        result.output_bytes = OUTPUT_IN_MEMORY_BYTES;
    }
    u64 head = how->head_max, tail = how->tail_max;
    if (result.output_bytes <= head + tail) head = result.output_bytes, tail = 0;
    u8 *text = room(head + tail);
    if (!text) return answer(id, -ENOMEM, 0);
    long got = SYS4(pread64, output, text, head, 0);
    result.head = got > 0 ? (u32)got : 0;
    if (tail) {
        got = SYS4(pread64, output, text + result.head, tail, result.output_bytes - tail);
        result.tail = got > 0 ? (u32)got : 0;
    }
    answer(id, 0, (u32)sizeof result + result.head + result.tail);
    send(&result, sizeof result);
    send(text, result.head + result.tail);
    SYS2(munmap, text, head + tail ? head + tail : 1);
}

/* ---- files ---- */

static long open_regular(const char *path, struct stat *file) {
    long fd = SYS4(openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY, 0);
    if (fd < 0) return fd;
    long error = SYS2(fstat, fd, file);
    if (error >= 0 && S_IS(file->st_mode, S_IFDIR)) error = -EISDIR;
    else if (error >= 0 && !S_IS(file->st_mode, S_IFREG)) error = -EINVAL; /* a pipe or device could block for ever */
    if (error >= 0) return fd;
    SYS1(close, fd);
    return error;
}

/* Answers with the content of a regular file, at most `most` bytes; closes it. */
static void answer_content(u32 id, long fd, u64 most) {
    struct stat file;
    long error = SYS2(fstat, fd, &file);
    u64 want = error < 0 || (u64)file.st_size <= 65536 ? 65536 : (u64)file.st_size + 1; /* /proc claims to be empty */
    if (error >= 0 && (u64)file.st_size > most) error = -EFBIG;
    u8 *data = error < 0 ? 0 : room(want);
    if (error >= 0 && !data) error = -ENOMEM;
    u64 used = 0;
    while (error >= 0 && used < want) {
        long got = SYS4(pread64, fd, data + used, want - used, used);
        if (got < 0) error = got;
        if (got <= 0) break;
        used += (u64)got;
    }
    SYS1(close, fd);
    if (error >= 0 && used > most) error = -EFBIG;
    answer(id, error, error < 0 ? 0 : (u32)used);
    if (error >= 0) send(data, used);
    if (data) SYS2(munmap, data, want);
}

/* Payload: u64 largest size, then the path. */
static void read_file(u32 id, char *payload) {
    struct stat file;
    long fd = open_regular(payload + 8, &file);
    if (fd < 0) return answer(id, fd, 0);
    answer_content(id, fd, *(u64 *)payload);
}

/* Payload: u64 largest size, u64 offset. The descriptor that the last command wrote to: names play no part. */
static void read_output(u32 id, char *payload) {
    u64 most = ((u64 *)payload)[0], offset = ((u64 *)payload)[1], used = 0;
    if (last_output < 0) return answer(id, -ENOENT, 0);
    u8 *data = room(most);
    long got = data ? 0 : -ENOMEM;
    while (got >= 0 && used < most && (got = SYS4(pread64, last_output, data + used, most - used, offset + used)) > 0)
        used += (u64)got;
    answer(id, got, got < 0 ? 0 : (u32)used);
    if (got >= 0) send(data, used);
    if (data) SYS2(munmap, data, most ? most : 1);
}

static void make_parents(char *path) {
    for (char *at = path + 1; *at; at++)
        if (*at == '/') {
            *at = 0;
            SYS3(mkdirat, AT_FDCWD, path, 0755);
            *at = '/';
        }
}

/* Follows symbolic links of the last component, so that a link stays a link and its target is replaced. */
static long follow(char *path, unsigned long size) {
    char link[4096];
    for (int hops = 0; hops < 32; hops++) {
        long n = SYS4(readlinkat, AT_FDCWD, path, link, sizeof link - 1);
        if (n < 0) return 0; /* not a link, or not there */
        link[n] = 0;
        char *name = path + length(path);
        while (name > path && name[-1] != '/') name--;
        if (link[0] == '/') name = path;
        if ((unsigned long)(name - path) + (unsigned long)n + 1 > size) return -ENAMETOOLONG;
        append(name, link);
    }
    return -ELOOP;
}

/* A name in the directory of `path` that nobody can have foreseen. */
static long draft_name(char *draft, unsigned long size, const char *path) {
    u8 random[16];
    unsigned long n = length(path);
    while (n && path[n - 1] != '/') n--;
    if (n + 64 > size) return -ENAMETOOLONG;
    if (SYS3(getrandom, random, sizeof random, 0) != sizeof random) return -EAGAIN;
    memcpy(draft, path, n);
    char *end = append(draft + n, ".swe-aem-");
    for (unsigned i = 0; i < sizeof random; i++)
        *end++ = "0123456789abcdef"[random[i] >> 4], *end++ = "0123456789abcdef"[random[i] & 15];
    *end = 0;
    return 0;
}

/* Payload: the path, then the content. The old file stays whole until the new one is on disk. */
static void write_file(u32 id, char *payload, u32 size) {
    static char path[4096], draft[4200];
    unsigned long n = length(payload) + 1;
    if (n > sizeof path) return answer(id, -ENAMETOOLONG, 0);
    append(path, payload);
    make_parents(path);
    long error = follow(path, sizeof path);
    if (error >= 0) error = draft_name(draft, sizeof draft, path);
    if (error < 0) return answer(id, error, 0);
    struct stat old;
    int exists = SYS4(newfstatat, AT_FDCWD, path, &old, 0) >= 0;
    if (exists && !S_IS(old.st_mode, S_IFREG)) return answer(id, S_IS(old.st_mode, S_IFDIR) ? -EISDIR : -EINVAL, 0);
    long fd = SYS4(openat, AT_FDCWD, draft, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0644);
    if (fd < 0) return answer(id, fd, 0);
    if (exists) {
        SYS3(fchown, fd, old.st_uid, old.st_gid); /* may be refused; then the file changes its owner */
        SYS2(fchmod, fd, old.st_mode & 07777);
    }
    error = write_all(fd, payload + n, size - n);
    SYS1(close, fd);
    if (error >= 0) error = SYS5(renameat2, AT_FDCWD, draft, AT_FDCWD, path, 0);
    if (error < 0) SYS3(unlinkat, AT_FDCWD, draft, 0);
    answer(id, error, 0);
}

/* ---- the work tree ---- */

/* Ends every process but this one. Answers {how many there were, how many could not be ended}. */
static void settle(u32 id) {
    u32 counts[2];
    counts[1] = end_everything(&counts[0]);
    answer(id, 0, sizeof counts);
    send(counts, sizeof counts);
}

/* Payload: u32 most entries, u32 unused, the root. The reply is what list_tree made. */
static void answer_list(u32 id, char *payload) {
    struct buffer b = {0, 0, 0};
    long error = list_tree(&b, payload + 8, *(u32 *)payload);
    if (error < 0) answer(id, error, 0);
    else answer(id, 0, (u32)b.used), send(b.data, b.used);
    release(&b);
}

/* Payload: u64 most bytes of a file, u64 most bytes of the reply, then the root and the paths, each ended by NUL. The
 * reply has as many files as fit, at least one. */
static void read_tree(u32 id, char *payload, u32 size) {
    const u64 *most = (u64 *)payload;
    char *end = payload + size, *path = payload + 16 + length(payload + 16) + 1;
    struct buffer b = {0, 0, 0};
    long root = enter_root(payload + 16), error = root;
    const char *about = payload + 16;
    for (; error >= 0 && path < end && (!b.used || b.used < most[1]); path += length(path) + 1)
        error = add_content(&b, root, path, most[0]), about = path;
    if (root >= 0) SYS1(close, root);
    close_again(0);
    if (error < 0) answer_path(id, error, about);
    else answer(id, 0, (u32)b.used), send(b.data, b.used);
    release(&b);
}

static u32 take(char **at) {
    u32 n;
    memcpy(&n, *at, 4);
    *at += 4;
    return n;
}

/* Payload: the root ended by NUL, then changes: {u32 mode, u32 bytes of content, path ended by NUL, content}, in their
 * order; mode 0 removes. */
static void change_tree(u32 id, char *payload, u32 size) {
    char *end = payload + size, *at = payload + length(payload) + 1;
    const char *about = payload;
    long root = enter_root(payload), error = root;
    while (error >= 0 && at + 8 < end) {
        u32 mode = take(&at), bytes = take(&at);
        char *path = at, *content = at + length(at) + 1;
        at = content + bytes;
        about = path;
        error = at > end ? -EINVAL : mode ? write_path(root, path, mode, content, bytes) : remove_path(root, path);
        close_again(1);
    }
    if (root >= 0) SYS1(close, root);
    close_again(0);
    answer_path(id, error, about);
}

/* ---- serving ---- */

/* Answers {u64 how often the disk limit ended everything, the private directory}. */
static void answer_ping(u32 id) {
    u32 n = (u32)length(private_dir);
    answer(id, 0, (u32)sizeof disk_kills + n);
    send(&disk_kills, sizeof disk_kills);
    send(private_dir, n);
}

static void serve_one(void) {
    struct request request;
    read_all(&request, sizeof request);
    if (request.magic != MAGIC) quit(1);
    if (request.operation == CANCEL) return; /* its command ended in the meantime */
    char *payload = room((u64)request.size + 1); /* the last byte stays NUL */
    if (!payload) {
        discard(request.size);
        return answer(request.id, -ENOMEM, 0);
    }
    read_all(payload, request.size);
    if (request.operation == RUN) run(request.id, payload, request.size);
    else if (request.operation == READ) read_file(request.id, payload);
    else if (request.operation == WRITE) write_file(request.id, payload, request.size);
    else if (request.operation == SETTLE) settle(request.id);
    else if (request.operation == LIST_TREE) answer_list(request.id, payload);
    else if (request.operation == READ_TREE) read_tree(request.id, payload, request.size);
    else if (request.operation == CHANGE_TREE) change_tree(request.id, payload, request.size);
    else if (request.operation == READ_OUTPUT) read_output(request.id, payload);
    else if (request.operation == PING) answer_ping(request.id);
    else answer(request.id, -ENOSYS, 0);
    SYS2(munmap, payload, (u64)request.size + 1);
}

__attribute__((noreturn)) static void serve(char **argv) {
    if (SYS0(getpid) != 1) fail("serve must be PID 1 of its own namespace", -EPERM);
    expires_us = now_us() + number(argv[0]) * 1000000u;
    long detached = SYS2(umount2, "/.old-root", MNT_DETACH); /* left by the util-linux launcher's pivot_root */
    if (detached < 0 && detached != -ENOENT && detached != -EINVAL && detached != -EPERM) fail("old root", detached);
    forget_the_caller();
    no_input = SYS4(openat, AT_FDCWD, "/dev/null", O_RDONLY | O_CLOEXEC, 0); /* later it may be gone or a trap */
    must(no_input, "/dev/null");
    separate(argv[-2], number(argv[2]), (int)number(argv[3]));
    SYS1(umask, 0); /* modes are exact */
    find_work_tree(argv[4]);
    find_private_dir();
    SYS2(prctl, PR_SET_DUMPABLE, 0);
    must(SYS5(prctl, PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no_new_privs");
    must(drop_capabilities(number(argv[2])), "capabilities cannot be dropped");
    watch_disk(number(argv[1]));
    measure_processors(number(argv[5]), number(argv[6]));
    u64 chld = 1u << (SIGCHLD - 1);
    SYS4(rt_sigprocmask, SIG_BLOCK, &chld, 0, KERNEL_SIGSET_BYTES);
    child_events = SYS4(signalfd4, -1, &chld, KERNEL_SIGSET_BYTES, O_CLOEXEC | O_NONBLOCK);
    must(child_events, "signalfd");
    for (;;) {
        i32 status;
        int ended;
        u32 killed;
        int background = reap(-1, &status, &ended);
        u64 now = now_us();
        if (now >= expires_us) quit(0);
        if (background && over_disk_limit(now)) disk_kills++, end_everything(&killed);
        struct __kernel_timespec wait = {(i64)((expires_us - now) / 1000000) + 1, 0};
        if (background && disk_bytes) wait = (struct __kernel_timespec){0, POLL_MS * 1000000};
        struct pollfd fds[2] = {{.fd = 0, .events = POLLIN}, {.fd = (i32)child_events, .events = POLLIN}};
        SYS5(ppoll, fds, 2, &wait, 0, 0);
        if (fds[1].revents & POLLIN) {
            u8 discard[128 * 4];
            SYS3(read, child_events, discard, sizeof discard);
        }
        if (fds[0].revents & POLLIN) serve_one();
        else if (fds[0].revents & (POLLHUP | POLLERR)) quit(0);
    }
}

/* `warden clock`: prints one line for every four numbers. */
__attribute__((noreturn)) static void try_clock(char **argv) {
    char text[32];
    for (; argv[0] && argv[1] && argv[2] && argv[3]; argv += 4) {
        char *end = decimal(text, advance(number(argv[0]), number(argv[1]), number(argv[2]), number(argv[3])), 1);
        *end++ = '\n';
        write_all(1, text, (u64)(end - text));
    }
    quit(0);
}

/* For a person's shell, which enters from outside with more than a command has: the limits of every command. */
__attribute__((noreturn)) static void confine(char **argv, char **env) {
    forget_the_caller();
    must(SYS3(close_range, 3, ~0u, 0), "close_range"); /* the launcher's way to this binary, for one */
    must(SYS5(prctl, PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no_new_privs");
    must(drop_capabilities(number(argv[0])), "capabilities cannot be dropped");
    must(filter_system_calls(), "system-call filter");
    long result = SYS3(execve, argv[1], argv + 1, env);
    fail(argv[1], result);
}

__attribute__((used, noreturn)) void start(long *stack) {
    long argc = stack[0];
    char **argv = (char **)(stack + 1), **env = argv + argc + 1;
    if (argc == 9 && same(argv[1], "serve")) serve(argv + 2);
    if (argc > 3 && same(argv[1], "launch")) launch(argv + 2, env);
    if (argc > 1 && same(argv[1], "clock")) try_clock(argv + 2);
    if (argc > 3 && same(argv[1], "confine")) confine(argv + 2, env);
    if (argc > 4 && same(argv[1], "forward")) forward(argv + 2, env);
    fail("usage: warden serve TTL_S DISK_BYTES CAPABILITY_MASK BLACKHOLE WORKDIR CPU_MILLIS CPU_COUNTER | launch ...", -EINVAL);
}

#if defined(__x86_64__)
__asm__(".globl _start\n_start: mov %rsp, %rdi\n and $-16, %rsp\n call start\n");
#else
__asm__(".globl _start\n_start: mov x0, sp\n bl start\n");
#endif
