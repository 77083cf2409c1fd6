// SPDX-License-Identifier: GPL-2.0-only
/* The control device: framing, requests, and what read, poll and write do. */
#define _GNU_SOURCE
#include "lib/fixture.h"
#include <err.h>
#include <libdevmapper.h>
#include <poll.h>
#include <signal.h>
#include <sys/mman.h>

#define REQUEST_BYTES	28
#define VERSION_BYTES	20
#define STATUS_BYTES	20

/* Where a daemon of 2006 expects it. */
TEST(sizes_offsets_and_numbers_are_those_published)
{
	EXPECT_EQ(12, sizeof(struct dmu_msg_header));
	EXPECT_EQ(8, sizeof(struct dmu_msg_version));
	EXPECT_EQ(8, sizeof(struct dmu_msg_status));
	EXPECT_EQ(16, sizeof(struct dmu_msg_map_request));
	EXPECT_EQ(48, sizeof(struct dmu_msg_map_response));
	EXPECT_EQ(8, sizeof(struct dmu_msg_invalidate_map));

	EXPECT_EQ(0, offsetof(struct dmu_msg_header, msg_type));
	EXPECT_EQ(4, offsetof(struct dmu_msg_header, payload_len));
	EXPECT_EQ(8, offsetof(struct dmu_msg_header, id));
	EXPECT_EQ(0, offsetof(struct dmu_msg_version, userspace_ver));
	EXPECT_EQ(4, offsetof(struct dmu_msg_version, kernel_ver));
	EXPECT_EQ(0, offsetof(struct dmu_msg_status, id_of_op));
	EXPECT_EQ(4, offsetof(struct dmu_msg_status, status));
	EXPECT_EQ(0, offsetof(struct dmu_msg_map_request, org_block));
	EXPECT_EQ(8, offsetof(struct dmu_msg_map_request, flags));
	EXPECT_EQ(0, offsetof(struct dmu_msg_map_response, org_block));
	EXPECT_EQ(8, offsetof(struct dmu_msg_map_response, new_block));
	EXPECT_EQ(16, offsetof(struct dmu_msg_map_response, offset));
	EXPECT_EQ(24, offsetof(struct dmu_msg_map_response, id_of_req));
	EXPECT_EQ(28, offsetof(struct dmu_msg_map_response, flags));
	EXPECT_EQ(32, offsetof(struct dmu_msg_map_response, src_maj));
	EXPECT_EQ(36, offsetof(struct dmu_msg_map_response, src_min));
	EXPECT_EQ(40, offsetof(struct dmu_msg_map_response, dst_maj));
	EXPECT_EQ(44, offsetof(struct dmu_msg_map_response, dst_min));

	EXPECT_EQ(1, DM_USERSPACE_GET_VERSION);
	EXPECT_EQ(2, DM_USERSPACE_MAP_BLOCK_REQ);
	EXPECT_EQ(3, DM_USERSPACE_MAP_BLOCK_RESP);
	EXPECT_EQ(4, DM_USERSPACE_MAP_FAILED);
	EXPECT_EQ(5, DM_USERSPACE_MAP_INVALIDATE);
	EXPECT_EQ(6, DM_USERSPACE_STATUS);
	EXPECT_EQ(101, DM_USERSPACE_INVAL_COMPLETE);
	EXPECT_EQ(102, DM_USERSPACE_INVAL_FAILED);
	EXPECT_EQ(103, DM_USERSPACE_SYNC_COMPLETE);
	EXPECT_EQ(1, DMU_FLAG_VALID);
	EXPECT_EQ(2, DMU_FLAG_RD);
	EXPECT_EQ(4, DMU_FLAG_WR);
	EXPECT_EQ(8, DMU_FLAG_COPY_FIRST);
	EXPECT_EQ(16, DMU_FLAG_TEMPORARY);
	EXPECT_EQ(32, DMU_FLAG_INUSE);
	EXPECT_EQ(64, DMU_FLAG_SYNC);
	EXPECT_EQ(128, DMU_FLAG_WAITING);
}

/* --- version ------------------------------------------------------------------- */

static uint32_t target_version(void)
{
	struct dm_task *task = dm_task_create(DM_DEVICE_LIST_VERSIONS);
	struct dm_versions *v, *last = NULL;
	uint32_t version = 0;

	if (!task || !dm_task_run(task))
		errx(1, "cannot list the targets");
	for (v = dm_task_get_versions(task); v != last;
	     v = (void *)((char *)v + v->next)) {
		last = v;
		if (!strcmp(v->name, "userspace"))
			version = v->version[0] << 16 | v->version[1] << 8 |
				  v->version[2];
	}
	dm_task_destroy(task);
	return version;
}

