/* The work tree: listed, read and changed name by name below its root. No component of a path is followed if it is a link,
 * no open can block, and a directory or file whose owner took its own rights away is opened up for the moment.
 *
 * All of it is meant for a sandbox in which nothing else runs (settle). */
#pragma once
#include "processes.h"

enum { MOST_LEVELS = 128, MOST_OPENED = 192, LINK_ROOM = 4096, MOST_PATH_BYTES = 4096, MOST_LISTED_BYTES = 256 << 20 };
#define NO_FILE 0xffffffffu

/* ---- memory that grows ---- */

struct buffer {
    u8 *data;
    u64 used, size;
};

static void *room(u64 n) {
    long at = SYS6(mmap, 0, n ? n : 1, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return at < 0 && at > -4096 ? 0 : (void *)at;
}
static long reserve(struct buffer *b, u64 more) {
    if (b->used + more <= b->size) return 0;
    u64 size = b->size ? b->size : 65536;
    while (size < b->used + more) size *= 2;
    long at = b->data ? SYS4(mremap, b->data, b->size, size, 1 /* MREMAP_MAYMOVE */) : (long)room(size);
    if (at == 0 || (at < 0 && at > -4096)) return -ENOMEM;
    b->data = (u8 *)at, b->size = size;
    return 0;
}
static void release(struct buffer *b) {
    if (b->data) SYS2(munmap, b->data, b->size);
}

/* ---- handles ---- */

/* What was opened up, with the mode that it gets back. */
static struct {
    long handle;
    u32 mode;
} opened_up[MOST_OPENED];
static int opened_count;

/* chmod of a handle that was opened with O_PATH. */
static long set_mode(long handle, u32 mode) {
    char path[40];
    *decimal(append(path, "/proc/self/fd/"), (u64)handle, 1) = 0;
    return SYS3(fchmodat, AT_FDCWD, path, mode & 07777);
}
static void close_again(int from) {
    while (opened_count > from) {
        opened_count--;
        set_mode(opened_up[opened_count].handle, opened_up[opened_count].mode);
        SYS1(close, opened_up[opened_count].handle);
    }
}
/* Gives the owner `rights` on what `handle` (O_PATH) names, until `close_again`; left so where too many are open. */
static void open_up(long handle, u32 rights) {
    struct stat file;
    if (SYS2(fstat, handle, &file) < 0 || (file.st_mode & rights) == rights) return;
    if ((long)file.st_uid != SYS0(geteuid) || set_mode(handle, file.st_mode | rights) < 0) return;
    long copy = opened_count < MOST_OPENED ? SYS3(fcntl, handle, F_DUPFD_CLOEXEC, 3) : -EMFILE;
    if (copy < 0) return;
    opened_up[opened_count].handle = copy;
    opened_up[opened_count++].mode = file.st_mode;
}

/* A handle (O_PATH) on the directory `name` of `dir`, which its owner may read, write and enter. */
static long enter(long dir, const char *name) {
    long handle = SYS4(openat, dir, name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC, 0);
    if (handle >= 0) open_up(handle, 0700);
    return handle;
}
/* A handle on the root of a tree, whose own path may lead through links. */
static long enter_root(const char *root) {
    long handle = SYS4(openat, AT_FDCWD, root, O_PATH | O_DIRECTORY | O_CLOEXEC, 0);
    if (handle >= 0) open_up(handle, 0700);
    return handle;
}
static long copy_handle(long handle) { return SYS3(fcntl, handle, F_DUPFD_CLOEXEC, 3); }

static int usable_name(const char *name) { return *name && !same(name, ".") && !same(name, ".."); }

/* A handle on the directory that holds the last component of `path`, and that component in `*name`. With `make`, missing
 * directories are made. `path` is whole again afterwards. */
static long enter_parent(long root, char *path, char **name, int make) {
    long dir = copy_handle(root);
    *name = path;
    for (char *at = path; dir >= 0; at++) {
        if (*at && *at != '/') continue;
        char end = *at;
        *at = 0;
        long next = usable_name(*name) ? 0 : -EINVAL;
        if (end && !next) {
            next = enter(dir, *name);
            if (next == -ENOENT && make) {
                SYS3(mkdirat, dir, *name, 0755);
                next = enter(dir, *name);
            }
        }
        *at = end;
        if (!end && next >= 0) return dir;
        SYS1(close, dir);
        dir = next;
        *name = at + 1;
    }
    return dir;
}

/* ---- list ---- */

struct node { /* then the name and the link's target; padded to eight bytes */
    u64 size;
    i64 mtime_ns, ctime_ns;
    u64 inode;
    u32 mode, parent, name_bytes, target_bytes; /* parent: offset of its node, 0 for the root */
};
struct listing {
    u32 count, left_out;
}; /* then the nodes, a directory before what is in it */

static struct node *node_at(const struct buffer *b, u64 offset) { return (struct node *)(b->data + offset); }

/* Until then no change can have the same time as one that was made before now. */
static void wait_for_tick(void) {
    struct __kernel_timespec first, now, pause = {0, 500000};
    SYS2(clock_gettime, CLOCK_REALTIME_COARSE, &first);
    for (int round = 0; round < 200; round++) {
        SYS2(nanosleep, &pause, 0);
        SYS2(clock_gettime, CLOCK_REALTIME_COARSE, &now);
        if (now.tv_sec != first.tv_sec || now.tv_nsec != first.tv_nsec) return;
    }
}

static long add_node(struct buffer *b, long dir, const char *name, u32 parent) {
    struct stat file;
    if (SYS4(newfstatat, dir, name, &file, AT_SYMLINK_NOFOLLOW) < 0) return 0; /* gone */
    u32 bytes = (u32)length(name);
    if (b->used > MOST_LISTED_BYTES) return -EFBIG;
    if (reserve(b, sizeof(struct node) + bytes + LINK_ROOM + 8) < 0) return -ENOMEM;
    struct node *node = node_at(b, b->used);
    *node = (struct node){
        .size = (u64)file.st_size,
        .mtime_ns = (i64)file.st_mtime * 1000000000 + (i64)file.st_mtime_nsec,
        .ctime_ns = (i64)file.st_ctime * 1000000000 + (i64)file.st_ctime_nsec,
        .inode = file.st_ino,
        .mode = file.st_mode,
        .parent = parent,
        .name_bytes = bytes,
    };
    char *text = (char *)(node + 1);
    memcpy(text, name, bytes);
    if (S_IS(file.st_mode, S_IFLNK)) {
        long target = SYS4(readlinkat, dir, name, text + bytes, LINK_ROOM);
        if (target > 0) node->target_bytes = (u32)target;
    }
    u64 end = b->used + sizeof *node + bytes + node->target_bytes;
    while (end % 8) b->data[end++] = 0;
    b->used = end;
    return 1;
}

static void node_name(const struct buffer *b, u32 offset, char *name) {
    const struct node *node = node_at(b, offset);
    memcpy(name, node + 1, node->name_bytes);
    name[node->name_bytes] = 0;
}

/* How long the path of a node is, below the root and with a slash at its end. */
static u64 path_bytes(const struct buffer *b, u32 offset) {
    u64 bytes = 0;
    for (u32 at = offset; at && bytes <= MOST_PATH_BYTES; at = node_at(b, at)->parent)
        bytes += node_at(b, at)->name_bytes + 1;
    return bytes;
}

/* A handle on the directory of a node, which is walked to from the root; 0 in `*levels` where it is too deep. */
static long enter_node(const struct buffer *b, long root, u32 offset, int *levels) {
    static u32 chain[MOST_LEVELS];
    *levels = 0;
    for (u32 at = offset; at; at = node_at(b, at)->parent) {
        if (*levels == MOST_LEVELS - 1) return *levels = 0, -ENAMETOOLONG;
        chain[(*levels)++] = at;
    }
    long dir = copy_handle(root);
    char name[256];
    for (int level = *levels; level > 0 && dir >= 0; level--) {
        node_name(b, chain[level - 1], name);
        long next = enter(dir, name);
        SYS1(close, dir);
        dir = next;
    }
    ++*levels;
    return dir;
}

/* Adds what is in the directory `handle` (O_PATH); returns how many names were left out, or an error. */
static long add_names(struct buffer *b, long handle, u32 parent, u32 *count, u32 most) {
    static char names[32768] __attribute__((aligned(8)));
    long dir = SYS4(openat, handle, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0), n, left_out = 0, added = 0;
    if (dir < 0) return 1; /* another user's */
    while (added >= 0 && (n = SYS3(getdents64, dir, names, sizeof names)) > 0)
        for (long at = 0; at < n && added >= 0;) {
            struct entry *e = (struct entry *)(names + at);
            at += e->size;
            if (!usable_name(e->name)) continue;
            added = *count < most ? add_node(b, dir, e->name, parent) : 0;
            if (*count < most) *count += added > 0;
            else left_out++;
        }
    SYS1(close, dir);
    return added < 0 ? added : left_out;
}

/* Lists everything below `root` into `b`: a directory's names, then those of the directories among them, and so on. */
static long list_tree(struct buffer *b, const char *path, u32 most) {
    struct listing listing = {0, 0};
    wait_for_tick();
    long root = enter_root(path), error = root < 0 ? root : reserve(b, sizeof listing);
    b->used = sizeof listing;
    long parent_dir = -1, known = -1; /* the directory that holds the nodes at hand */
    for (u64 at = 0; error >= 0 && at < b->used;) {
        u32 offset = (u32)at;
        int is_root = at == 0, from = opened_count, levels = 1;
        const struct node *node = is_root ? 0 : node_at(b, at);
        at = is_root ? sizeof listing : at + (sizeof *node + node->name_bytes + node->target_bytes + 7) / 8 * 8;
        if (node && !S_IS(node->mode, S_IFDIR)) continue;
        char name[256] = ".";
        if (node) node_name(b, offset, name);
        if (node && same(name, ".git")) continue;
        if (path_bytes(b, offset) > MOST_PATH_BYTES) {
            listing.left_out++;
            continue;
        }
        if (node && known != (long)node->parent) {
            if (parent_dir >= 0) SYS1(close, parent_dir);
            close_again(1);
            known = (long)node->parent;
            parent_dir = enter_node(b, root, node->parent, &levels);
            from = opened_count;
        }
        long handle = node ? parent_dir < 0 ? parent_dir : enter(parent_dir, name) : copy_handle(root);
        long left_out = handle < 0 ? 1 : add_names(b, handle, offset, &listing.count, most);
        if (handle >= 0) SYS1(close, handle);
        if (left_out < 0) error = left_out;
        else listing.left_out += (u32)left_out;
        close_again(from);
    }
    if (parent_dir >= 0) SYS1(close, parent_dir);
    close_again(0);
    if (root >= 0) SYS1(close, root);
    if (error >= 0) *(struct listing *)b->data = listing;
    return error;
}

/* ---- read ---- */

/* Descriptor of a regular file below `root`; NO_FILE's reasons come back as -ENOENT. */
static long open_below(long root, char *path, struct stat *file) {
    char *name;
    long dir = enter_parent(root, path, &name, 0), fd = dir;
    if (dir >= 0) {
        long handle = SYS4(openat, dir, name, O_PATH | O_NOFOLLOW | O_CLOEXEC, 0);
        fd = handle < 0 ? handle : SYS2(fstat, handle, file);
        if (fd >= 0 && !S_IS(file->st_mode, S_IFREG)) fd = -ENOENT;
        if (fd >= 0) {
            open_up(handle, 0400);
            fd = SYS4(openat, dir, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC, 0);
        }
        if (handle >= 0) SYS1(close, handle);
        SYS1(close, dir);
    }
    close_again(1);
    return fd == -ENOTDIR || fd == -ELOOP || fd == -EACCES || fd == -ENAMETOOLONG ? -ENOENT : fd;
}

/* Adds {bytes, content} of one file to `b`, or {NO_FILE}; at most `most` bytes. */
static long add_content(struct buffer *b, long root, char *path, u64 most) {
    struct stat file;
    long fd = open_below(root, path, &file), got = 0;
    u64 size_at = b->used, limit = fd < 0 || (u64)file.st_size > most ? 0 : (u64)file.st_size + 1;
    long error = reserve(b, 4 + limit);
    if (error >= 0 && fd < 0 && fd != -ENOENT) error = fd;
    if (error < 0) {
        if (fd >= 0) SYS1(close, fd);
        return error;
    }
    u32 none = NO_FILE;
    memcpy(b->data + size_at, &none, 4);
    b->used += 4;
    if (fd < 0) return 0;
    u64 used = 0;
    while (used < limit && (got = SYS3(read, fd, b->data + b->used + used, limit - used)) > 0)
        used += (u64)got;
    SYS1(close, fd);
    if (got < 0) return got;
    if (!limit || used > most) return 0;
    u32 size = (u32)used;
    memcpy(b->data + size_at, &size, 4);
    b->used += used;
    return 0;
}

/* ---- change ---- */

/* Removes all that is in the directory `dir` (O_PATH; closed here), however deep it goes. */
static long empty_directory(long dir) {
    static char names[8192] __attribute__((aligned(8)));
    int depth = 0;
    for (;;) {
        long list = SYS4(openat, dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0), n = 0, down = -1, error = list;
        while (error >= 0 && down < 0 && (n = SYS3(getdents64, list, names, sizeof names)) > 0)
            for (long at = 0; at < n && error >= 0 && down < 0;) {
                struct entry *e = (struct entry *)(names + at);
                at += e->size;
                if (!usable_name(e->name)) continue;
                error = SYS3(unlinkat, dir, e->name, 0);
                if (error == -EISDIR) error = SYS3(unlinkat, dir, e->name, AT_REMOVEDIR);
                if (error == -ENOTEMPTY || error == -EEXIST) error = down = enter(dir, e->name);
                if (error == -ENOENT) error = 0;
            }
        if (list >= 0) SYS1(close, list);
        if (error >= 0 && down < 0 && depth == 0) return SYS1(close, dir);
        long next = error < 0 ? error : down >= 0 ? down : SYS4(openat, dir, "..", O_PATH | O_DIRECTORY | O_CLOEXEC, 0);
        SYS1(close, dir);
        if (next < 0) return next;
        depth += down >= 0 ? 1 : -1;
        dir = next;
    }
}

static long remove_name(long dir, const char *name) {
    long error = SYS3(unlinkat, dir, name, 0);
    if (error != -EISDIR) return error;
    error = SYS3(unlinkat, dir, name, AT_REMOVEDIR);
    if (error != -ENOTEMPTY && error != -EEXIST) return error;
    long inside = enter(dir, name);
    error = inside < 0 ? inside : empty_directory(inside);
    return error < 0 ? error : SYS3(unlinkat, dir, name, AT_REMOVEDIR);
}

/* Removes `path` and the parents that this leaves empty. What is not there is no error. */
static long remove_path(long root, char *path) {
    char *name;
    long dir = enter_parent(root, path, &name, 0);
    long error = dir < 0 ? dir : remove_name(dir, name);
    if (dir >= 0) SYS1(close, dir);
    if (error == -ENOENT || error == -ENOTDIR) return 0;
    while (error >= 0 && name > path) {
        name[-1] = 0;
        dir = enter_parent(root, path, &name, 0);
        error = dir < 0 ? dir : SYS3(unlinkat, dir, name, AT_REMOVEDIR);
        if (dir >= 0) SYS1(close, dir);
        if (error < 0) return 0; /* not empty */
    }
    return error;
}

static long write_path(long root, char *path, u32 mode, const char *content, u32 size) {
    char *name, target[LINK_ROOM];
    if (!S_IS(mode, S_IFREG) && !S_IS(mode, S_IFLNK)) return -EINVAL;
    long dir = enter_parent(root, path, &name, 1), fd = -1;
    long error = dir < 0 ? dir : remove_name(dir, name);
    if (error == -ENOENT && dir >= 0) error = 0;
    if (error >= 0 && S_IS(mode, S_IFLNK)) {
        if (size >= sizeof target) error = -ENAMETOOLONG;
        else {
            memcpy(target, content, size);
            target[size] = 0;
            error = SYS3(symlinkat, target, dir, name);
        }
    } else if (error >= 0) {
        error = fd = SYS4(openat, dir, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0600);
        if (fd >= 0) error = write_all(fd, content, size);
        if (error >= 0) error = SYS2(fchmod, fd, mode & 0777);
        if (fd >= 0) SYS1(close, fd);
    }
    if (dir >= 0) SYS1(close, dir);
    return error;
}
