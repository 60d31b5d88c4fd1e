// Preloaded into the command: this host remembers that some names do not exist, as an NFS client does for up to half a
// minute, although another host has made them since. STALENAMES is a colon-separated list of these names, as absolute
// paths. Each path below one seems to be missing too. Opening the directory that holds such a name makes the client ask
// again, and the name appears; with STALEOPENS=N after it was opened N times, as where two changes of a directory have
// the same time. statfs reports NFS, so that the store counts as shared.
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <unistd.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static char *names[64];
static int opens[64];
static int count = -1;

static void begin(void) {
    if (count >= 0) return;
    count = 0;
    const char *list = getenv("STALENAMES");
    char *copy = list ? strdup(list) : NULL, *rest;
    for (char *name = copy ? strtok_r(copy, ":", &rest) : NULL; name && count < 64; name = strtok_r(NULL, ":", &rest))
    {
        opens[count] = getenv("STALEOPENS") ? atoi(getenv("STALEOPENS")) : 1;
        names[count++] = name;
    }
}

static int hidden(const char *path) {
    int found = 0;
    pthread_mutex_lock(&lock);
    begin();
    for (int i = 0; path && i < count; i++) {
        size_t n = strlen(names[i]);
        found |= strncmp(path, names[i], n) == 0 && (path[n] == 0 || path[n] == '/');
    }
    pthread_mutex_unlock(&lock);
    if (found) errno = ENOENT;
    return found;
}

static void opened(const char *dir) {
    pthread_mutex_lock(&lock);
    begin();
    for (int i = 0; dir && i < count; i++) {
        char *slash = strrchr(names[i], '/');
        if (slash && strlen(dir) == (size_t)(slash - names[i]) && strncmp(dir, names[i], slash - names[i]) == 0) {
            if (--opens[i] > 0) continue;
            opens[i] = opens[--count];
            names[i--] = names[count];
        }
    }
    pthread_mutex_unlock(&lock);
}

#define REAL(name) static __typeof__(name) *real; if (!real) real = (__typeof__(name) *)dlsym(RTLD_NEXT, #name)

static int open_of(int (*real)(const char *, int, ...), const char *path, int flags, int mode) {
    if (!(flags & O_CREAT) && hidden(path)) return -1;
    int fd = real(path, flags, mode);
    if (fd >= 0) opened(path);
    return fd;
}

#define OPEN(name)                                                      \
    int name(const char *path, int flags, ...) {                        \
        REAL(name);                                                     \
        va_list rest;                                                   \
        va_start(rest, flags);                                          \
        int mode = va_arg(rest, int);                                   \
        va_end(rest);                                                   \
        return open_of(real, path, flags, mode);                        \
    }

OPEN(open)
OPEN(open64)

DIR *opendir(const char *path) {
    REAL(opendir);
    if (hidden(path)) return NULL;
    DIR *dir = real(path);
    if (dir) opened(path);
    return dir;
}

ssize_t readlink(const char *path, char *to, size_t size) {
    REAL(readlink);
    return hidden(path) ? -1 : real(path, to, size);
}

// With NOCASE a name that is not there is looked for in small letters, as if names did not differ by case.
static const char *folded(const char *path, char *to) {
    char *name = strrchr(strcpy(to, path), '/');
    for (char *c = name; c && *c; c++)
        if (*c >= 'A' && *c <= 'Z') *c += 'a' - 'A';
    return to;
}

int statx(int dir, const char *restrict given, int flags, unsigned int mask, struct statx *restrict to) {
    REAL(statx);
    const char *volatile any = given; // the header promises that it is not null, and Rust's standard library tries that
    const char *path = any;
    char other[4096];
    if (path && path[0] == '/' && hidden(path)) return -1;
    int result = real(dir, path, flags, mask, to);
    int retry = result && path && errno == ENOENT && getenv("NOCASE") && strlen(path) < sizeof other;
    return retry ? real(dir, folded(path, other), flags, mask, to) : result;
}

#define STAT(name, type)                                                \
    int name(const char *restrict path, struct type *restrict to) {     \
        REAL(name);                                                     \
        return hidden(path) ? -1 : real(path, to);                      \
    }

STAT(stat, stat)
STAT(lstat, stat)
STAT(stat64, stat64)
STAT(lstat64, stat64)

static int nfs(int result, struct statfs *to) {
    if (result == 0) to->f_type = 0x6969;
    return result;
}

int statfs(const char *path, struct statfs *to) {
    REAL(statfs);
    return nfs(real(path, to), to);
}
