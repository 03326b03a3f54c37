/* Which processes live in this PID namespace, and how to end those that a command started.
 *
 * The warden is PID 1: whatever loses its parent becomes its child, and nothing in the namespace can signal it. So the
 * process table says the truth about what a command left behind, `setsid` and double forks included. */
#pragma once
#include "sys.h"

struct process {
    i32 pid;
    u64 started; /* clock ticks since boot; tells a reused pid from the process that had it before */
};
enum { MAX_PROCESSES = 8192 };

struct entry { /* linux_dirent64 */
    u64 inode;
    i64 next;
    unsigned short size;
    u8 type;
    char name[];
};

/* The field that is `index` places behind the process state in /proc/PID/stat. */
static u64 stat_field(const char *state, int index) {
    for (int space = 0; space < index && *state; state++) space += *state == ' ';
    return number(state);
}

/* Start time of a live process; 0 for one that is gone or a zombie. A leader that ended before its threads looks like a
 * zombie but lives. */
static u64 started(const char *pid) {
    char path[32], stat[512];
    append(append(append(path, "/proc/"), pid), "/stat");
    long n = slurp(path, stat, sizeof stat);
    if (n <= 0) return 0;
    while (n > 0 && stat[n] != ')') n--; /* the name may hold anything, a parenthesis too */
    const char *state = stat + n + 2;
    if ((*state == 'Z' || *state == 'X') && stat_field(state, 17) <= 1) return 0;
    return stat_field(state, 19) + 1; /* never 0 */
}

/* Calls `visit` with every process but this one. */
static void each_process(void (*visit)(const char *pid, void *), void *context) {
    static char buffer[16384] __attribute__((aligned(8)));
    long dir = SYS4(openat, AT_FDCWD, "/proc", O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0), n;
    if (dir < 0) return;
    while ((n = SYS3(getdents64, dir, buffer, sizeof buffer)) > 0)
        for (long at = 0; at < n;) {
            struct entry *e = (struct entry *)(buffer + at);
            at += e->size;
            if (e->name[0] >= '1' && e->name[0] <= '9' && !same(e->name, "1")) visit(e->name, context);
        }
    SYS1(close, dir);
}

struct table {
    struct process rows[MAX_PROCESSES];
    int count;
};
static void add_row(const char *pid, void *context) {
    struct table *table = context;
    u64 start = started(pid);
    if (start && table->count < MAX_PROCESSES) table->rows[table->count++] = (struct process){(i32)number(pid), start};
}
static void list_processes(struct table *table) {
    table->count = 0;
    each_process(add_row, table);
}
static int listed(const struct table *table, struct process p) {
    for (int i = 0; i < table->count; i++)
        if (table->rows[i].pid == p.pid && table->rows[i].started == p.started) return 1;
    return 0;
}

/* Collects dead children. Returns 0 when no child is left at all; `*status` is set when `main` was among the dead. */
static int reap(i32 main, i32 *status, int *ended) {
    for (;;) {
        i32 s = 0;
        long pid = SYS4(wait4, -1, &s, WNOHANG, 0);
        if (pid == -ECHILD) return 0;
        if (pid <= 0) return 1;
        if (pid == main) *status = s, *ended = 1;
    }
}

enum { END_US = 20000000 }; /* a process that writes to a slow disk can take long to die */

/* Ends every process but this one. `*killed` gets how many lived; returns how many could not be ended.
 *
 * kill(-1) reaches all of them in one step that no fork can outrun, and says when none is left, zombies included. */
static u32 end_everything(u32 *killed) {
    static struct table present;
    list_processes(&present);
    *killed = (u32)present.count;
    for (u64 until_us = now_us() + END_US, pause_ns = 200000; now_us() < until_us;) {
        i32 status;
        int ended;
        reap(-1, &status, &ended);
        if (SYS2(kill, -1, SIGKILL) == -ESRCH) return 0;
        struct __kernel_timespec pause = {0, (i64)pause_ns};
        SYS2(nanosleep, &pause, 0);
        if (pause_ns < 5000000) pause_ns *= 2;
    }
    list_processes(&present);
    return (u32)present.count;
}

/* Kills everything that is not in `before`. `*killed` gets how many there were; returns how many could not be killed. */
static u32 kill_others(const struct table *before, u32 *killed) {
    static struct table present;
    if (!before->count) return end_everything(killed);
    *killed = 0;
    for (int round = 0; round < 50; round++) {
        i32 status;
        int ended;
        reap(-1, &status, &ended);
        list_processes(&present);
        u32 strangers = 0;
        for (int i = 0; i < present.count; i++)
            if (!listed(before, present.rows[i])) {
                strangers++;
                SYS2(kill, present.rows[i].pid, SIGKILL);
            }
        if (strangers > *killed) *killed = strangers;
        if (!strangers) return 0;
        struct __kernel_timespec pause = {0, round < 20 ? 500000 : 5000000};
        SYS2(nanosleep, &pause, 0);
    }
    return end_everything(&(u32){0}); /* older background processes fall with a bomb that outlives 50 rounds */
}
