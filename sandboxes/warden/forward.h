/* `warden forward PORT SOCKET COMMAND...`: runs the command, for whose life connections to 127.0.0.1:PORT lead to the Unix
 * socket. It needs no rights, and gives none: whatever runs beside it can connect to the socket itself. */
#pragma once
#include "launch.h"

enum { SOCK_STREAM_CLOEXEC = 1 | 02000000, SOL_SOCKET = 1, SO_REUSEADDR = 2, LOCAL = 1, INET = 2, SHUT_WRITE = 1 };
enum { IGNORED = 1, FORWARD_BYTES = 65536 };

struct local_address {
    unsigned short family;
    char path[108];
};
struct inet_address {
    unsigned short family;
    u8 port[2], host[4], rest[8];
};

static long listen_at(u64 port) {
    struct inet_address address = {INET, {(u8)(port >> 8), (u8)port}, {127, 0, 0, 1}, {0}};
    i32 on = 1;
    long fd = SYS3(socket, INET, SOCK_STREAM_CLOEXEC, 0);
    must(fd, "socket");
    SYS5(setsockopt, fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    must(SYS3(bind, fd, &address, sizeof address), "the port");
    must(SYS2(listen, fd, 128), "listen");
    return fd;
}

/* Carries what there is from one end to the other; false at its end. */
static int carry(long from, long to) {
    static char bytes[FORWARD_BYTES];
    long got = SYS3(read, from, bytes, sizeof bytes);
    if (got == -EINTR) return 1;
    if (got > 0 && write_all(to, bytes, (u64)got) == 0) return 1;
    SYS2(shutdown, to, SHUT_WRITE);
    return 0;
}

__attribute__((noreturn)) static void connect_through(long client, const char *path) {
    struct local_address address = {LOCAL, {0}};
    append(address.path, path);
    long server = SYS3(socket, LOCAL, SOCK_STREAM_CLOEXEC, 0);
    if (server < 0 || SYS3(connect, server, &address, sizeof address) < 0) quit(1);
    struct pollfd ends[2] = {{.fd = (i32)client, .events = POLLIN}, {.fd = (i32)server, .events = POLLIN}};
    while (ends[0].fd >= 0 || ends[1].fd >= 0) { /* poll leaves out what is negative */
        SYS5(ppoll, ends, 2, 0, 0, 0);
        if (ends[0].fd >= 0 && ends[0].revents && !carry(client, server)) ends[0].fd = -1;
        if (ends[1].fd >= 0 && ends[1].revents && !carry(server, client)) ends[1].fd = -1;
    }
    quit(0);
}

/* Ends with the process that made this one. */
static void end_with(long parent) {
    SYS5(prctl, PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
    if (SYS0(getppid) != parent) quit(0); /* it has ended already */
}

__attribute__((noreturn)) static void forward(char **argv, char **env) {
    if (length(argv[1]) >= sizeof((struct local_address *)0)->path) fail("the path of the socket", -ENAMETOOLONG);
    long listening = listen_at(number(argv[0]));
    long parent = SYS0(getpid), forwarder = SYS5(clone, SIGCHLD, 0, 0, 0, 0);
    must(forwarder, "a process");
    if (forwarder > 0) fail(argv[2], SYS3(execve, argv[2], argv + 2, env));
    end_with(parent);
    u64 no_children[4] = {IGNORED, 0, 0, 0}; /* the kernel's sigaction: none of them waits to be asked for */
    SYS4(rt_sigaction, SIGCHLD, no_children, 0, KERNEL_SIGSET_BYTES);
    for (int fd = 0; fd < 3; fd++) SYS1(close, fd); /* so that whoever reads the command's output sees its end */
    long self = SYS0(getpid);
    for (;;) {
        long client = SYS4(accept4, listening, 0, 0, 02000000);
        if (client < 0) continue;
        if (SYS5(clone, SIGCHLD, 0, 0, 0, 0) == 0) {
            end_with(self);
            SYS1(close, listening);
            connect_through(client, argv[1]);
        }
        SYS1(close, client);
    }
}
