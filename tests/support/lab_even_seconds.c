/* Preloaded on a host, sets the times of files to even seconds, as FAT keeps them. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <stddef.h>
#include <sys/stat.h>
#include <sys/time.h>

static void make_even(struct timespec out[2], const struct timespec in[2])
{
    for (int i = 0; i < 2; i++) {
        out[i] = in[i];
        if (in[i].tv_nsec != UTIME_NOW && in[i].tv_nsec != UTIME_OMIT) {
            out[i].tv_sec -= out[i].tv_sec % 2;
            out[i].tv_nsec = 0;
        }
    }
}

int utimensat(int folder, const char *path, const struct timespec times[2], int flags)
{
    int (*real)(int, const char *, const struct timespec *, int) = dlsym(RTLD_NEXT, "utimensat");
    struct timespec even[2];
    if (times)
        make_even(even, times);
    return real(folder, path, times ? even : NULL, flags);
}

int futimens(int file, const struct timespec times[2])
{
    int (*real)(int, const struct timespec *) = dlsym(RTLD_NEXT, "futimens");
    struct timespec even[2];
    if (times)
        make_even(even, times);
    return real(file, times ? even : NULL);
}
