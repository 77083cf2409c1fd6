// SPDX-License-Identifier: GPL-2.0-only
/*
 * The control socket.
 *
 * It doubles as the lock that keeps a second dmud away: a socket that takes
 * connections has an owner, one that refuses them was left by a daemon that
 * died. Looking and replacing are one step, because both are done under a lock
 * on the directory.
 */
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "control.h"
#include "log.h"

#define REQUEST_SIZE 256

/**
 * control_init() - make a control socket that is not open
 * @control: control_close() may be called from now on
 */
void control_init(struct control *control)
{
	*control = (struct control){ .listen_fd = -1, .dir_fd = -1 };
}

static int open_socket(void)
{
	return socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK,
		      0);
}

/* 0: nobody listens there any more; -EBUSY: somebody does; or an error. */
static int probe(const struct sockaddr_un *address)
{
	struct stat st;
	int fd, err = -EBUSY;

	if (lstat(address->sun_path, &st))
		return -errno;
	/* connect() says of a plain file what it says of an old socket. */
	if (!S_ISSOCK(st.st_mode))
		return -ENOTSOCK;
	fd = open_socket();
	if (fd < 0)
		return -errno;
	if (connect(fd, (const struct sockaddr *)address, sizeof(*address)))
		err = errno == ECONNREFUSED ? 0 : -EBUSY;
	close(fd);
	return err;
}

/* bind(), with nobody but root allowed to connect. */
static int bind_private(int fd, const struct sockaddr_un *address)
{
	mode_t saved = umask(0177);
	int err = 0;

	if (bind(fd, (const struct sockaddr *)address, sizeof(*address)))
		err = -errno;
	umask(saved);
	return err;
}

/* With the directory locked. */
static int claim(struct control *control, char *why)
{
	const char *path = control->address.sun_path;
	struct stat st;
	int err;

	err = bind_private(control->listen_fd, &control->address);
	if (err == -EADDRINUSE) {
		err = probe(&control->address);
		if (err == -EBUSY)
			return failed(why, err,
				      "another daemon serves the control socket %s",
				      path);
		if (!err && unlink(path))
			err = -errno;
		if (!err)
			err = bind_private(control->listen_fd,
					   &control->address);
	}
	if (!err && listen(control->listen_fd, CONTROL_CLIENTS))
		err = -errno;
	if (!err && lstat(path, &st))
		err = -errno;
	if (err)
		return failed(why, err, "the control socket %s: %s", path,
			      strerror(-err));
	control->inode = st.st_ino;
	return 0;
}

/* @path, or the default for @key, into the address. */
static int set_path(struct control *control, const char *path, const char *key,
		    char *why)
{
	char *to = control->address.sun_path;
	size_t size = sizeof(control->address.sun_path);
	int len;

	control->address.sun_family = AF_UNIX;
	if (path)
		len = snprintf(to, size, "%s", path);
	else
		len = snprintf(to, size, CONTROL_DIR "/%s.sock", key);
	if (len < 0 || (size_t)len >= size)
		return failed(why, -ENAMETOOLONG,
			      "the path of the control socket has more than %zu bytes (choose one with --socket)",
			      size - 1);
	return 0;
}

/* The socket's directory, which is made where it is the default one. */
static int open_dir(struct control *control, bool make, char *why)
{
	char path[sizeof(control->address.sun_path)];
	struct stat st;
	const char *dir;

	strcpy(path, control->address.sun_path);
	dir = dirname(path);
	if (make && mkdir(dir, 0700) && errno != EEXIST)
		return failed(why, -errno, "%s: %s", dir, strerror(errno));
	control->dir_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (control->dir_fd < 0 || fstat(control->dir_fd, &st))
		return failed(why, -errno, "%s: %s", dir, strerror(errno));
	if (make && (st.st_uid != geteuid() || st.st_mode & 022))
		return failed(why, -EPERM,
			      "%s is not ours alone (owner or mode): not used",
			      dir);
	return 0;
}

/**
 * control_open() - begin to listen
 * @control: made by control_init(); undone with control_close(), also after a
 *	failure
 * @path: of the socket; NULL: that of the key, in CONTROL_DIR
 * @key: of the tables served
 * @why: SENTENCE_SIZE bytes for what is wrong
 *
 * Return: 0; -EBUSY: another daemon listens there; or another negative errno.
 */
int control_open(struct control *control, const char *path, const char *key,
		 char *why)
{
	int err;

	err = set_path(control, path, key, why);
	if (!err)
		err = open_dir(control, !path, why);
	if (err)
		return err;
	control->listen_fd = open_socket();
	if (control->listen_fd < 0)
		return failed(why, -errno, "socket: %s", strerror(errno));
	if (flock(control->dir_fd, LOCK_EX))
		return failed(why, -errno, "flock: %s", strerror(errno));
	err = claim(control, why);
	flock(control->dir_fd, LOCK_UN);
	return err;
}

