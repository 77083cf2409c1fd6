/* SPDX-License-Identifier: GPL-2.0-only */
/* The control socket: one word in a packet, one JSON object in the answer. */
#ifndef DMUD_CONTROL_H
#define DMUD_CONTROL_H

#include <poll.h>
#include <sys/types.h>
#include <sys/un.h>

#include <json-c/json.h>

#define CONTROL_DIR "/run/dm-userspace"
#define CONTROL_CLIENTS 16

/* What control_poll() may add to an array of pollfd. */
#define CONTROL_FDS (1 + CONTROL_CLIENTS)

/**
 * struct control - the socket and who is connected
 * @listen_fd: -1: not open
 * @dir_fd: the socket's directory
 * @address: the socket's path
 * @inode: of the socket, to know it again
 * @clients: their sockets
 * @nr_clients: how many
 */
struct control {
	int listen_fd;
	int dir_fd;
	struct sockaddr_un address;
	ino_t inode;
	int clients[CONTROL_CLIENTS];
	unsigned int nr_clients;
};

/* What answers a request; the object is given away. */
typedef struct json_object *(*control_answer)(void *ctx, const char *request);

void control_init(struct control *control);
int control_open(struct control *control, const char *path, const char *key,
		 char *why);
void control_close(struct control *control);
unsigned int control_poll(const struct control *control, struct pollfd *fds);
void control_serve(struct control *control, const struct pollfd *fds,
		   control_answer answer, void *ctx);
struct json_object *control_ok(void);
struct json_object *control_error(const char *fmt, ...)
	__attribute__((format(printf, 1, 2)));

#endif /* DMUD_CONTROL_H */
