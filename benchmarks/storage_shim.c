/* Stands between a process and the storage below one folder, by LD_PRELOAD.

   GATEWATCH_SHIM_FOLDER: the folder. GATEWATCH_SHIM_TRACE: a file that gets every change and every sync below the
   folder, in the order in which they happened. GATEWATCH_SHIM_FAULT: a file; while it exists every change fails with
   the errno that it holds as a decimal number.

   A trace is a sequence of records, little-endian: kind (1 byte), length of the path (2), offset (8), length of the data
   (4), path, data. Kinds: W write, T truncate (offset is the size), C create, S sync, U unlink, R rename (data is the
   new path), D sync of the folder itself. Paths are relative to the folder. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define MAX_FILES 4096
#define REAL(name) \
    static __typeof__(&name) real; \
    if (!real) real = (__typeof__(&name))dlsym(RTLD_NEXT, #name)

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static char *paths[MAX_FILES]; /* by descriptor; NULL for what lies elsewhere */
static int is_appending[MAX_FILES];
static const char *folder, *fault_file;
static size_t folder_length;
static int trace_file = -1;

__attribute__((constructor)) static void begin(void) {
    folder = getenv("GATEWATCH_SHIM_FOLDER");
    folder_length = folder ? strlen(folder) : 0;
    fault_file = getenv("GATEWATCH_SHIM_FAULT");
    const char *trace = getenv("GATEWATCH_SHIM_TRACE");
    if (trace)
        trace_file = syscall(SYS_openat, AT_FDCWD, trace, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
}

/* The path below the folder; "" for the folder itself, NULL for anything else. */
static const char *below(const char *path) {
    if (!folder || !path || strncmp(path, folder, folder_length)) return NULL;
    if (!path[folder_length]) return "";
    return path[folder_length] == '/' ? path + folder_length + 1 : NULL;
}

static const char *path_of(int file) { return file >= 0 && file < MAX_FILES ? paths[file] : NULL; }

static int fault(void) {
    if (!fault_file) return 0;
    char text[16] = {0};
    int file = syscall(SYS_openat, AT_FDCWD, fault_file, O_RDONLY | O_CLOEXEC);
    if (file < 0) return 0;
    ssize_t length = syscall(SYS_read, file, text, sizeof text - 1);
    syscall(SYS_close, file);
    return length > 0 ? atoi(text) : 0;
}

/* On a full disk what has its place already can be written over. */
static int fault_up_to(int file, uint64_t end) {
    struct stat status;
    int error = fault();
    return error == ENOSPC && !fstat(file, &status) && end <= (uint64_t)status.st_size ? 0 : error;
}

static void put(char kind, const char *path, uint64_t offset, const void *data, uint32_t length) {
    if (trace_file < 0) return;
    char head[15];
    uint16_t path_length = strlen(path);
    head[0] = kind;
    memcpy(head + 1, &path_length, 2);
    memcpy(head + 3, &offset, 8);
    memcpy(head + 11, &length, 4);
    size_t total = sizeof head + path_length + length;
    char *record = malloc(total);
    memcpy(record, head, sizeof head);
    memcpy(record + sizeof head, path, path_length);
    if (length) memcpy(record + sizeof head + path_length, data, length);
    /* One write a record, so that a killed process leaves at most a cut last one. */
    if (syscall(SYS_write, trace_file, record, total) != (ssize_t)total) abort();
    free(record);
}

static int opened(int file, const char *path, int flags, int existed) {
    const char *name = below(path);
    if (file < 0 || !name || file >= MAX_FILES) return file;
    pthread_mutex_lock(&lock);
    free(paths[file]);
    paths[file] = strdup(name);
    is_appending[file] = !!(flags & O_APPEND);
    if ((flags & O_CREAT) && !existed) put('C', name, 0, NULL, 0);
    if ((flags & O_TRUNC) && existed) put('T', name, 0, NULL, 0);
    pthread_mutex_unlock(&lock);
    return file;
}

static int open_any(int folder_file, const char *path, int flags, mode_t mode) {
    const char *name = below(path);
    int existed = !access(path, F_OK);
    int error = name && (flags & (O_WRONLY | O_RDWR | O_CREAT)) && !existed ? fault() : 0;
    if (error) {
        errno = error;
        return -1;
    }
    return opened(syscall(SYS_openat, folder_file, path, flags, mode), path, flags, existed);
}

#define OPEN(name, ...) \
    int name(__VA_ARGS__ const char *path, int flags, ...) { \
        va_list rest; \
        va_start(rest, flags); \
        mode_t mode = flags & (O_CREAT | __O_TMPFILE) ? va_arg(rest, mode_t) : 0; \
        va_end(rest);

OPEN(open) return open_any(AT_FDCWD, path, flags, mode); }
OPEN(open64) return open_any(AT_FDCWD, path, flags, mode); }
OPEN(openat, int at,) return open_any(at, path, flags, mode); }
OPEN(openat64, int at,) return open_any(at, path, flags, mode); }