TEST_F(dm, version_answer_keeps_the_id_and_names_the_target_version)
{
	struct dmu_msg_version ask = { .userspace_ver = 0x12345678,
				       .kernel_ver = 0xffffffff };
	static const uint32_t ids[] = { 0xdeadbeef, 0, 7, 7 };
	struct dmt *t = &self->t;
	struct dmt_msg msg;
	unsigned int i;

	ASSERT_NE(0, target_version());
	for (i = 0; i < 4; i++, ask.userspace_ver++)
		ASSERT_EQ(VERSION_BYTES,
			  dmt_write_msg(t->ctl, DM_USERSPACE_GET_VERSION,
					ids[i], &ask, sizeof(ask)));
	for (i = 0; i < 4; i++) {
		ASSERT_TRUE(dmt_readable(t->ctl, DMT_PATIENCE));
		ASSERT_EQ(VERSION_BYTES,
			  read(t->ctl, &msg, VERSION_BYTES));
		EXPECT_EQ(DM_USERSPACE_GET_VERSION, msg.header.msg_type);
		EXPECT_EQ(sizeof(msg.version), msg.header.payload_len);
		EXPECT_EQ(ids[i], msg.header.id);
		EXPECT_EQ(0x12345678 + i, msg.version.userspace_ver);
		EXPECT_EQ(target_version(), msg.version.kernel_ver);
	}
	EXPECT_TRUE(dmt_silent(t->ctl));
}

/* --- requests ------------------------------------------------------------------- */

/* Read and check @nr requests in one read, for blocks @first and on. */
static bool expect_requests(int fd, uint64_t first, unsigned int nr,
			    uint32_t flags, uint32_t *ids)
{
	size_t want = (size_t)nr * REQUEST_BYTES;
	uint8_t *buf = malloc(want);
	struct dmt_msg msg;
	unsigned int i;
	ssize_t n;
	bool ok;

	memset(buf, 0xff, want);
	n = read(fd, buf, want);
	ok = n == (ssize_t)want;
	if (!ok)
		warn("%u requests: read gave %zd bytes", nr, n);
	for (i = 0; ok && i < nr; i++) {
		memcpy(&msg, buf + (size_t)i * REQUEST_BYTES, REQUEST_BYTES);
		ok = msg.header.msg_type == DM_USERSPACE_MAP_BLOCK_REQ &&
		     msg.header.payload_len == sizeof(msg.request) &&
		     msg.header.id && msg.request.org_block == first + i &&
		     msg.request.flags == flags && !msg.request.padding;
		if (!ok)
			warnx("request %u: type %u, length %u, id %u, block %llu, flags %u, padding %u",
			      i, msg.header.msg_type, msg.header.payload_len,
			      msg.header.id,
			      (unsigned long long)msg.request.org_block,
			      msg.request.flags, msg.request.padding);
		ids[i] = msg.header.id;
	}
	free(buf);
	return ok;
}

static bool all_different(const uint32_t *ids, unsigned int nr)
{
	unsigned int i, j;

	for (i = 0; i < nr; i++)
		for (j = 0; j < i; j++)
			if (ids[i] == ids[j])
				return false;
	return true;
}

static int answer(struct dmt *t, uint64_t block, uint32_t id)
{
	struct dmt_map map = { .block = block, .to = block, .dst = &t->origin,
			       .flags = RW };

	return dmt_map(t->ctl, id, &map);
}

TEST_F(dm, requests_are_whole_in_order_and_have_ids_of_their_own)
{
	struct dmt *t = &self->t;
	uint32_t ids[2 * DMT_BLOCKS], sync;
	struct dmt_map map = { .block = 0, .to = 0, .dst = &t->store,
			       .flags = RW | SYNC };
	struct dmt_io *io, *held;
	unsigned int i;

	/* A SYNC remap that is not acknowledged keeps its id, too. */
	held = dmt_io_now(t->fd, DMT_WRITE, 0, DMT_BLOCK, 2);
	sync = dmt_expect_request(t->ctl, 0, RW);
	ASSERT_NE(0, sync);
	ASSERT_EQ(0, dmt_map(t->ctl, sync, &map));
	ASSERT_TRUE(dmt_expect_status(t->ctl, sync, DM_USERSPACE_SYNC_COMPLETE));

	io = dmt_io_now(t->fd, DMT_READ, DMT_BLOCK,
			(DMT_BLOCKS - 1) * DMT_BLOCK, 0);
	ASSERT_TRUE(expect_requests(t->ctl, 1, DMT_BLOCKS - 1, RO, ids + 1));
	ids[0] = sync;
	EXPECT_TRUE(all_different(ids, DMT_BLOCKS));
	for (i = 1; i < DMT_BLOCKS; i++)
		ASSERT_EQ(0, dmt_fail(t->ctl, ids[i]));
	EXPECT_EQ(-EIO, dmt_io_result(io));

	/* Ids are not used again while the answer may still be under way. */
	io = dmt_io_now(t->fd, DMT_WRITE, DMT_BLOCK,
			(DMT_BLOCKS - 1) * DMT_BLOCK, 2);
	ASSERT_TRUE(expect_requests(t->ctl, 1, DMT_BLOCKS - 1, RW,
				    ids + DMT_BLOCKS));
	ids[DMT_BLOCKS - 1] = sync;
	EXPECT_TRUE(all_different(ids + DMT_BLOCKS - 1, DMT_BLOCKS));
	for (i = 0; i < DMT_BLOCKS - 1; i++)
		ASSERT_EQ(0, dmt_fail(t->ctl, ids[DMT_BLOCKS + i]));
	EXPECT_EQ(-EIO, dmt_io_result(io));
	ASSERT_EQ(0, dmt_sync_done(t->ctl, sync));
	EXPECT_EQ(0, dmt_io_result(held));
}

