// Preloaded into the command: a call that succeeded is reported as failed. Network file systems do this if the reply is
// lost and the repeated request meets its own effect. LOSTREPLY=NAME:N:ERRNO loses the N-th reply of NAME (symlink,
// mkdir, rename, excl: open with O_EXCL, fsync, unlink). When it is hit, the file named by LOSTREPLY_HIT is made.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int hit(const char *name) {
    static atomic_int seen;
    const char *plan = getenv("LOSTREPLY");
    char wanted[16];
    int at, error;
    if (!plan || sscanf(plan, "%15[^:]:%d:%d", wanted, &at, &error) != 3 || strcmp(wanted, name)) return 0;
    if (atomic_fetch_add(&seen, 1) + 1 != at) return 0;
    const char *mark = getenv("LOSTREPLY_HIT");
    if (mark) {
        int (*make)(const char *, mode_t) = dlsym(RTLD_NEXT, "creat");
        int (*done)(int) = dlsym(RTLD_NEXT, "close");
        done(make(mark, 0644));
    }
    return error;
}

// With LOSTREPLY_UNDONE set the call is not even made: a file system says that a name is taken which it does not have.
#define LOSE(name, key, parameters, arguments)                          \
    int name parameters {                                               \
        static int(*real) parameters;                                   \
        if (!real) real = dlsym(RTLD_NEXT, #name);                      \
        if (getenv("LOSTREPLY_UNDONE")) {                               \
            int undone = hit(key);                                      \
            if (undone) { errno = undone; return -1; }                  \
            return real arguments;                                      \
        }                                                               \
        int result = real arguments;                                    \
        int error = result == 0 ? hit(key) : 0;                         \
        if (error) { errno = error; return -1; }                        \
        return result;                                                  \
    }

LOSE(symlink, "symlink", (const char *text, const char *path), (text, path))
LOSE(mkdir, "mkdir", (const char *path, mode_t mode), (path, mode))
LOSE(rename, "rename", (const char *from, const char *to), (from, to))
LOSE(renameat2, "rename", (int a, const char *from, int b, const char *to, unsigned flags), (a, from, b, to, flags))
LOSE(unlink, "unlink", (const char *path), (path))
LOSE(fchmod, "fchmod", (int fd, mode_t mode), (fd, mode))
LOSE(futimens, "futimens", (int fd, const struct timespec times[2]), (fd, times))
LOSE(fsync, "fsync", (int fd), (fd))

#define LOSE_OPEN(name)                                                 \
    int name(const char *path, int flags, ...) {                        \
        static int (*real)(const char *, int, ...);                     \
        if (!real) real = dlsym(RTLD_NEXT, #name);                      \
        va_list rest;                                                   \
        va_start(rest, flags);                                          \
        int mode = va_arg(rest, int);                                   \
        va_end(rest);                                                   \
        int fd = real(path, flags, mode);                               \
        int error = fd >= 0 && (flags & O_EXCL) ? hit("excl") : 0;      \
        if (error) { close(fd); errno = error; return -1; }             \
        return fd;                                                      \
    }

LOSE_OPEN(open)
LOSE_OPEN(open64)
