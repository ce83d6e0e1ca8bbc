/* A disk that dies or fills up at a chosen call: preloaded into a test's process, it counts and stops the calls that change what is
   below a folder. After a death nothing below the folder changes any more, as after a kill; the process itself goes on. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

enum { COUNT, KILL, TEAR, FULL };
static char root[PATH_MAX];
static int mode, last;
static atomic_int calls;
static char seen[4096][160];

/* From now on: count the calls below the folder; at call `at` do what the mode says. */
void disk_arm(const char *folder, int what, int at) {
    snprintf(root, sizeof root, "%s", folder);
    mode = what, last = at, calls = 0;
}
int disk_calls(void) { return calls; }
const char *disk_call(int number) { return seen[number]; }

static int is_below(const char *path) {
    char whole[PATH_MAX], here[PATH_MAX];
    if (!root[0] || !path) return 0;
    if (path[0] != '/' && getcwd(here, sizeof here)) {
        snprintf(whole, sizeof whole, "%.2000s/%.2000s", here, path);
        path = whole;
    }
    return !strncmp(path, root, strlen(root));
}
static const char *name_of(int file, char *name) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t length = readlink(link, name, PATH_MAX - 1);
    name[length < 0 ? 0 : length] = 0;
    return name;
}

/* Whether a call may go on: 1 yes, 0 no (errno is set), -1 half of it. */
static int may(const char *what, const char *path, int grows) {
    if (!is_below(path)) return 1;
    int number = atomic_fetch_add(&calls, 1);
    if (number < 4096) snprintf(seen[number], sizeof seen[0], "%s %.140s", what, path + strlen(root));
    if (mode == COUNT || number < last) return 1;
    if (mode == FULL) return grows ? (errno = ENOSPC, 0) : 1;
    errno = EIO;
    return mode == TEAR && number == last ? -1 : 0;
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))
#define OPEN(name)                                                                                      \
    int name(const char *path, int flags, ...) {                                                        \
        va_list rest;                                                                                   \
        va_start(rest, flags);                                                                          \
        mode_t rights = va_arg(rest, mode_t);                                                           \
        va_end(rest);                                                                                   \
        if ((flags & (O_CREAT | O_TRUNC)) && may("open", path, 1) != 1) return -1;  \
        return REAL(name)(path, flags, rights);                                                         \
    }
OPEN(open)
OPEN(open64)

#define OPENAT(name)                                                                                    \
    int name(int folder, const char *path, int flags, ...) {                                            \
        va_list rest;                                                                                   \
        va_start(rest, flags);                                                                          \
        mode_t rights = va_arg(rest, mode_t);                                                           \
        va_end(rest);                                                                                   \
        if ((flags & (O_CREAT | O_TRUNC)) && may("open", path, 1) != 1) return -1;  \
        return REAL(name)(folder, path, flags, rights);                                                 \
    }
OPENAT(openat)
OPENAT(openat64)

ssize_t write(int file, const void *bytes, size_t count) {
    char name[PATH_MAX];
    int answer = may("write", name_of(file, name), 1);
    return answer ? REAL(write)(file, bytes, answer < 0 ? count / 2 : count) : -1;
}
ssize_t pwrite64(int file, const void *bytes, size_t count, off64_t at) {
    char name[PATH_MAX];
    int answer = may("write", name_of(file, name), 1);
    return answer ? REAL(pwrite64)(file, bytes, answer < 0 ? count / 2 : count, at) : -1;
}
ssize_t writev(int file, const struct iovec *parts, int count) {
    char name[PATH_MAX];
    int answer = may("write", name_of(file, name), 1);
    return answer ? REAL(writev)(file, parts, answer < 0 ? (count + 1) / 2 : count) : -1;
}

/* Calls on a name: they are done whole or not at all, so a tear is a death. */
#define NAMED(result, name, grows, path, parameters, arguments)                        \
    result name parameters {                                                           \
        if (may(#name, path, grows) != 1) return -1;      \
        return REAL(name) arguments;                                                   \
    }
NAMED(int, rename, 0, to, (const char *from, const char *to), (from, to))
NAMED(int, renameat, 0, to, (int a, const char *from, int b, const char *to), (a, from, b, to))
NAMED(int, link, 1, to, (const char *from, const char *to), (from, to))
NAMED(int, linkat, 1, to, (int a, const char *from, int b, const char *to, int flags), (a, from, b, to, flags))
NAMED(int, unlink, 0, path, (const char *path), (path))
NAMED(int, unlinkat, 0, path, (int folder, const char *path, int flags), (folder, path, flags))
NAMED(int, rmdir, 0, path, (const char *path), (path))
NAMED(int, mkdir, 1, path, (const char *path, mode_t rights), (path, rights))
