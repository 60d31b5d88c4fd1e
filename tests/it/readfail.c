// Preloaded into the command: the call number READFAIL_AT of those that read something below READFAIL_BELOW fails with
// EIO. With READFAIL_SHORT set, only listings are counted, and that one ends there instead, as if the rest of the
// directory did not exist. The number of calls is written to READFAIL_COUNT when the process ends. If the process
// removes content after the failure, READFAIL_FREED is created.
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

static atomic_long calls;

static ssize_t real_readlink(const char *path, char *to, size_t n) {
    static ssize_t (*real)(const char *, char *, size_t);
    if (!real) real = dlsym(RTLD_NEXT, "readlink");
    return real(path, to, n);
}

static int below(const char *path) {
    const char *wanted = getenv("READFAIL_BELOW");
    return wanted && path && !strncmp(path, wanted, strlen(wanted));
}

static int fd_below(int fd) {
    char link[64], text[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = real_readlink(link, text, sizeof text - 1);
    if (n < 0) return 0;
    text[n] = 0;
    return below(text);
}

static int is_at(int counts) {
    if (!counts) return 0;
    long n = atomic_fetch_add(&calls, 1) + 1;
    const char *at = getenv("READFAIL_AT");
    return at && n == atol(at);
}

static int fails(int counts) {
    if (getenv("READFAIL_SHORT") || !is_at(counts)) return 0;
    errno = EIO;
    return 1;
}

__attribute__((destructor)) static void report(void) {
    const char *path = getenv("READFAIL_COUNT");
    if (!path) return;
    FILE *file = fopen(path, "w");
    if (!file) return;
    fprintf(file, "%ld", atomic_load(&calls));
    fclose(file);
}

// glibc declares the path of statx as never null, so the compiler drops checks for that; Rust's library asks with null.
static const char *maybe_null(const char *path) {
    __asm__("" : "+r"(path));
    return path;
}

static int below_or_open(int fd, const char *path) {
    return below(path) || (path && *path != '/' && fd >= 0 && fd_below(fd));
}

#define WRAP(type, failed, name, parameters, arguments, counts)      \
    type name parameters {                                           \
        static type(*real) parameters;                               \
        if (!real) real = dlsym(RTLD_NEXT, #name);                   \
        return fails(counts) ? failed : real arguments;              \
    }

WRAP(ssize_t, -1, read, (int fd, void *to, size_t n), (fd, to, n), fd_below(fd))
WRAP(ssize_t, -1, pread, (int fd, void *to, size_t n, off_t at), (fd, to, n, at), fd_below(fd))
WRAP(ssize_t, -1, pread64, (int fd, void *to, size_t n, off64_t at), (fd, to, n, at), fd_below(fd))
WRAP(ssize_t, -1, preadv, (int fd, const struct iovec *to, int n, off_t at), (fd, to, n, at), fd_below(fd))
WRAP(ssize_t, -1, preadv64, (int fd, const struct iovec *to, int n, off64_t at), (fd, to, n, at), fd_below(fd))
WRAP(ssize_t, -1, readlink, (const char *path, char *to, size_t n), (path, to, n), below(path))
WRAP(int, -1, statx, (int fd, const char *path, int flags, unsigned mask, struct statx *to),
     (fd, path, flags, mask, to), below_or_open(fd, maybe_null(path)))

WRAP(int, -1, fstatat, (int fd, const char *path, struct stat *to, int flags), (fd, path, to, flags),
     below_or_open(fd, maybe_null(path)))
WRAP(ssize_t, -1, readlinkat, (int fd, const char *path, char *to, size_t n), (fd, path, to, n),
     below_or_open(fd, path))

struct dirent64 *readdir64(DIR *dir) {
    static struct dirent64 *(*real)(DIR *);
    if (!real) real = dlsym(RTLD_NEXT, "readdir64");
    if (is_at(fd_below(dirfd(dir)))) {
        if (!getenv("READFAIL_SHORT")) errno = EIO;
        return NULL;
    }
    return real(dir);
}

// Listings are also read by getdents64, which has no other name in the library that the command uses.
long syscall(long number, ...) {
    static long (*real)(long, ...);
    if (!real) real = dlsym(RTLD_NEXT, "syscall");
    long a[6];
    va_list more;
    va_start(more, number);
    for (int i = 0; i < 6; i++) a[i] = va_arg(more, long);
    va_end(more);
    if (number == SYS_getdents64 && is_at(fd_below((int)a[0]))) {
        if (getenv("READFAIL_SHORT")) return 0;
        errno = EIO;
        return -1;
    }
    return real(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}

static int open_mode(int flags, va_list more) {
    return flags & (O_CREAT | O_TMPFILE) ? va_arg(more, int) : 0;
}

#define WRAP_OPEN(name)                                                                 \
    int name(const char *path, int flags, ...) {                                        \
        static int (*real)(const char *, int, ...);                                     \
        if (!real) real = dlsym(RTLD_NEXT, #name);                                      \
        va_list more;                                                                   \
        va_start(more, flags);                                                          \
        int mode = open_mode(flags, more);                                              \
        va_end(more);                                                                   \
        return fails(below(path) && !(flags & O_CREAT)) ? -1 : real(path, flags, mode); \
    }

WRAP_OPEN(open)
WRAP_OPEN(open64)

int openat(int fd, const char *path, int flags, ...) {
    static int (*real)(int, const char *, int, ...);
    if (!real) real = dlsym(RTLD_NEXT, "openat");
    va_list more;
    va_start(more, flags);
    int mode = open_mode(flags, more);
    va_end(more);
    return fails(below_or_open(fd, path) && !(flags & O_CREAT)) ? -1 : real(fd, path, flags, mode);
}

static void note_removal(const char *path) {
    const char *at = getenv("READFAIL_AT"), *freed = getenv("READFAIL_FREED");
    if (!at || !freed || !atol(at) || atomic_load(&calls) < atol(at)) return;
    if (strstr(path, "object-") || strstr(path, "pack-")) close(creat(freed, 0600));
}

int unlink(const char *path) {
    static int (*real)(const char *);
    if (!real) real = dlsym(RTLD_NEXT, "unlink");
    note_removal(path);
    return real(path);
}

int unlinkat(int fd, const char *path, int flags) {
    static int (*real)(int, const char *, int);
    if (!real) real = dlsym(RTLD_NEXT, "unlinkat");
    note_removal(path);
    return real(fd, path, flags);
}