int close(int file) {
    REAL(close);
    pthread_mutex_lock(&lock);
    if (path_of(file)) {
        free(paths[file]);
        paths[file] = NULL;
    }
    pthread_mutex_unlock(&lock);
    return real(file);
}

/* Each change is made and noted under the lock, so that the trace has the order in which changes really happened. */
#define CHANGE(file, end, call, note) \
    const char *path = path_of(file); \
    if (!path) return call; \
    pthread_mutex_lock(&lock); \
    int error = fault_up_to(file, end); \
    __typeof__(call) result = -1; \
    if (error) errno = error; \
    else { \
        result = call; \
        if (result >= 0) { note; } \
    } \
    int kept = errno; \
    pthread_mutex_unlock(&lock); \
    errno = kept; \
    return result

static uint64_t place(int file, ssize_t written) {
    if (is_appending[file]) {
        struct stat status;
        fstat(file, &status);
        return status.st_size - written;
    }
    return lseek(file, 0, SEEK_CUR) - written;
}

ssize_t write(int file, const void *data, size_t length) {
    REAL(write);
    CHANGE(file, UINT64_MAX, real(file, data, length), put('W', path, place(file, result), data, result));
}

ssize_t pwrite(int file, const void *data, size_t length, off_t offset) {
    REAL(pwrite);
    CHANGE(file, offset + length, real(file, data, length, offset), put('W', path, offset, data, result));
}

ssize_t pwrite64(int file, const void *data, size_t length, off64_t offset) {
    REAL(pwrite64);
    CHANGE(file, offset + length, real(file, data, length, offset), put('W', path, offset, data, result));
}

int ftruncate(int file, off_t size) {
    REAL(ftruncate);
    CHANGE(file, size, real(file, size), put('T', path, size, NULL, 0));
}

int ftruncate64(int file, off64_t size) {
    REAL(ftruncate64);
    CHANGE(file, size, real(file, size), put('T', path, size, NULL, 0));
}

int fsync(int file) {
    REAL(fsync);
    CHANGE(file, 0, real(file), put(*path ? 'S' : 'D', path, 0, NULL, 0));
}

int fdatasync(int file) {
    REAL(fdatasync);
    CHANGE(file, 0, real(file), put(*path ? 'S' : 'D', path, 0, NULL, 0));
}

int unlink(const char *name) {
    REAL(unlink);
    const char *path = below(name);
    if (!path) return real(name);
    pthread_mutex_lock(&lock);
    int error = fault(), result = -1;
    if (error) errno = error;
    else if (!(result = real(name))) put('U', path, 0, NULL, 0);
    int kept = errno;
    pthread_mutex_unlock(&lock);
    errno = kept;
    return result;
}

int rename(const char *old, const char *new) {
    REAL(rename);
    const char *from = below(old), *to = below(new);
    if (!from || !to) return real(old, new);
    pthread_mutex_lock(&lock);
    int error = fault(), result = -1;
    if (error) errno = error;
    else if (!(result = real(old, new))) put('R', from, 0, to, strlen(to));
    int kept = errno;
    pthread_mutex_unlock(&lock);
    errno = kept;
    return result;
}
