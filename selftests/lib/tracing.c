// SPDX-License-Identifier: GPL-2.0-only
/* What the kernel's own tracepoints say, in a tracefs instance of a test's own. */
#define _GNU_SOURCE
#include "tracing.h"
#include <err.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#define TRACEFS "/sys/kernel/tracing"

static void put(const struct dmt_tracing *tracing, const char *event,
		const char *file, const char *value)
{
	char path[256];
	FILE *f;

	snprintf(path, sizeof(path), "%s/events/%s/%s", tracing->dir, event,
		 file);
	f = fopen(path, "we");
	if (!f || fputs(value, f) < 0 || fclose(f))
		err(1, "writing %s to %s", value, path);
}

/**
 * dmt_tracing_make() - make an instance in which nothing is traced yet
 * @tracing: gets it
 * @name: of it; no other has it
 *
 * Return: false where the kernel has no tracefs.
 */
bool dmt_tracing_make(struct dmt_tracing *tracing, const char *name)
{
	char path[256];
	struct stat st;

	memset(tracing, 0, sizeof(*tracing));
	tracing->marker = -1;
	if (stat(TRACEFS "/instances", &st) &&
	    mount("tracefs", TRACEFS, "tracefs", 0, NULL))
		return false;
	snprintf(tracing->dir, sizeof(tracing->dir), TRACEFS "/instances/%s",
		 name);
	if (mkdir(tracing->dir, 0700))
		err(1, "%s", tracing->dir);
	snprintf(path, sizeof(path), "%s/trace_marker", tracing->dir);
	tracing->marker = open(path, O_WRONLY | O_CLOEXEC);
	if (tracing->marker < 0)
		err(1, "%s", path);
	return true;
}

/* Of what dmt_tracing_make() made, or could not make. */
void dmt_tracing_remove(struct dmt_tracing *tracing)
{
	if (!*tracing->dir)
		return;
	close(tracing->marker);
	if (rmdir(tracing->dir))
		warn("%s", tracing->dir);
}

/**
 * dmt_tracing_on() - trace an event from now on
 * @tracing: the instance
 * @event: with its system: "block/block_bio_queue"
 * @filter: which of them, in tracefs' words
 *
 * Best while nothing runs that has it: see vm/README.rst.
 */
void dmt_tracing_on(const struct dmt_tracing *tracing, const char *event,
		    const char *filter)
{
	put(tracing, event, "filter", filter);
	put(tracing, event, "enable", "1");
}

void dmt_tracing_off(const struct dmt_tracing *tracing, const char *event)
{
	put(tracing, event, "enable", "0");
}

/* A word between what is traced before this and what is traced after it. */
void dmt_tracing_mark(const struct dmt_tracing *tracing, const char *word)
{
	if (write(tracing->marker, word, strlen(word)) != (ssize_t)strlen(word))
		err(1, "trace_marker");
}

/* All that has been traced, to be read line by line and closed. */
FILE *dmt_tracing_read(const struct dmt_tracing *tracing)
{
	char path[256];
	FILE *f;

	snprintf(path, sizeof(path), "%s/trace", tracing->dir);
	f = fopen(path, "re");
	if (!f)
		err(1, "%s", path);
	return f;
}
