// SPDX-License-Identifier: GPL-2.0-only
/* Tapes that are being written. */
#define _GNU_SOURCE
#include "tape.h"
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define SHARE "/run/vm-out" /* lasts longer than the VM does, where it was asked for */

/* All of it at once, or the disk is full: then there is no more tape. */
static void flush(struct dmt_tape *tape)
{
	if (tape->fd >= 0 && tape->len &&
	    write(tape->fd, tape->bytes, tape->len) != (ssize_t)tape->len) {
		warn("%s", tape->path);
		close(tape->fd);
		tape->fd = -1;
	}
	tape->len = 0;
}

static void put(struct dmt_tape *tape, const void *bytes, size_t len)
{
	if (tape->len + len > sizeof(tape->bytes))
		flush(tape);
	memcpy(tape->bytes + tape->len, bytes, len);
	tape->len += len;
}

/* Past the cache, which a kernel that dies takes along; some know no such thing. */
static int open_tape(const char *path)
{
	const int flags = O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC;
	int fd = open(path, flags | O_DIRECT, 0644);

	return fd < 0 && errno == EINVAL ? open(path, flags, 0644) : fd;
}

/* In ms; it begins anew after 49 days. */
uint32_t dmt_tape_clock(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint32_t)now.tv_sec * 1000 + (uint32_t)(now.tv_nsec / 1000000);
}

/**
 * dmt_tape_start() - begin a tape: DMT_TAPE, or one in /run/vm-out of a VM
 * @tape: gets it
 * @name: of the file there
 * @head: what it begins with
 */
void dmt_tape_start(struct dmt_tape *tape, const char *name,
		    const struct dmt_tape_head *head)
{
	const char *path = getenv("DMT_TAPE");

	tape->fd = -1;
	tape->len = 0;
	if (path && *path)
		snprintf(tape->path, sizeof(tape->path), "%s", path);
	else if (!access(SHARE, W_OK))
		snprintf(tape->path, sizeof(tape->path), SHARE "/%s", name);
	else
		return;
	tape->fd = open_tape(tape->path);
	if (tape->fd < 0)
		err(1, "%s", tape->path);
	tape->begun = dmt_tape_clock();
	put(tape, head, sizeof(*head));
	flush(tape);
}

/**
 * dmt_tape_note() - what is about to be done, or was read
 * @tape: gets it
 * @note: what; when, is filled in
 * @bytes: @note->len of them
 *
 * What the kernel is going to be told is on tape when this returns.
 */
void dmt_tape_note(struct dmt_tape *tape, struct dmt_tape_note *note,
		   const void *bytes)
{
	if (tape->fd < 0)
		return;
	note->ms = dmt_tape_clock() - tape->begun;
	put(tape, note, sizeof(*note));
	if (note->len)
		put(tape, bytes, note->len);
	if (note->what != DMT_TAPE_READ)
		flush(tape);
}

/* What came to a good end need not be kept. */
void dmt_tape_end(struct dmt_tape *tape, bool keep)
{
	if (tape->fd < 0)
		return;
	flush(tape);
	close(tape->fd);
	tape->fd = -1;
	if (!keep && !getenv("DMT_TAPE"))
		unlink(tape->path);
}