TEST_F(dm, write_upgrades_a_request_that_nobody_has_read)
{
	struct dmt *t = &self->t;
	struct dmt_io *rd, *wr;
	uint32_t id;

	rd = dmt_io_now(t->fd, DMT_READ, 2 * DMT_BLOCK, DMT_BLOCK, 0);
	wr = dmt_io_now(t->fd, DMT_WRITE, 2 * DMT_BLOCK, 512, 2);
	EXPECT_EQ(1, dmt_counter(t->name, DMT_WAITING));
	id = dmt_expect_request(t->ctl, 2, RW);
	ASSERT_NE(0, id);
	EXPECT_TRUE(dmt_silent(t->ctl));
	ASSERT_EQ(0, answer(t, 2, id));
	EXPECT_EQ(0, dmt_io_result(rd));
	EXPECT_EQ(0, dmt_io_result(wr));
}

TEST_F(dm, write_after_the_read_request_was_read_is_a_second_request)
{
	struct dmt *t = &self->t;
	struct dmt_io *rd, *wr;
	uint32_t first, second;

	rd = dmt_io_now(t->fd, DMT_READ, 2 * DMT_BLOCK, DMT_BLOCK, 0);
	first = dmt_expect_request(t->ctl, 2, RO);
	ASSERT_NE(0, first);
	wr = dmt_io_now(t->fd, DMT_WRITE, 2 * DMT_BLOCK, 512, 2);
	second = dmt_expect_request(t->ctl, 2, RW);
	ASSERT_NE(0, second);
	EXPECT_NE(first, second);
	EXPECT_EQ(2, dmt_counter(t->name, DMT_SENT));

	ASSERT_EQ(0, answer(t, 2, first));
	EXPECT_EQ(0, dmt_io_wait(rd));
	EXPECT_TRUE(dmt_io_matches(rd, DMT_ORIGIN));
	dmt_io_free(rd);
	EXPECT_FALSE(dmt_io_done(wr));
	ASSERT_EQ(0, answer(t, 2, second));
	EXPECT_EQ(0, dmt_io_result(wr));
}

TEST_F(dm, further_io_waits_on_the_request_there_is)
{
	struct dmt *t = &self->t;
	struct dmt_io *rd[4], *wr[4];
	uint32_t first, second;
	unsigned int i;

	for (i = 0; i < 2; i++)
		rd[i] = dmt_io_now(t->fd, DMT_READ, 2 * DMT_BLOCK, DMT_BLOCK,
				   0);
	first = dmt_expect_request(t->ctl, 2, RO);
	ASSERT_NE(0, first);
	for (; i < 3; i++)
		rd[i] = dmt_io_now(t->fd, DMT_READ, 2 * DMT_BLOCK, 512, 0);
	for (i = 0; i < 2; i++)
		wr[i] = dmt_io_now(t->fd, DMT_WRITE, 2 * DMT_BLOCK + 512, 512,
				   2);
	second = dmt_expect_request(t->ctl, 2, RW);
	ASSERT_NE(0, second);
	for (; i < 4; i++)
		wr[i] = dmt_io_now(t->fd, DMT_WRITE, 2 * DMT_BLOCK + 512, 512,
				   2);
	rd[3] = dmt_io_now(t->fd, DMT_READ, 2 * DMT_BLOCK, 512, 0);
	EXPECT_TRUE(dmt_silent(t->ctl));
	EXPECT_EQ(2, dmt_counter(t->name, DMT_SENT));
	EXPECT_EQ(0, dmt_counter(t->name, DMT_WAITING));
	for (i = 0; i < 4; i++) {
		EXPECT_FALSE(dmt_io_done(rd[i]));
		EXPECT_FALSE(dmt_io_done(wr[i]));
	}
	ASSERT_EQ(0, answer(t, 2, first));
	ASSERT_EQ(0, answer(t, 2, second));
	for (i = 0; i < 4; i++) {
		EXPECT_EQ(0, dmt_io_result(rd[i]));
		EXPECT_EQ(0, dmt_io_result(wr[i]));
	}
	EXPECT_TRUE(dmt_silent(t->ctl));
}

