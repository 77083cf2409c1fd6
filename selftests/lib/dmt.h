/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the selftests share: test disks, mapped devices, a daemon that speaks
 * the wire protocol by hand, and I/O that runs beside the test.
 *
 * Functions that set something up end the test program with a sentence when
 * they cannot: there is nothing to test then. Nothing here sleeps: whoever has
 * to wait waits for an event, with DMT_PATIENCE as the limit that a hang meets.
 */
#ifndef DMT_H
#define DMT_H

#include <linux/dm-userspace.h>
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define DMT_BLOCK	4096u	/* bytes: block size of most tests */
#define DMT_SECTORS	(DMT_BLOCK / 512)
#define DMT_PATIENCE	20000	/* ms */

/* --- disks ------------------------------------------------------------------ */

/**
 * struct dmt_disk - a loop device on a file in memory
 * @name: of the node, /dev/loopN
 * @dev: its number
 * @fd: the file behind it, in which contents can be looked at and made
 * @loop: the open loop device
 * @bytes: its size
 */
struct dmt_disk {
	char name[32];
	dev_t dev;
	int fd;
	int loop;
	uint64_t bytes;
};

void dmt_disk_open(struct dmt_disk *disk, uint64_t bytes, unsigned int lbs);
void dmt_disk_close(struct dmt_disk *disk);
void dmt_disk_resize(struct dmt_disk *disk, uint64_t bytes);
void dmt_disk_fill(const struct dmt_disk *disk, uint64_t block, int seed);
bool dmt_disk_has(const struct dmt_disk *disk, uint64_t block, int seed);

void dmt_pattern(void *buf, size_t len, uint64_t block, int seed);

/* --- mapped devices ----------------------------------------------------------- */

int dmt_dm_create(const char *name);
int dmt_dm_load(const char *name, uint64_t start, uint64_t sectors,
		const char *type, const char *params);

/* A line of a table, in the words of dm_task_add_target(). */
struct dmt_line {
	uint64_t start;
	uint64_t sectors;
	const char *type;
	const char *params;
};

int dmt_dm_load_lines(const char *name, const struct dmt_line *lines,
		      unsigned int nr, bool read_only);
int dmt_dm_load_raw(const char *name, const struct dmt_line *lines,
		    unsigned int nr);
int dmt_dm_resume(const char *name);
int dmt_dm_suspend(const char *name, bool noflush);
int dmt_dm_remove(const char *name);
int dmt_dm_message(const char *name, const char *message);
int dmt_dm_clear(const char *name);
void dmt_dm_status(const char *name, bool inactive, char *buf, size_t len);
void dmt_dm_table(const char *name, char *buf, size_t len);
bool dmt_dm_has_lines(const char *name, const struct dmt_line *lines,
		      unsigned int nr);
int dmt_dm_open(const char *name, int flags);
bool dmt_dm_exists(const char *name);
dev_t dmt_dm_dev(const char *name);

/* Counters of the status line, by their place behind the device number. */
enum dmt_counter {
	DMT_REMAPS, DMT_HITS, DMT_MISSES, DMT_WAITING, DMT_SENT, DMT_COPIES,
	DMT_SYNCS, DMT_EVICTIONS, DMT_ERRORS, DMT_NR_COUNTERS
};

uint64_t dmt_counter(const char *name, enum dmt_counter which);
bool dmt_attached(const char *name);
void dmt_control_path(const char *name, char *buf, size_t len);

/* --- a daemon by hand ----------------------------------------------------------- */

/* Packed as on the wire: the payload follows the header at once. */
struct dmt_msg {
	struct dmu_msg_header header;
	union {
		struct dmu_msg_version version;
		struct dmu_msg_status status;
		struct dmu_msg_map_request request;
		struct dmu_msg_map_response response;
		struct dmu_msg_invalidate_map invalidate;
		struct dmu_msg_extensions extensions;
		struct dmu_msg_report report;
		struct dmu_msg_discard discard;
		struct dmu_msg_run_request run_request;
		struct dmu_msg_run_response run_response;
		uint8_t bytes[256];
	} __attribute__((packed));
} __attribute__((packed));

int dmt_control_open(const char *name, int flags);
bool dmt_readable(int fd, int timeout_ms);
ssize_t dmt_read_msg(int fd, struct dmt_msg *msg);
bool dmt_expect(int fd, uint32_t type, struct dmt_msg *msg);
uint32_t dmt_expect_request(int fd, uint64_t block, uint32_t flags);
bool dmt_expect_status(int fd, uint32_t id, uint32_t status);
bool dmt_silent(int fd);
ssize_t dmt_write_msg(int fd, uint32_t type, uint32_t id, const void *payload,
		      uint32_t len);

/**
 * struct dmt_map - a response, in the words of the tests
 * @block: of the mapped device
 * @to: block of @dst
 * @dst: destination
 * @src: with DMU_FLAG_COPY_FIRST
 * @flags: DMU_FLAG_*
 * @offset: sectors
 */
struct dmt_map {
	uint64_t block;
	uint64_t to;
	const struct dmt_disk *dst;
	const struct dmt_disk *src;
	uint32_t flags;
	int64_t offset;
};

