/* The clock of a command's time limit.
 *
 * It stops, in proportion, while the sandbox got less processor than it could have used for causes outside of it: than
 * the least of its limit, the processors that it may run on, and its runnable threads. What it could have had is what it
 * used, by the counter of its own control group, and what the processors that it may run on spent idle. So its own
 * throttling and its own competition do not stop the clock, sleep and waiting for input or output neither, and on a host
 * with idle processors nothing does. Threads are counted at random moments, which no command can foresee. Without a
 * counter the clock is the wall's. */
#pragma once
#include "processes.h"

enum { UNMEASURED_US = 1000000, WINDOW_US = 1000000, SHORTEST_WINDOW_US = 100000, SAMPLE_US = 20000, SAMPLES_US = 180000 };
enum { SCAN_SHARE = 50 }; /* of the time at most one part in so many goes into counting threads */

struct clock {
    u64 limit_us, wall_us;   /* when the clock and the wall end the command */
    u64 started_us, open_us; /* moments: start of the command, and of the window that is being measured */
    u64 counted_us, starved_us;
    u64 used_us, idle_us; /* the counters when the window opened */
    u64 next_sample_us, wanted_milli;
    u32 samples;
    int measured;
};

static long usage_file = -1;    /* the counter of processor time */
static u64 processors_milli;    /* the lesser of the limit and the processors that the sandbox may run on */
static u64 allowed[1024 / 64];  /* those processors, by number */

/* How far the clock moves in `wall_us` in which the sandbox used and left idle so much and could have used `wanted_us`. */
static u64 advance(u64 wall_us, u64 used_us, u64 idle_us, u64 wanted_us) {
    u64 had_us = used_us + idle_us;
    return had_us >= wanted_us ? wall_us : wall_us * had_us / wanted_us;
}

/* Processor time of the whole sandbox: cpuacct.usage (version 1, nanoseconds) or cpu.stat (version 2). */
static u64 used_now_us(void) {
    char text[512];
    long n = usage_file < 0 ? -1 : SYS4(pread64, usage_file, text, sizeof text - 1, 0);
    if (n <= 0) return 0;
    text[n] = 0;
    return text[0] >= '0' && text[0] <= '9' ? number(text) / 1000 : field(text, "usage_usec");
}

/* Idle time of the allowed processors, from their lines in /proc/stat: user nice system idle iowait ... in ticks. */
static u64 idle_now_us(void) {
    static char text[65536];
    u64 ticks = 0;
    if (slurp("/proc/stat", text, sizeof text) <= 0) return 0;
    for (const char *line = text; *line;) {
        if (line[0] == 'c' && line[1] == 'p' && line[2] == 'u' && line[3] >= '0' && line[3] <= '9') {
            u64 cpu = number(line + 3);
            if (cpu < 1024 && allowed[cpu / 64] >> cpu % 64 & 1) ticks += stat_field(line, 4) + stat_field(line, 5);
        }
        while (*line && *line != '\n') line++;
        if (*line) line++;
    }
    return ticks * 10000; /* USER_HZ is 100 on both architectures */
}

/* Opens the counter: descriptor `inherited` (0: none), or that of the container, which engines show below /sys. */
static void measure_processors(u64 limit_milli, u64 inherited) {
    if (inherited) {
        usage_file = (long)inherited;
        SYS3(fcntl, usage_file, F_SETFD, FD_CLOEXEC); /* commands do not get it */
    }
    static const char *inside[] = {"/sys/fs/cgroup/cpuacct/cpuacct.usage", "/sys/fs/cgroup/cpu.stat"};
    for (int i = 0; i < 2 && usage_file < 0; i++) usage_file = SYS4(openat, AT_FDCWD, inside[i], O_RDONLY | O_CLOEXEC, 0);
    /* Read once: a command of the same user could change what the kernel says later. */
    SYS3(sched_getaffinity, 0, sizeof allowed, allowed);
    for (int i = 0; i < 1024; i++) processors_milli += (allowed[i / 64] >> i % 64 & 1) * 1000;
    if (limit_milli && limit_milli < processors_milli) processors_milli = limit_milli;
    if (!used_now_us()) usage_file = -1;
}