/* --- read ------------------------------------------------------------------------ */

TEST_F(dm, read_gives_as_many_whole_messages_as_fit)
{
	struct dmu_msg_version version = { .userspace_ver = 1 };
	struct dmt *t = &self->t;
	uint8_t buf[4096];
	struct dmt_msg msg;
	struct dmt_io *io;
	unsigned int room, block = 0;

	io = dmt_io_now(t->fd, DMT_READ, 0, DMT_BLOCKS * DMT_BLOCK, 0);
	for (room = REQUEST_BYTES; block + room / REQUEST_BYTES < DMT_BLOCKS;
	     room += 13) {
		ASSERT_EQ(room / REQUEST_BYTES * REQUEST_BYTES,
			  read(t->ctl, buf, room));
		memcpy(&msg, buf, REQUEST_BYTES);
		EXPECT_EQ(block, msg.request.org_block);
		block += room / REQUEST_BYTES;
	}
	/* Of several kinds: the second just fits, or just does not. */
	for (room = VERSION_BYTES + REQUEST_BYTES - 1;
	     room <= VERSION_BYTES + REQUEST_BYTES; room++) {
		ASSERT_EQ(VERSION_BYTES,
			  dmt_write_msg(t->ctl, DM_USERSPACE_GET_VERSION, 1,
					&version, sizeof(version)));
		ASSERT_EQ(room < VERSION_BYTES + REQUEST_BYTES ?
			  VERSION_BYTES : room, read(t->ctl, buf, room));
	}
	dmt_dm_message(t->name, "fail_waiting");
	EXPECT_EQ(-EIO, dmt_io_result(io));
}

/* A device of more blocks than the kernel side handles at a time. */
TEST_F(dm, one_read_takes_all_that_waits)
{
	enum { NR = DMT_BLOCKS * DMT_SECTORS };
	struct dmt *t = &self->t;
	char name[64], params[256];
	uint32_t ids[NR];
	struct dmt_io *io;
	int fd, ctl;

	snprintf(name, sizeof(name), "%s-small", t->name);
	snprintf(params, sizeof(params), "%s 512 %u:%u", name,
		 major(t->origin.dev), minor(t->origin.dev));
	ASSERT_EQ(0, dmt_dm_create(name));
	ASSERT_EQ(0, dmt_dm_load(name, 0, NR, "userspace", params));
	ASSERT_EQ(0, dmt_dm_resume(name));
	fd = dmt_dm_open(name, O_RDWR | O_DIRECT);
	ctl = dmt_control_open(name, O_NONBLOCK);
	io = dmt_io_now(fd, DMT_READ, 0, NR * 512, 0);
	EXPECT_TRUE(expect_requests(ctl, 0, NR, RO, ids));
	EXPECT_TRUE(all_different(ids, NR));
	EXPECT_TRUE(dmt_silent(ctl));
	EXPECT_EQ(0, dmt_dm_message(name, "fail_waiting"));
	EXPECT_EQ(-EIO, dmt_io_result(io));
	close(ctl);
	close(fd);
	EXPECT_EQ(0, dmt_dm_remove(name));
}

TEST_F(dm, too_small_a_buffer_is_refused_and_the_message_stays)
{
	static const size_t rooms[] = { 0, 1, 11, 12, 19 };
	struct dmu_msg_version version = { .userspace_ver = 1 };
	struct dmt *t = &self->t;
	uint8_t buf[64];
	struct dmt_io *io;
	unsigned int i;
	uint32_t id;

	ASSERT_EQ(VERSION_BYTES,
		  dmt_write_msg(t->ctl, DM_USERSPACE_GET_VERSION, 1, &version,
				sizeof(version)));
	for (i = 0; i < 5; i++) {
		EXPECT_EQ(-1, read(t->ctl, buf, rooms[i]));
		EXPECT_EQ(EINVAL, errno);
	}
	EXPECT_EQ(VERSION_BYTES, read(t->ctl, buf, sizeof(buf)));

	ASSERT_EQ(0, dmt_invalidate(t->ctl, 5, 0));
	ASSERT_TRUE(dmt_readable(t->ctl, DMT_PATIENCE));
	for (i = 0; i < 5; i++) {
		EXPECT_EQ(-1, read(t->ctl, buf, rooms[i]));
		EXPECT_EQ(EINVAL, errno);
	}
	EXPECT_TRUE(dmt_expect_status(t->ctl, 5, DM_USERSPACE_INVAL_FAILED));

	io = dmt_io_now(t->fd, DMT_READ, 0, DMT_BLOCK, 0);
	for (i = 0; i < 5; i++) {
		EXPECT_EQ(-1, read(t->ctl, buf, rooms[i]));
		EXPECT_EQ(EINVAL, errno);
	}
	EXPECT_EQ(-1, read(t->ctl, buf, REQUEST_BYTES - 1));
	EXPECT_EQ(EINVAL, errno);
	EXPECT_EQ(1, dmt_counter(t->name, DMT_WAITING));
	id = dmt_expect_request(t->ctl, 0, RO);
	ASSERT_NE(0, id);
	ASSERT_EQ(0, answer(t, 0, id));
	EXPECT_EQ(0, dmt_io_result(io));
}

