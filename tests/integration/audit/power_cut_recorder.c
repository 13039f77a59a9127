/* Records what a process does to files below $RECORD_ROOT, in order, into $RECORD_LOG (LD_PRELOAD).
 *
 * Record: one byte of kind, u32 length of the path, u64 offset, u64 length of the data, path, data.
 * Kinds: W write, T truncate (offset = new size), S sync of the file, U unlink, A acknowledgement
 * (written by the recorded program itself, into the log).
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

#define REAL(result, name, ...) \
    static result (*real)(__VA_ARGS__); \
    if (!real) real = dlsym(RTLD_NEXT, name)

static int path_of(int fd, char *path) {
    char link[64];
    const char *root = getenv("RECORD_ROOT");
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, 4000);
    if (length <= 0 || !root) return 0;
    path[length] = 0;
    return strncmp(path, root, strlen(root)) == 0;
}

static void record(char kind, const char *path, uint64_t offset, const void *data, uint64_t length) {
    static int log = -1;
    if (log < 0) log = open(getenv("RECORD_LOG"), O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
    uint32_t path_length = strlen(path);
    struct iovec parts[6] = {
        {&kind, 1}, {&path_length, 4}, {&offset, 8}, {&length, 8}, {(void *)path, path_length}, {(void *)data, length}};
    if (log < 0 || writev(log, parts, 6) < 0) abort();
}

static ssize_t written(int fd, const void *data, off_t offset, ssize_t result) {
    char path[4096];
    if (result > 0 && path_of(fd, path)) record('W', path, offset, data, result);
    return result;
}

ssize_t pwrite64(int fd, const void *data, size_t length, off_t offset) {
    REAL(ssize_t, "pwrite64", int, const void *, size_t, off_t);
    return written(fd, data, offset, real(fd, data, length, offset));
}

ssize_t pwrite(int fd, const void *data, size_t length, off_t offset) { return pwrite64(fd, data, length, offset); }

ssize_t write(int fd, const void *data, size_t length) {
    REAL(ssize_t, "write", int, const void *, size_t);
    off_t offset = lseek(fd, 0, SEEK_CUR);
    return written(fd, data, offset, real(fd, data, length));
}

static int synced(int fd, int result) {
    char path[4096];
    if (result == 0 && path_of(fd, path)) record('S', path, 0, "", 0);
    return result;
}

int fsync(int fd) {
    REAL(int, "fsync", int);
    return synced(fd, real(fd));
}

int fdatasync(int fd) {
    REAL(int, "fdatasync", int);
    return synced(fd, real(fd));
}

int ftruncate64(int fd, off_t size) {
    REAL(int, "ftruncate64", int, off_t);
    char path[4096];
    int result = real(fd, size);
    if (result == 0 && path_of(fd, path)) record('T', path, size, "", 0);
    return result;
}

int ftruncate(int fd, off_t size) { return ftruncate64(fd, size); }

int unlink(const char *path) {
    REAL(int, "unlink", const char *);
    const char *root = getenv("RECORD_ROOT");
    int result = real(path);
    if (result == 0 && root && strncmp(path, root, strlen(root)) == 0) record('U', path, 0, "", 0);
    return result;
}
