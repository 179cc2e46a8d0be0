/* A clock that is LAB_CLOCK seconds off, preloaded into what a host of the lab starts.

   Only the clock that people read: CLOCK_REALTIME. The kernel waits by its own, so a point in time
   that is handed to it is turned back. Numbers above a billion seconds are such points; a monotonic
   clock counts from the boot. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static long off(void)
{
    const char *text = getenv("LAB_CLOCK");
    return text ? atol(text) : 0;
}

static struct timespec true_time(const struct timespec *seen)
{
    struct timespec real = *seen;
    if (real.tv_sec > 1000000000)
        real.tv_sec -= off();
    return real;
}

int clock_gettime(clockid_t clock, struct timespec *now)
{
    int failed = syscall(SYS_clock_gettime, clock, now);
    if (!failed && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
        now->tv_sec += off();
    return failed;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone)
{
    int failed = syscall(SYS_gettimeofday, now, zone);
    if (!failed && now)
        now->tv_sec += off();
    return failed;
}

time_t time(time_t *where)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (where)
        *where = now.tv_sec;
    return now.tv_sec;
}

int pthread_cond_timedwait(pthread_cond_t *restrict cond, pthread_mutex_t *restrict mutex,
                           const struct timespec *restrict until)
{
    static int (*next)(pthread_cond_t *, pthread_mutex_t *, const struct timespec *);
    struct timespec real = true_time(until);
    if (!next) /* by version: the plain name may be that of an older kind of condition */
        next = dlvsym(RTLD_NEXT, "pthread_cond_timedwait", "GLIBC_2.3.2");
    if (!next)
        next = dlsym(RTLD_NEXT, "pthread_cond_timedwait");
    return next(cond, mutex, &real);
}

int sem_timedwait(sem_t *restrict sem, const struct timespec *restrict until)
{
    static int (*next)(sem_t *, const struct timespec *);
    struct timespec real = true_time(until);
    if (!next)
        next = dlsym(RTLD_NEXT, "sem_timedwait");
    return next(sem, &real);
}