TEST_F(dm, nonblocking_read_of_nothing_is_eagain)
{
	struct dmt *t = &self->t;
	uint8_t buf[64];

	EXPECT_EQ(-1, read(t->ctl, buf, sizeof(buf)));
	EXPECT_EQ(EAGAIN, errno);
	EXPECT_TRUE(dmt_barrier(t->ctl));
	EXPECT_EQ(-1, read(t->ctl, buf, sizeof(buf)));
	EXPECT_EQ(EAGAIN, errno);
}

TEST_F(dm, blocking_read_sleeps_until_there_is_a_message)
{
	struct dmu_msg_version version = { .userspace_ver = 1 };
	struct dmt *t = &self->t;
	struct dmt_sleeper s;
	struct dmt_io *io;
	int fd = dmt_control_open(t->name, 0);

	dmt_sleeper_read(&s, fd);
	ASSERT_FALSE(s.over);
	io = dmt_io_now(t->fd, DMT_READ, 0, DMT_BLOCK, 0);
	ASSERT_EQ(REQUEST_BYTES, dmt_sleeper_wait(&s));
	EXPECT_EQ(DM_USERSPACE_MAP_BLOCK_REQ, s.msg.header.msg_type);
	ASSERT_EQ(0, dmt_fail(fd, s.msg.header.id));
	EXPECT_EQ(-EIO, dmt_io_result(io));

	/* The same file is written to while somebody sleeps in its read. */
	dmt_sleeper_read(&s, fd);
	ASSERT_FALSE(s.over);
	ASSERT_EQ(VERSION_BYTES,
		  dmt_write_msg(fd, DM_USERSPACE_GET_VERSION, 9, &version,
				sizeof(version)));
	ASSERT_EQ(VERSION_BYTES, dmt_sleeper_wait(&s));
	EXPECT_EQ(9, s.msg.header.id);

	dmt_sleeper_read(&s, fd);
	ASSERT_FALSE(s.over);
	ASSERT_EQ(0, dmt_invalidate(fd, 8, 3));
	ASSERT_EQ(STATUS_BYTES, dmt_sleeper_wait(&s));
	EXPECT_EQ(8, s.msg.status.id_of_op);
	close(fd);
}

static void on_signal(int signal)
{
	(void)signal;
}

TEST_F(dm, signal_ends_a_blocking_read_and_loses_nothing)
{
	struct sigaction action = { .sa_handler = on_signal };
	struct dmt *t = &self->t;
	struct dmt_sleeper s;
	struct dmt_io *io;
	int fd = dmt_control_open(t->name, 0);

	ASSERT_EQ(0, sigaction(SIGUSR1, &action, NULL));
	dmt_sleeper_read(&s, fd);
	ASSERT_FALSE(s.over);
	ASSERT_EQ(0, pthread_kill(s.thread, SIGUSR1));
	EXPECT_EQ(-EINTR, dmt_sleeper_wait(&s));
	io = dmt_io_now(t->fd, DMT_READ, 0, DMT_BLOCK, 0);
	EXPECT_NE(0, dmt_expect_request(fd, 0, RO));
	close(fd);
	dmt_dm_message(t->name, "fail_waiting");
	EXPECT_EQ(-EIO, dmt_io_result(io));
}

TEST_F(dm, two_readers_of_one_file_get_a_message_each)
{
	struct dmt *t = &self->t;
	struct dmt_sleeper a, b;
	struct dmt_io *io;
	int fd = dmt_control_open(t->name, 0);

	dmt_sleeper_read(&a, fd);
	dmt_sleeper_read(&b, fd);
	ASSERT_FALSE(a.over || b.over);
	io = dmt_io_now(t->fd, DMT_READ, 0, 2 * DMT_BLOCK, 0);
	ASSERT_EQ(REQUEST_BYTES, dmt_sleeper_wait(&a));
	ASSERT_EQ(REQUEST_BYTES, dmt_sleeper_wait(&b));
	EXPECT_EQ(1, a.msg.request.org_block + b.msg.request.org_block);
	EXPECT_NE(a.msg.header.id, b.msg.header.id);
	close(fd);
	dmt_dm_message(t->name, "fail_waiting");
	EXPECT_EQ(-EIO, dmt_io_result(io));
}

