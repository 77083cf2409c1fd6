/* SPDX-License-Identifier: GPL-2.0-only */
/* Sentences: for the log, and about what went wrong. */
#ifndef DMUD_LOG_H
#define DMUD_LOG_H

#include <stddef.h>
#include <syslog.h>

/* Where a function leaves one sentence about its failure. */
#define SENTENCE_SIZE 512

void log_set_level(int priority);
void log_to_both(void);
void log_to_syslog(void);
void log_line(int priority, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));
int failed(char *why, int err, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

#endif /* DMUD_LOG_H */