static void count_runnable(const char *pid, void *context) {
    static char buffer[4096] __attribute__((aligned(8)));
    u64 *count = context;
    if (*count * 1000 >= processors_milli) return;
    char path[64], stat[128];
    append(append(append(path, "/proc/"), pid), "/task");
    long tasks = SYS4(openat, AT_FDCWD, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0), n;
    if (tasks < 0) return;
    while ((n = SYS3(getdents64, tasks, buffer, sizeof buffer)) > 0)
        for (long at = 0; at < n;) {
            struct entry *e = (struct entry *)(buffer + at);
            at += e->size;
            if (e->name[0] < '1' || e->name[0] > '9') continue;
            append(append(path, e->name), "/stat");
            long fd = SYS4(openat, tasks, path, O_RDONLY | O_CLOEXEC, 0), got = fd < 0 ? 0 : SYS3(read, fd, stat, sizeof stat);
            if (fd >= 0) SYS1(close, fd);
            while (got > 0 && stat[--got] != ')') continue;
            if (got > 0 && stat[got + 2] == 'R') ++*count;
        }
    SYS1(close, tasks);
}

static u64 random_moment_us(u64 now) {
    u32 random = 0;
    SYS3(getrandom, &random, sizeof random, 0);
    return now + SAMPLE_US + random % SAMPLES_US;
}

static void open_window(struct clock *clock, u64 now) {
    clock->open_us = now, clock->next_sample_us = random_moment_us(now);
    clock->used_us = used_now_us(), clock->idle_us = idle_now_us();
    clock->wanted_milli = clock->samples = 0;
}

static void take_sample(struct clock *clock) {
    u64 from = now_us(), count = 0;
    each_process(count_runnable, &count);
    clock->wanted_milli += count * 1000 < processors_milli ? count * 1000 : processors_milli;
    clock->samples++;
    u64 now = now_us(), earliest_us = now + (now - from) * SCAN_SHARE;
    clock->next_sample_us = random_moment_us(now);
    if (clock->next_sample_us < earliest_us) clock->next_sample_us = earliest_us;
}

static void close_window(struct clock *clock, u64 now) {
    if (!clock->samples) take_sample(clock);
    u64 wall_us = now - clock->open_us, used_us = used_now_us(), idle_us = idle_now_us();
    u64 wanted_us = wall_us * clock->wanted_milli / (1000 * (u64)clock->samples);
    u64 moved_us = advance(wall_us, used_us - clock->used_us, idle_us - clock->idle_us, wanted_us);
    clock->counted_us += moved_us;
    clock->starved_us += wall_us - moved_us;
}

static struct clock start_clock(u64 now, u64 limit_us, u64 wall_us) {
    struct clock clock = {.limit_us = limit_us, .wall_us = wall_us > limit_us ? wall_us : limit_us};
    clock.started_us = clock.open_us = now;
    return clock;
}

/* Microseconds until the clock has to be looked at again. */
static u64 clock_wait_us(const struct clock *clock, u64 now) {
    u64 next = clock->started_us + clock->wall_us, limit = clock->open_us + (clock->limit_us - clock->counted_us);
    if (clock->measured && limit < clock->open_us + SHORTEST_WINDOW_US) limit = clock->open_us + SHORTEST_WINDOW_US;
    if (limit < next) next = limit;
    if (clock->measured && clock->next_sample_us < next) next = clock->next_sample_us;
    return next > now ? next - now : 0;
}

enum { TIME_LEFT, TIME_IS_UP, WALL_IS_UP };

static int look_at_clock(struct clock *clock, u64 now) {
    u64 open_for_us = now - clock->open_us;
    int complete = clock->counted_us + open_for_us >= clock->limit_us;
    if (!clock->measured) {
        if (complete) return TIME_IS_UP;
        if (usage_file < 0 || clock->wall_us == clock->limit_us || open_for_us < UNMEASURED_US) return TIME_LEFT;
        clock->counted_us = open_for_us, clock->measured = 1;
        open_window(clock, now);
        return TIME_LEFT;
    }
    if (now >= clock->next_sample_us) take_sample(clock);
    int over = now - clock->started_us >= clock->wall_us;
    if (over || open_for_us >= WINDOW_US || (complete && open_for_us >= SHORTEST_WINDOW_US)) {
        close_window(clock, now);
        open_window(clock, now);
    }
    if (clock->counted_us >= clock->limit_us) return TIME_IS_UP;
    return over ? WALL_IS_UP : TIME_LEFT;
}