/* --- poll ------------------------------------------------------------------------ */

static short events_of(int fd)
{
	struct pollfd pfd = { .fd = fd, .events = POLLIN | POLLOUT };

	poll(&pfd, 1, 0);
	return pfd.revents;
}

TEST_F(dm, poll_says_readable_while_a_message_waits)
{
	struct dmt *t = &self->t;
	struct dmt_sleeper s;
	struct dmt_io *io;

	EXPECT_EQ(POLLOUT, events_of(t->ctl));
	dmt_sleeper_poll(&s, t->ctl, POLLIN);
	ASSERT_FALSE(s.over);
	io = dmt_io_now(t->fd, DMT_READ, 0, DMT_BLOCK, 0);
	EXPECT_EQ(POLLIN, dmt_sleeper_wait(&s));
	EXPECT_EQ(POLLIN | POLLOUT, events_of(t->ctl));
	ASSERT_EQ(0, dmt_fail(t->ctl, dmt_expect_request(t->ctl, 0, RO)));
	EXPECT_EQ(-EIO, dmt_io_result(io));
	EXPECT_EQ(POLLOUT, events_of(t->ctl));

	dmt_sleeper_poll(&s, t->ctl, POLLIN);
	ASSERT_FALSE(s.over);
	ASSERT_EQ(0, dmt_invalidate(t->ctl, 3, 0));
	EXPECT_EQ(POLLIN, dmt_sleeper_wait(&s));
	EXPECT_TRUE(dmt_expect_status(t->ctl, 3, DM_USERSPACE_INVAL_FAILED));
	EXPECT_EQ(POLLOUT, events_of(t->ctl));
}

/* --- faults ---------------------------------------------------------------------- */

/* The end of memory: what is written or read from here on faults. */
static uint8_t *cliff(void)
{
	uint8_t *p = mmap(NULL, 8192, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED || mprotect(p + 4096, 4096, PROT_NONE))
		err(1, "memory");
	return p + 4096;
}

TEST_F(dm, faulting_read_is_efault_and_loses_nothing)
{
	struct dmu_msg_version version = { .userspace_ver = 1 };
	struct dmt *t = &self->t;
	uint8_t *end = cliff();
	struct dmt_msg msg;
	struct dmt_io *io, *wr;
	uint32_t id;

	ASSERT_EQ(VERSION_BYTES,
		  dmt_write_msg(t->ctl, DM_USERSPACE_GET_VERSION, 6, &version,
				sizeof(version)));
	EXPECT_EQ(-1, read(t->ctl, end, 4096));
	EXPECT_EQ(EFAULT, errno);
	EXPECT_EQ(POLLIN | POLLOUT, events_of(t->ctl));
	ASSERT_TRUE(dmt_expect(t->ctl, DM_USERSPACE_GET_VERSION, &msg));
	EXPECT_EQ(6, msg.header.id);

	ASSERT_EQ(0, dmt_invalidate(t->ctl, 3, 0));
	ASSERT_TRUE(dmt_readable(t->ctl, DMT_PATIENCE));
	EXPECT_EQ(-1, read(t->ctl, end - STATUS_BYTES + 1, 4096));
	EXPECT_EQ(EFAULT, errno);
	EXPECT_TRUE(dmt_expect_status(t->ctl, 3, DM_USERSPACE_INVAL_FAILED));

	io = dmt_io_now(t->fd, DMT_READ, 0, DMT_BLOCK, 0);
	EXPECT_EQ(-1, read(t->ctl, end - 1, 4096));
	EXPECT_EQ(EFAULT, errno);
	EXPECT_EQ(POLLIN | POLLOUT, events_of(t->ctl));
	EXPECT_EQ(1, dmt_counter(t->name, DMT_WAITING));
	EXPECT_EQ(0, dmt_counter(t->name, DMT_SENT));
	/* No daemon knows of it yet: a write upgrades it. */
	wr = dmt_io_now(t->fd, DMT_WRITE, 0, DMT_BLOCK, 2);
	id = dmt_expect_request(t->ctl, 0, RW);
	ASSERT_NE(0, id);
	EXPECT_TRUE(dmt_silent(t->ctl));
	ASSERT_EQ(0, answer(t, 0, id));
	EXPECT_EQ(0, dmt_io_result(io));
	EXPECT_EQ(0, dmt_io_result(wr));
}