void dmt_response(struct dmu_msg_map_response *r, uint32_t id,
		  const struct dmt_map *map);
int dmt_map(int fd, uint32_t id, const struct dmt_map *map);
int dmt_fail(int fd, uint32_t id);
int dmt_sync_done(int fd, uint32_t id);
int dmt_invalidate(int fd, uint32_t id, uint64_t block);
bool dmt_barrier(int fd);

/**
 * struct dmt_batch - messages for one write
 * @len: bytes
 * @bytes: the messages, without padding
 */
struct dmt_batch {
	size_t len;
	uint8_t bytes[1 << 17];
};

void dmt_batch_add(struct dmt_batch *batch, uint32_t type, uint32_t id,
		   const void *payload, uint32_t len);
void dmt_batch_map(struct dmt_batch *batch, uint32_t id,
		   const struct dmt_map *map);
ssize_t dmt_batch_write(int fd, const struct dmt_batch *batch);

/* --- a daemon that answers by itself ------------------------------------------------ */

#define DMT_MAX_SERVED	8

/* A control device, O_NONBLOCK, and where all of its blocks live. */
struct dmt_served {
	int fd;
	dev_t dst;
};

/**
 * struct dmt_server - a thread that serves control devices
 * @served: which
 * @nr: how many
 * @stop: tells it to end
 * @thread: itself
 */
struct dmt_server {
	struct dmt_served served[DMT_MAX_SERVED];
	unsigned int nr;
	int stop;
	pthread_t thread;
};

void dmt_server_start(struct dmt_server *server);
void dmt_server_stop(struct dmt_server *server);

/* --- threads that sleep in a call -------------------------------------------------- */

/**
 * struct dmt_sleeper - a thread in read(), write(), poll() or epoll_wait()
 * @fd: of which file
 * @write: it writes a message
 * @epoll: it waits for events
 * @poll: it polls
 * @events: what for
 * @tid: of the thread
 * @thread: likewise
 * @over: it has ended, and been joined
 * @result: what it got
 * @msg: what it read
 */
struct dmt_sleeper {
	int fd;
	bool write;
	bool epoll;
	bool poll;
	short events;
	pid_t tid;
	pthread_t thread;
	bool over;
	ssize_t result;
	struct dmt_msg msg;
};

void dmt_sleeper_read(struct dmt_sleeper *s, int fd);
void dmt_sleeper_write(struct dmt_sleeper *s, int fd);
void dmt_sleeper_poll(struct dmt_sleeper *s, int fd, short events);
void dmt_sleeper_epoll(struct dmt_sleeper *s, int fd);
ssize_t dmt_sleeper_wait(struct dmt_sleeper *s);

/* --- the kernel's log ---------------------------------------------------------------- */

int dmt_log_open(void);
void dmt_log_take(int fd, char *buf, size_t len);

/* --- the module ---------------------------------------------------------------------- */

long dmt_module_refs(void);
int dmt_module_remove(void);
int dmt_module_insert(void);
int dmt_module_insert_with(const char *params);
const void *dmt_module_file(size_t *len);
const char *dmt_module_left(void);
unsigned int dmt_controls(void);
unsigned int dmt_rescuers(void);
unsigned int dmt_workers(void);

/* --- I/O beside the test ---------------------------------------------------------- */

uint64_t dmt_now_ms(void);

enum dmt_op { DMT_READ, DMT_WRITE, DMT_WRITE_FUA, DMT_FSYNC, DMT_DISCARD,
	      DMT_ZEROOUT };

struct dmt_io;

struct dmt_io *dmt_io(int fd, enum dmt_op op, uint64_t offset, size_t len,
		      int seed);
struct dmt_io *dmt_io_now(int fd, enum dmt_op op, uint64_t offset, size_t len,
			  int seed);
bool dmt_io_done(struct dmt_io *io);
int dmt_io_wait(struct dmt_io *io);
bool dmt_io_matches(const struct dmt_io *io, int seed);
const void *dmt_io_buf(const struct dmt_io *io);
void dmt_io_free(struct dmt_io *io);
int dmt_io_result(struct dmt_io *io);

bool dmt_read_matches(int fd, uint64_t block, int seed);
int dmt_write_block(int fd, uint64_t block, int seed);

/* --- what most tests have ----------------------------------------------------------- */

#define DMT_BLOCKS	64u
#define DMT_ORIGIN	1	/* version of the pattern in each of its blocks */

/**
 * struct dmt - what a test has
 * @name: of the mapped device, and its key
 * @origin: device 0
 * @store: device 1
 * @fd: the mapped device, O_DIRECT; -1 while it is closed
 * @ctl: its control device, O_NONBLOCK; -1 while no daemon is there
 */
struct dmt {
	char name[32];
	struct dmt_disk origin;
	struct dmt_disk store;
	int fd;
	int ctl;
};

void dmt_setup(struct dmt *t);
void dmt_teardown(struct dmt *t);
void dmt_params(const struct dmt *t, char *buf, size_t len);

#endif /* DMT_H */
