// SPDX-License-Identifier: GPL-2.0-only
/*
 * stopwatch.so: preloaded into fio, takes the time of a window of I/Os.
 *
 * fio tells how long a job ran in milliseconds, start and end included. Here the
 * clock is read when the first I/Os of a job are through, and again when so many
 * more are: what lies between is the steady state, to the nanosecond. With
 * --icount a nanosecond is an instruction.
 *
 * STOPWATCH=WARM:COUNT,WARM:COUNT,... has a window for each job that uses
 * libaio, in the order in which they run, one after the other. A line "IOS NS"
 * for each is appended to the file STOPWATCH_OUT. profiler.so sees the window, too.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <libaio.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "window.h"

#define MAX_WINDOWS 64

struct window {
	long warm;
	long count;
};

static int (*real_getevents)(io_context_t ctx, long min_nr, long nr,
			     struct io_event *events, struct timespec *timeout);
static struct window windows[MAX_WINDOWS];
static int nr_windows;
/* Which window is next: fio runs each job in a process of its own. */
static int *turn;

/* Of this job. */
static long done;
static long started_at;
static long long started_ns;
static int ended;

__attribute__((constructor))
static void prepare(void)
{
	const char *spec = getenv("STOPWATCH");
	int used;

	real_getevents = dlsym(RTLD_NEXT, "io_getevents");
	turn = mmap(NULL, sizeof(*turn), PROT_READ | PROT_WRITE,
		    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (turn == MAP_FAILED)
		abort();
	while (spec && nr_windows < MAX_WINDOWS &&
	       sscanf(spec, "%ld:%ld%n", &windows[nr_windows].warm,
		      &windows[nr_windows].count, &used) == 2) {
		nr_windows++;
		spec += used;
		if (*spec == ',')
			spec++;
	}
}

static long long now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000000000LL + ts.tv_nsec;
}

static void write_result(long ios, long long ns)
{
	const char *path = getenv("STOPWATCH_OUT");
	int fd = open(path ? path : "/dev/stderr",
		      O_WRONLY | O_CREAT | O_APPEND, 0644);

	dprintf(fd, "%ld %lld\n", ios, ns);
	close(fd);
}

static void look(int completed)
{
	const struct window *window;

	if (ended || *turn >= nr_windows)
		return;
	window = &windows[*turn];
	done += completed;
	if (!started_ns && done >= window->warm) {
		started_at = done;
		MARK_WINDOW(WINDOW_BEGINS);
		started_ns = now();
	} else if (started_ns && done - started_at >= window->count) {
		MARK_WINDOW(WINDOW_ENDS);
		write_result(done - started_at, now() - started_ns);
		ended = 1;
		++*turn;
	}
}

int io_getevents(io_context_t ctx, long min_nr, long nr,
		 struct io_event *events, struct timespec *timeout)
{
	int completed = real_getevents(ctx, min_nr, nr, events, timeout);

	if (completed > 0)
		look(completed);
	return completed;
}
