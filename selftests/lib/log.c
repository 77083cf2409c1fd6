// SPDX-License-Identifier: GPL-2.0-only
/* What the kernel says in its log. */
#define _GNU_SOURCE
#include "dmt.h"
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

/* From here on; to be closed. */
int dmt_log_open(void)
{
	int fd = open("/dev/kmsg", O_RDONLY | O_NONBLOCK | O_CLOEXEC);

	if (fd < 0 || lseek(fd, 0, SEEK_END) < 0)
		err(1, "/dev/kmsg");
	return fd;
}

/**
 * dmt_log_take() - what the kernel has said since the last look
 * @fd: of dmt_log_open()
 * @buf: gets the lines, without what precedes the text
 * @len: of @buf; what does not fit is left out
 */
void dmt_log_take(int fd, char *buf, size_t len)
{
	char record[8192], *text;
	size_t used = 0;
	ssize_t n;

	*buf = '\0';
	for (;;) {
		n = read(fd, record, sizeof(record) - 1);
		if (n < 0 && errno == EAGAIN)
			return;
		if (n < 0 && errno == EPIPE) /* lines were lost: go on */
			continue;
		if (n < 0)
			err(1, "/dev/kmsg");
		record[n] = '\0';
		text = strchr(record, ';');
		text = text ? text + 1 : record;
		n = (ssize_t)strlen(text);
		if (used + n + 1 > len)
			continue;
		memcpy(buf + used, text, n + 1);
		used += n;
	}
}
