/*
 * Simulates faults for the processes that preload this library: a directory whose file system has no space for another
 * byte or another file, and a clock that is wrong.
 *
 * The faults are read from a small file that all of these processes map, so a test can change them while they run.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

/* The offsets are repeated in faults.rs. */
struct faults {
    int64_t clock_seconds;
    int32_t no_space;
    int32_t no_files;
    char directory[PATH_MAX];
};

static const struct faults *faults;

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

__attribute__((constructor)) static void map_faults(void) {
    const char *path = getenv("TESTBED_FAULTS");
    int file = path ? (int)syscall(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC, 0) : -1;
    if (file < 0) return;
    void *map = mmap(NULL, sizeof *faults, PROT_READ, MAP_SHARED, file, 0);
    if (map != MAP_FAILED) faults = map;
    syscall(SYS_close, file);
}

static int is_within(const char *path) {
    size_t length = strlen(faults->directory);
    return length > 0 && strncmp(path, faults->directory, length) == 0 && (path[length] == '/' || path[length] == 0);
}

static int refuses_bytes(int file) {
    if (!faults || !faults->no_space) return 0;
    char link[64], path[PATH_MAX];
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t length = syscall(SYS_readlinkat, AT_FDCWD, link, path, sizeof path - 1);
    if (length < 0) return 0;
    path[length] = 0;
    if (!is_within(path)) return 0;
    errno = ENOSPC;
    return 1;
}

static int refuses_name(const char *path) {
    if (!faults || !faults->no_files || path[0] != '/' || !is_within(path)) return 0;
    struct stat there;
    if (syscall(SYS_newfstatat, AT_FDCWD, path, &there, AT_SYMLINK_NOFOLLOW) == 0) return 0;
    errno = ENOSPC;
    return 1;
}

/* Writing. */

ssize_t write(int file, const void *bytes, size_t count) {
    return count > 0 && refuses_bytes(file) ? -1 : REAL(write)(file, bytes, count);
}

ssize_t pwrite64(int file, const void *bytes, size_t count, off64_t offset) {
    struct stat there;
    /* Blocks that a file already has can be overwritten. */
    int is_new = syscall(SYS_fstat, file, &there) != 0 || offset + (off64_t)count > there.st_size;
    return is_new && refuses_bytes(file) ? -1 : REAL(pwrite64)(file, bytes, count, offset);
}

ssize_t writev(int file, const struct iovec *parts, int count) {
    return refuses_bytes(file) ? -1 : REAL(writev)(file, parts, count);
}

ssize_t copy_file_range(int from, off64_t *from_at, int to, off64_t *to_at, size_t count, unsigned flags) {
    return refuses_bytes(to) ? -1 : REAL(copy_file_range)(from, from_at, to, to_at, count, flags);
}

ssize_t sendfile64(int to, int from, off64_t *offset, size_t count);
ssize_t sendfile64(int to, int from, off64_t *offset, size_t count) {
    return refuses_bytes(to) ? -1 : REAL(sendfile64)(to, from, offset, count);
}

/* Creating files and directories. */

#define OPEN(name)                                                       \
    int name(const char *path, int flags, ...) {                         \
        va_list more;                                                    \
        va_start(more, flags);                                           \
        mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(more, mode_t) : 0; \
        va_end(more);                                                    \
        return flags & O_CREAT && refuses_name(path) ? -1 : REAL(name)(path, flags, mode); \
    }
OPEN(open)
OPEN(open64)

int mkdir(const char *path, mode_t mode) {
    return refuses_name(path) ? -1 : REAL(mkdir)(path, mode);
}

/* The time of day. Monotonic clocks are not changed, because a step of the clock does not affect them. */

int clock_gettime(clockid_t clock, struct timespec *time) {
    int result = (int)syscall(SYS_clock_gettime, clock, time);
    if (result == 0 && faults && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
        time->tv_sec += faults->clock_seconds;
    return result;
}

int gettimeofday(struct timeval *restrict time, void *restrict zone) {
    (void)zone;
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    time->tv_sec = now.tv_sec;
    time->tv_usec = now.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *result) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (result) *result = now.tv_sec;
    return now.tv_sec;
}