TEST_F(dm, fault_wakes_another_daemon)
{
	struct dmt *t = &self->t;
	uint8_t *end = cliff();
	struct dmt_sleeper s;
	struct dmt_io *io;
	int fd = dmt_control_open(t->name, 0);

	/* Whoever sleeps has been woken for it, and may have found it taken. */
	dmt_sleeper_read(&s, fd);
	ASSERT_FALSE(s.over);
	io = dmt_io_now(t->fd, DMT_READ, 0, DMT_BLOCK, 0);
	while (read(t->ctl, end, 4096) < 0 && errno == EFAULT)
		;
	EXPECT_EQ(EAGAIN, errno);
	EXPECT_EQ(REQUEST_BYTES, dmt_sleeper_wait(&s));
	ASSERT_EQ(0, dmt_fail(fd, s.msg.header.id));
	EXPECT_EQ(-EIO, dmt_io_result(io));
	close(fd);
}

/* What was read of each kind. */
struct seen {
	unsigned int versions;
	unsigned int verdicts;
	unsigned int syncs;
	unsigned int requests[DMT_BLOCKS];
	uint32_t last_id;
	bool in_order;
};

static bool take_in(const uint8_t *buf, size_t len, struct seen *seen)
{
	struct dmt_msg msg;
	size_t at, n;

	for (at = 0; at < len; at += n) {
		memcpy(&msg, buf + at, sizeof(msg.header));
		n = sizeof(msg.header) + msg.header.payload_len;
		if (n > sizeof(msg) || at + n > len)
			return false;
		memcpy(&msg, buf + at, n);
		switch (msg.header.msg_type) {
		case DM_USERSPACE_GET_VERSION:
			seen->versions++;
			break;
		case DM_USERSPACE_STATUS:
			if (msg.status.status == DM_USERSPACE_SYNC_COMPLETE)
				seen->syncs++;
			else
				seen->verdicts++;
			break;
		case DM_USERSPACE_MAP_BLOCK_REQ:
			if (msg.request.org_block >= DMT_BLOCKS)
				return false;
			seen->requests[msg.request.org_block]++;
			if (msg.header.id <= seen->last_id)
				seen->in_order = false;
			seen->last_id = msg.header.id;
			break;
		default:
			return false;
		}
	}
	return true;
}

TEST_F(dm, read_that_faults_half_way_loses_and_doubles_nothing)
{
	struct dmu_msg_version version = { .userspace_ver = 1 };
	struct dmt *t = &self->t;
	struct dmt_map sync = { .block = 0, .to = 0, .dst = &t->store,
				.flags = RW | SYNC };
	struct seen seen = { .in_order = true };
	uint8_t *end = cliff(), buf[4096];
	struct dmt_io *held, *io;
	unsigned int room, i;
	uint32_t id;
	ssize_t n;

	held = dmt_io_now(t->fd, DMT_WRITE, 0, DMT_BLOCK, 2);
	id = dmt_expect_request(t->ctl, 0, RW);
	ASSERT_NE(0, id);
	ASSERT_EQ(0, dmt_map(t->ctl, id, &sync));
	ASSERT_TRUE(dmt_readable(t->ctl, DMT_PATIENCE));
	for (i = 0; i < 3; i++)
		ASSERT_EQ(VERSION_BYTES,
			  dmt_write_msg(t->ctl, DM_USERSPACE_GET_VERSION, i,
					&version, sizeof(version)));
	ASSERT_EQ(0, dmt_invalidate(t->ctl, 3, 63));
	io = dmt_io_now(t->fd, DMT_READ, DMT_BLOCK,
			(DMT_BLOCKS - 1) * DMT_BLOCK, 0);

	for (room = 1; room < 200; room++) {
		n = read(t->ctl, end - room, 4096);
		if (n < 0) {
			ASSERT_EQ(EFAULT, errno);
			continue;
		}
		ASSERT_TRUE(n && n <= room);
		ASSERT_TRUE(take_in(end - room, n, &seen));
	}
	/* An invalidation may take a moment. */
	do {
		ASSERT_TRUE(dmt_readable(t->ctl, DMT_PATIENCE));
		n = read(t->ctl, buf, sizeof(buf));
		ASSERT_TRUE(n > 0 && take_in(buf, n, &seen));
	} while (!seen.verdicts);
	EXPECT_TRUE(dmt_silent(t->ctl));

	EXPECT_EQ(3, seen.versions);
	EXPECT_EQ(1, seen.verdicts);
	EXPECT_EQ(1, seen.syncs);
	EXPECT_TRUE(seen.in_order);
	for (i = 0; i < DMT_BLOCKS; i++)
		EXPECT_EQ(i ? 1 : 0, seen.requests[i]);
	ASSERT_EQ(0, dmt_sync_done(t->ctl, id));
	EXPECT_EQ(0, dmt_io_result(held));
	dmt_dm_message(t->name, "fail_waiting");
	EXPECT_EQ(-EIO, dmt_io_result(io));
}