/* Remove the socket, unless somebody has put another in its place. */
static void remove_socket(struct control *control)
{
	/* A path that was relative is no longer good; its last part is. */
	const char *name = basename(control->address.sun_path);
	struct stat st;

	flock(control->dir_fd, LOCK_EX);
	if (!fstatat(control->dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) &&
	    st.st_ino == control->inode)
		unlinkat(control->dir_fd, name, 0);
}

/**
 * control_close() - stop listening, remove the socket, drop the clients
 * @control: control_init() will do
 */
void control_close(struct control *control)
{
	unsigned int i;

	for (i = 0; i < control->nr_clients; i++)
		close(control->clients[i]);
	if (control->inode)
		remove_socket(control);
	if (control->listen_fd >= 0)
		close(control->listen_fd);
	if (control->dir_fd >= 0)
		close(control->dir_fd);
	control_init(control);
}

/**
 * control_poll() - say what to poll
 * @control: open
 * @fds: where it goes; CONTROL_FDS at most
 *
 * Return: how many were filled in.
 */
unsigned int control_poll(const struct control *control, struct pollfd *fds)
{
	unsigned int i;

	fds[0] = (struct pollfd){ .fd = control->listen_fd, .events = POLLIN };
	/* Nobody is turned away: who finds no place waits in the backlog. */
	if (control->nr_clients == CONTROL_CLIENTS)
		fds[0].events = 0;
	for (i = 0; i < control->nr_clients; i++)
		fds[1 + i] = (struct pollfd){
			.fd = control->clients[i],
			.events = POLLIN,
		};
	return 1 + control->nr_clients;
}

/* Nothing here waits: a client that does not read its answer is dropped. */
static int send_answer(int fd, struct json_object *answer)
{
	const char *text;
	size_t len;
	ssize_t sent;

	text = json_object_to_json_string_length(answer,
						 JSON_C_TO_STRING_PLAIN, &len);
	sent = text ? send(fd, text, len, MSG_DONTWAIT | MSG_NOSIGNAL) : -1;
	json_object_put(answer);
	return sent < 0 ? -1 : 0;
}

/* One request of one client. -1: the client is to be dropped. */
static int serve_client(int fd, control_answer answer, void *ctx)
{
	char request[REQUEST_SIZE];
	ssize_t len;

	len = recv(fd, request, sizeof(request) - 1, MSG_DONTWAIT | MSG_TRUNC);
	if (len < 0)
		return errno == EAGAIN || errno == EINTR ? 0 : -1;
	if (!len)
		return -1;
	if ((size_t)len >= sizeof(request))
		return send_answer(fd, control_error("the request is too long"));
	request[len] = 0;
	/* As typed: with a newline. */
	request[strcspn(request, "\n")] = 0;
	return send_answer(fd, answer(ctx, request));
}

static void accept_client(struct control *control)
{
	int fd = accept4(control->listen_fd, NULL, NULL,
			 SOCK_CLOEXEC | SOCK_NONBLOCK);

	if (fd >= 0)
		control->clients[control->nr_clients++] = fd;
}

/**
 * control_serve() - answer who has asked
 * @control: open
 * @fds: as control_poll() filled them in, after poll()
 * @answer: called for each request
 * @ctx: handed to @answer
 */
void control_serve(struct control *control, const struct pollfd *fds,
		   control_answer answer, void *ctx)
{
	unsigned int i = control->nr_clients;

	/* From the last one on, so that the gap left by one can be filled. */
	while (i--) {
		if (!fds[1 + i].revents ||
		    !serve_client(control->clients[i], answer, ctx))
			continue;
		close(control->clients[i]);
		control->clients[i] = control->clients[--control->nr_clients];
	}
	if (fds[0].revents & POLLIN)
		accept_client(control);
}

/**
 * control_ok() - the answer to a request that was done
 *
 * Return: {"ok":true}
 */
struct json_object *control_ok(void)
{
	struct json_object *answer = json_object_new_object();

	json_object_object_add(answer, "ok", json_object_new_boolean(1));
	return answer;
}

/**
 * control_error() - the answer to a request that was not done
 * @fmt: as of printf(); a sentence
 *
 * Return: {"ok":false,"error":"..."}
 */
struct json_object *control_error(const char *fmt, ...)
{
	struct json_object *answer = json_object_new_object();
	char why[SENTENCE_SIZE];
	va_list args;

	va_start(args, fmt);
	vsnprintf(why, sizeof(why), fmt, args);
	va_end(args);
	json_object_object_add(answer, "ok", json_object_new_boolean(0));
	json_object_object_add(answer, "error", json_object_new_string(why));
	return answer;
}
