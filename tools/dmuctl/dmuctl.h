/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * dmuctl: what a person types. Its parts, and what they tell each other.
 *
 * Whatever fails says why in one sentence, by way of complain(), once: where it
 * is found out. Its callers undo what they did and pass the failure on.
 */
#ifndef DMUCTL_H
#define DMUCTL_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

enum { EXIT_OK, EXIT_FAILED, EXIT_USAGE };

#define MAX_NAME	84	/* characters of a device's name: dmud's socket has it, too */
#define MAX_DEVICES	16

/* --- main.c ------------------------------------------------------------------- */

int complain(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
int usage(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
bool interrupted(void);
int check_name(const char *name);
int parse_size(const char *what, const char *word, uint64_t *bytes);

int cmd_snapshot(int argc, char **argv);
int cmd_attach(int argc, char **argv);
int cmd_revive(int argc, char **argv);
int cmd_detach(int argc, char **argv);
int cmd_list(int argc, char **argv);
int cmd_status(int argc, char **argv);
int cmd_grow(int argc, char **argv);

/* --- backing.c: block devices, and files behind loop devices ------------------- */

/**
 * struct backing - a block device that a table may name
 * @path: as the person gave it
 * @dev: its number
 * @fd: the open device: where it is a loop device made for this, closing it
 *	without a table that uses it undoes that
 * @file: the open file behind that; -1: there is none
 * @bytes: its size
 * @made: the file was not there before
 * @sized: it was empty before
 */
struct backing {
	const char *path;
	dev_t dev;
	int fd;
	int file;
	uint64_t bytes;
	bool made;
	bool sized;
};

int backing_open(struct backing *b, const char *path, bool read_only,
		 uint64_t create_bytes);
void backing_close(struct backing *b);
int backing_open_direct(int fd);
void backing_undo(struct backing *b);
int backing_grow(dev_t dev, const char *name, uint64_t bytes);
void backing_name(dev_t dev, char *buf, size_t size);

/* --- mapped.c: device-mapper ------------------------------------------------------ */

/**
 * struct mapped - a mapped device of ours, as device-mapper describes it
 * @name: of the device
 * @key: names its daemon's control socket; the name that it was made with
 * @policy: from its UUID; "?" where dmuctl has not made it
 * @dev: its number
 * @sectors: its size
 * @open_count: how many have it open
 * @suspended: no I/O gets in
 * @begun: it has had a table that I/O got in through; without one, its maker was
 *	interrupted
 * @block_size: bytes
 * @nr_devices: that the table names
 * @devices: their numbers
 * @status: the target's status line
 */
struct mapped {
	char name[128];
	char key[256];
	char policy[128];
	dev_t dev;
	uint64_t sectors;
	int open_count;
	bool suspended;
	bool begun;
	uint32_t block_size;
	unsigned int nr_devices;
	dev_t devices[MAX_DEVICES];
	char status[512];
};

int module_load(void);
int mapped_create(const char *name, const char *policy);
int mapped_load(const char *name, uint64_t sectors, uint32_t block_size,
		const struct backing *devices, unsigned int nr);
int mapped_resume(const char *name);
int mapped_remove(const char *name);
bool mapped_exists(const char *name);
int mapped_find(const char *name, struct mapped *m);
int mapped_each(int (*fn)(const struct mapped *m, void *ctx), void *ctx);
bool mapped_uses(const struct mapped *m, dev_t dev);
const char *mapped_path(const char *name);

/* --- daemon.c: the dmud of a device ------------------------------------------------ */

struct json_object;

int daemon_start(const char *key, const char *policy, char *const *opts);
struct json_object *daemon_ask(const char *key, const char *request);
int daemon_watch(const char *key);
int daemon_wait(int pidfd, const char *name);

#endif /* DMUCTL_H */
