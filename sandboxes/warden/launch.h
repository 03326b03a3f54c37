/* `warden launch`: the part of starting an embedded sandbox that must happen before bubblewrap does.
 *
 *   warden launch [-u] [-c CGROUP_PROCS]... [-a CPU_COUNTER] [-s SETTING VALUE]... -t SCRATCH BYTES [-m NAME]...
 *                 [[-l LAYER] [-k DIR] -o NAME LOWER]... [-h NAME HOST] -- COMMAND...
 *
 * -u enters a user namespace first (callers that are not root), -c joins a control group, -a opens the group's counter of
 * processor time as descriptor CPU_COUNTER for the warden inside, -s writes to /proc/sys/SETTING of a new IPC namespace, -t
 * mounts a tmpfs of that size on SCRATCH, with an inode for every 16 KiB as ext4 has them, -m makes a directory in it, -o mounts an overlay with that lower directory on SCRATCH/NAME, -h lets the root there resolve its own
 * host name. All of it in a new mount namespace, so it is gone with the last process. -l puts one more directory above the
 * lower one of the next overlay; -k makes DIR/upper and DIR/work that overlay's own, so what is written stays. */
#pragma once
#include "sys.h"
#include <linux/openat2.h>

enum { CPU_COUNTER = 9 }; /* the descriptor that `swe_aem/sandbox/bubblewrap.py` names to the warden inside */

__attribute__((noreturn)) static void fail(const char *what, long error) {
    char text[512], *end = append(text, "warden: ");
    end = append(end, what);
    end = append(end, ": errno ");
    end = decimal(end, (u64)-error, 1);
    *end++ = '\n';
    SYS3(write, 2, text, end - text);
    quit(125);
}
static void must(long result, const char *what) {
    if (result < 0) fail(what, result);
}

static void become_root_of_user_namespace(void) {
    long uid = SYS0(geteuid), gid = SYS0(getegid);
    must(SYS1(unshare, CLONE_NEWUSER), "new user namespace (is kernel.unprivileged_userns_clone off?)");
    char map[64];
    append(decimal(append(map, "0 "), (u64)uid, 1), " 1");
    spit("/proc/self/setgroups", "deny");
    must(spit("/proc/self/uid_map", map), "uid_map");
    append(decimal(append(map, "0 "), (u64)gid, 1), " 1");
    must(spit("/proc/self/gid_map", map), "gid_map");
}

/* Shows a directory of the host under a name in SCRATCH: the options of a mount can be read inside, and they must not
 * tell where on the host the directories, or SCRATCH itself, lie. */
static void show(const char *directory, const char *at) {
    must(SYS3(mkdirat, AT_FDCWD, at, 0755), at);
    must(SYS5(mount, directory, at, 0, MS_BIND, 0), directory);
}

/* All in the current directory, SCRATCH. */
static void mount_overlay(const char *name, const char *lower, const char *layer, const char *keep, int user_namespace) {
    static char options[4096];
    enum { MERGED, UPPER, WORK, LOWER, LAYER, KEPT };
    static const char *kinds[] = {"", ".upper", ".work", ".lower", ".layer", ".kept"};
    char paths[6][1024];
    if (length(name) > 1000) fail("name is too long", -ENAMETOOLONG);
    for (int i = 0; i < 6; i++) append(append(paths[i], name), kinds[i]);
    must(SYS3(mkdirat, AT_FDCWD, paths[MERGED], 0755), paths[MERGED]);
    show(lower, paths[LOWER]);
    if (layer) show(layer, paths[LAYER]);
    if (keep) {
        show(keep, paths[KEPT]);
        append(append(paths[UPPER], paths[KEPT]), "/upper");
        append(append(paths[WORK], paths[KEPT]), "/work");
    } else
        for (int i = UPPER; i <= WORK; i++) must(SYS3(mkdirat, AT_FDCWD, paths[i], 0755), paths[i]);
    char *end = append(options, "lowerdir=");
    if (layer) end = append(append(end, paths[LAYER]), ":");
    end = append(end, paths[LOWER]);
    end = append(append(end, ",upperdir="), paths[UPPER]);
    end = append(append(end, ",workdir="), paths[WORK]);
    if (user_namespace) append(end, ",userxattr");
    must(SYS5(mount, "overlay", paths[MERGED], "overlay", MS_NOSUID | MS_NODEV, options), "overlay mount");
}

