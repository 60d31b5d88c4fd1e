// Preloaded into the command: reads of the file named by EIO_PATH fail with EIO, as those of a bad sector do.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

static int bad(int fd) {
    const char *wanted = getenv("EIO_PATH");
    char link[64], text[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, text, sizeof text - 1);
    if (!wanted || n < 0) return 0;
    text[n] = 0;
    if (strcmp(text, wanted)) return 0;
    errno = EIO;
    return 1;
}

#define FAIL(name, parameters, arguments)                               \
    ssize_t name parameters {                                           \
        static ssize_t(*real) parameters;                               \
        if (!real) real = dlsym(RTLD_NEXT, #name);                      \
        return bad(fd) ? -1 : real arguments;                           \
    }

FAIL(read, (int fd, void *to, size_t n), (fd, to, n))
FAIL(pread, (int fd, void *to, size_t n, off_t at), (fd, to, n, at))
FAIL(pread64, (int fd, void *to, size_t n, off64_t at), (fd, to, n, at))
FAIL(preadv, (int fd, const struct iovec *to, int n, off_t at), (fd, to, n, at))
FAIL(preadv64, (int fd, const struct iovec *to, int n, off64_t at), (fd, to, n, at))
