// SPDX-License-Identifier: GPL-2.0-only
/*
 * push CONTROL-DEVICE DST-MAJOR:MINOR PATTERN FIRST COUNT: maps COUNT blocks from
 * FIRST on that nobody has asked for, and leaves.
 *
 * PATTERN is "run", where block n lives at block n, or the number of blocks of
 * the destination, a power of two, over which they are strewn so that no block
 * lives behind the one before it.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/dm-userspace.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define BATCH 1024
/* Odd, so that it strews over any power of two of blocks. */
#define STRIDE 2654435761ULL

struct message {
	struct dmu_msg_header header;
	struct dmu_msg_map_response body;
} __attribute__((packed));

static struct message messages[BATCH];

static void fail(const char *what)
{
	fprintf(stderr, "push: %s: %s\n", what, strerror(errno));
	exit(1);
}

static void fill(struct message *message, unsigned long long block,
		 unsigned long long strewn_over)
{
	message->body.org_block = block;
	message->body.new_block = strewn_over ?
				  block * STRIDE % strewn_over : block;
}

static void send_batch(int fd, size_t count)
{
	size_t bytes = count * sizeof(messages[0]);
	ssize_t written = write(fd, messages, bytes);

	if (written < 0)
		fail("write");
	if ((size_t)written != bytes) {
		fprintf(stderr, "push: a message was refused\n");
		exit(1);
	}
}

static void push(int fd, unsigned long long first, unsigned long long count,
		 unsigned long long strewn_over)
{
	while (count) {
		size_t n = count < BATCH ? count : BATCH;
		size_t i;

		for (i = 0; i < n; i++)
			fill(&messages[i], first + i, strewn_over);
		send_batch(fd, n);
		first += n;
		count -= n;
	}
}

int main(int argc, char **argv)
{
	unsigned long long strewn_over = 0;
	struct message blank = {
		.header = {
			.msg_type = DM_USERSPACE_MAP_BLOCK_RESP,
			.payload_len = sizeof(blank.body),
		},
		.body.flags = DMU_FLAG_RD | DMU_FLAG_WR,
	};
	unsigned int major, minor;
	int fd, i;

	if (argc != 6 || sscanf(argv[2], "%u:%u", &major, &minor) != 2) {
		fprintf(stderr,
			"usage: push CONTROL-DEVICE DST-MAJOR:MINOR run|BLOCKS FIRST COUNT\n");
		return 2;
	}
	blank.body.dst_maj = major;
	blank.body.dst_min = minor;
	for (i = 0; i < BATCH; i++)
		messages[i] = blank;
	if (strcmp(argv[3], "run"))
		strewn_over = strtoull(argv[3], NULL, 0);
	fd = open(argv[1], O_RDWR);
	if (fd < 0)
		fail(argv[1]);
	push(fd, strtoull(argv[4], NULL, 0), strtoull(argv[5], NULL, 0),
	     strewn_over);
	close(fd);
	return 0;
}