/* Adds lines for localhost and `host` to what the image has in /etc/hosts, as engines do. No link leads out of the root,
 * and a root without a directory /etc goes without. */
static void name_host(const char *name, const char *host) {
    char lines[512];
    append(append(append(lines, "\n127.0.0.1 localhost "), host), "\n::1 localhost\n");
    long root = SYS4(openat, AT_FDCWD, name, O_PATH | O_DIRECTORY | O_CLOEXEC, 0);
    struct open_how how = {.flags = O_WRONLY | O_APPEND | O_CREAT | O_NONBLOCK | O_NOCTTY | O_CLOEXEC, .mode = 0644};
    how.resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS;
    long fd = SYS4(openat2, root, "etc/hosts", &how, sizeof how);
    SYS1(close, root);
    if (fd < 0) return;
    SYS3(write, fd, lines, length(lines));
    SYS1(close, fd);
}

__attribute__((noreturn)) static void launch(char **argv, char **env) {
    int user_namespace = 0;
    const char *layer = 0, *keep = 0;
    if (*argv && same(*argv, "-u")) argv++, user_namespace = 1;
    for (; argv[0] && same(argv[0], "-c"); argv += 2) must(spit(argv[1], "0"), argv[1]);
    if (argv[0] && same(argv[0], "-a")) {
        long counter = SYS4(openat, AT_FDCWD, argv[1], O_RDONLY, 0);
        must(counter, argv[1]);
        if (counter != CPU_COUNTER) must(SYS3(dup3, counter, CPU_COUNTER, 0), argv[1]), SYS1(close, counter);
        argv += 2;
    }
    spit("/proc/self/oom_score_adj", NEVER_KILLED); /* refused without CAP_SYS_RESOURCE */
    if (user_namespace) become_root_of_user_namespace();
    must(SYS1(unshare, CLONE_NEWNS | CLONE_NEWIPC), "new mount and IPC namespaces");
    must(SYS5(mount, "none", "/", 0, MS_REC | MS_PRIVATE, 0), "private mounts");
    for (; argv[0] && !same(argv[0], "--"); argv += 2) {
        char text[1100];
        if (same(argv[0], "-t")) {
            char *end = append(append(append(text, "mode=0755,size="), argv[2]), ",nr_inodes=");
            *decimal(end, most_inodes(number(argv[2])), 1) = 0;
            must(SYS5(mount, "tmpfs", argv[1], "tmpfs", MS_NOSUID | MS_NODEV, text), "tmpfs");
            must(SYS1(chdir, argv[1]), argv[1]);
            argv++;
        } else if (same(argv[0], "-m")) {
            must(SYS3(mkdirat, AT_FDCWD, argv[1], 01777), argv[1]);
            must(SYS3(fchmodat, AT_FDCWD, argv[1], 01777), argv[1]);
        } else if (same(argv[0], "-s")) {
            append(append(text, "/proc/sys/"), argv[1]);
            spit(text, argv[2]); /* some kernels let only root of the host do it */
            argv++;
        } else if (same(argv[0], "-l")) {
            layer = argv[1];
        } else if (same(argv[0], "-k")) {
            keep = argv[1];
        } else if (same(argv[0], "-o")) {
            mount_overlay(argv[1], argv[2], layer, keep, user_namespace);
            layer = keep = 0;
            argv++;
        } else if (same(argv[0], "-h")) {
            name_host(argv[1], argv[2]);
            argv++;
        } else
            fail(argv[0], -EINVAL);
    }
    if (!argv[0] || !argv[1]) fail("no command", -EINVAL);
    must(SYS1(chdir, "/"), "/");
    long result = SYS3(execve, argv[1], argv + 1, env);
    fail(argv[1], result);
}
