// SPDX-License-Identifier: GPL-2.0-only
/* A daemon for tests that need one but do not look at what it does. */
#define _GNU_SOURCE
#include "dmt.h"
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/sysmacros.h>
#include <unistd.h>

static void answer(const struct dmt_served *served, const struct dmt_msg *msg)
{
	struct dmu_msg_map_response r = {
		.org_block = msg->request.org_block,
		.new_block = msg->request.org_block,
		.id_of_req = msg->header.id,
		.flags = DMU_FLAG_RD | DMU_FLAG_WR,
		.dst_maj = major(served->dst),
		.dst_min = minor(served->dst),
	};

	/* Only a device that has gone refuses it. */
	if (dmt_write_msg(served->fd, DM_USERSPACE_MAP_BLOCK_RESP,
			  msg->header.id, &r, sizeof(r)) < 0 &&
	    errno != ENODEV)
		warn("answering a request");
}

static void serve(const struct dmt_served *served)
{
	struct dmt_msg msg;

	while (dmt_read_msg(served->fd, &msg) > 0)
		if (msg.header.msg_type == DM_USERSPACE_MAP_BLOCK_REQ)
			answer(served, &msg);
}

static void *server_thread(void *arg)
{
	struct dmt_server *server = arg;
	struct pollfd pfd[DMT_MAX_SERVED + 1];
	unsigned int i;

	for (;;) {
		for (i = 0; i < server->nr; i++)
			pfd[i] = (struct pollfd){ .fd = server->served[i].fd,
						  .events = POLLIN };
		pfd[i] = (struct pollfd){ .fd = server->stop,
					  .events = POLLIN };
		poll(pfd, server->nr + 1, -1);
		if (pfd[server->nr].revents)
			return NULL;
		for (i = 0; i < server->nr; i++) {
			if (pfd[i].revents & POLLHUP)
				server->served[i].fd = -1; /* poll skips it */
			else if (pfd[i].revents & POLLIN)
				serve(&server->served[i]);
		}
	}
}

/**
 * dmt_server_start() - let a thread answer all requests
 * @server: its @nr and @served are filled in
 *
 * Each block is said to live, writable, at its own place on the device named.
 */
void dmt_server_start(struct dmt_server *server)
{
	server->stop = eventfd(0, EFD_CLOEXEC);
	if (server->stop < 0 ||
	    pthread_create(&server->thread, NULL, server_thread, server))
		errx(1, "no thread");
}

/**
 * dmt_server_stop() - end it; the control devices stay open
 * @server: was started
 */
void dmt_server_stop(struct dmt_server *server)
{
	if (eventfd_write(server->stop, 1))
		err(1, "eventfd");
	pthread_join(server->thread, NULL);
	close(server->stop);
}