TEST_F(dm, faulting_write_takes_the_whole_messages_before_the_fault)
{
	struct dmt *t = &self->t;
	struct dmt_batch *batch = calloc(1, sizeof(*batch));
	uint8_t *end = cliff();
	unsigned int i, room, one;

	for (i = 0; i < 3; i++) {
		struct dmt_map map = { .block = i, .to = i, .dst = &t->origin,
				       .flags = RO };

		dmt_batch_map(batch, 0, &map);
	}
	one = batch->len / 3;
	EXPECT_EQ(-1, write(t->ctl, end, batch->len));
	EXPECT_EQ(EFAULT, errno);
	for (room = 1; room < one; room += 7) {
		memcpy(end - room, batch->bytes, room);
		EXPECT_EQ(-1, write(t->ctl, end - room, batch->len));
		EXPECT_EQ(EFAULT, errno);
	}
	EXPECT_EQ(0, dmt_counter(t->name, DMT_REMAPS));
	for (; room < 3 * one; room += 7) {
		memcpy(end - room, batch->bytes, room);
		EXPECT_EQ(room / one * one,
			  write(t->ctl, end - room, batch->len));
		EXPECT_EQ(room / one, dmt_counter(t->name, DMT_REMAPS));
	}
	EXPECT_TRUE(dmt_read_matches(t->fd, 1, DMT_ORIGIN));
	free(batch);
}

/* --- write ----------------------------------------------------------------------- */

/* More than the kernel side copies at a time, so that messages straddle. */
TEST_F(dm, one_write_brings_any_number_of_messages)
{
	struct dmt *t = &self->t;
	struct dmt_batch *batch = calloc(1, sizeof(*batch));
	struct dmu_msg_version version = { .userspace_ver = 1 };
	unsigned int i, round;
	struct dmt_msg msg;

	for (round = 0; round < 20; round++)
		for (i = 0; i < DMT_BLOCKS; i++) {
			struct dmt_map map = {
				.block = i, .to = round == 19 ? i : 63 - i,
				.dst = &t->origin, .flags = RO,
			};

			dmt_batch_map(batch, 0, &map);
			if (i % 16)
				continue;
			version.userspace_ver++;
			dmt_batch_add(batch, DM_USERSPACE_GET_VERSION, round,
				      &version, sizeof(version));
		}
	ASSERT_EQ(batch->len, dmt_batch_write(t->ctl, batch));
	EXPECT_EQ(DMT_BLOCKS, dmt_counter(t->name, DMT_REMAPS));
	for (i = 0; i < 20 * 4; i++) {
		ASSERT_TRUE(dmt_expect(t->ctl, DM_USERSPACE_GET_VERSION,
				       &msg));
		EXPECT_EQ(i / 4, msg.header.id);
		EXPECT_EQ(i + 2, msg.version.userspace_ver);
	}
	for (i = 0; i < DMT_BLOCKS; i++)
		EXPECT_TRUE(dmt_read_matches(t->fd, i, DMT_ORIGIN));
	EXPECT_TRUE(dmt_silent(t->ctl));
	EXPECT_EQ(0, write(t->ctl, batch->bytes, 0));
	free(batch);
}

TEST_F(dm, buffers_may_begin_at_any_byte)
{
	struct dmt *t = &self->t;
	uint8_t buf[256];
	unsigned int at;

	for (at = 1; at < 8; at++) {
		struct dmt_map map = { .block = at, .to = at,
				       .dst = &t->origin, .flags = RO };
		struct dmt_batch batch = { .len = 0 };
		struct dmt_msg msg;
		struct dmt_io *io;

		io = dmt_io_now(t->fd, DMT_READ, at * DMT_BLOCK, DMT_BLOCK, 0);
		ASSERT_EQ(REQUEST_BYTES, read(t->ctl, buf + at, 128));
		memcpy(&msg, buf + at, REQUEST_BYTES);
		EXPECT_EQ(at, msg.request.org_block);
		dmt_batch_map(&batch, msg.header.id, &map);
		memcpy(buf + at, batch.bytes, batch.len);
		ASSERT_EQ(batch.len, write(t->ctl, buf + at, batch.len));
		ASSERT_EQ(0, dmt_io_wait(io));
		EXPECT_TRUE(dmt_io_matches(io, DMT_ORIGIN));
		dmt_io_free(io);
	}
}

TEST_HARNESS_MAIN
