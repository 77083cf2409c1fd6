// SPDX-License-Identifier: GPL-2.0-only
/*
 * What Documentation/security.rst promises, and node.c and bad-messages.c do not
 * show: a daemon reaches nothing but the devices of its table, an unprivileged
 * user nothing at all, and no byte leaves the kernel that is not accounted for.
 */
#define _GNU_SOURCE
#include "lib/gated.h"
#include <dirent.h>
#include <err.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>

#define NOBODY 65534

/* --- what a daemon can name ---------------------------------------------------------- */

/* Whatever block device there is on this machine. */
TEST_F(gated, no_device_but_those_of_the_table_can_be_named)
{
	struct dmt *t = &self->g.t;
	const dev_t own[] = { t->origin.dev, t->store.dev, self->g.spare.dev };
	DIR *dir = opendir("/sys/dev/block");
	struct dirent *entry;
	unsigned int nr = 0;

	ASSERT_NE(NULL, dir);
	while ((entry = readdir(dir))) {
		struct dmt_disk disk = { 0 };
		struct dmt_map as_dst = dmt_plain(&disk, 1, 1, RW);
		struct dmt_map as_src = dmt_cow(t, 1, 2, RW);
		unsigned int maj, min;

		if (sscanf(entry->d_name, "%u:%u", &maj, &min) != 2)
			continue;
		disk.dev = makedev(maj, min);
		if (disk.dev == own[0] || disk.dev == own[1] ||
		    disk.dev == own[2])
			continue;
		as_src.src = &disk;
		EXPECT_EQ(-ENODEV, dmt_map(t->ctl, 0, &as_dst));
		EXPECT_EQ(-ENODEV, dmt_map(t->ctl, 0, &as_src));
		nr++;
	}
	closedir(dir);
	/* At least: the gates' disks, and the mapped device itself. */
	EXPECT_LE(3, nr);
	EXPECT_EQ(0, dmt_counter(t->name, DMT_REMAPS));
}

/* Where a mapping would reach, as sectors that cannot overflow. */
static bool fits(const struct dmu_msg_map_response *r)
{
	__int128 start = (__int128)r->new_block * DMT_SECTORS + r->offset;

	/* No offset makes up for a block that no device could have. */
	return r->new_block <= INT64_MAX / DMT_SECTORS &&
	       r->org_block < DMT_BLOCKS && start >= 0 &&
	       start + DMT_SECTORS <= DMT_BLOCKS * DMT_SECTORS;
}

/* Numbers near those at which something could go wrong. */
static uint64_t odd_number(void)
{
	static const uint64_t bases[] = {
		0, 1, DMT_BLOCKS - 1, DMT_BLOCKS, DMT_BLOCKS * DMT_SECTORS,
		1ull << 31, 1ull << 32, 1ull << 51, 1ull << 52, 1ull << 54,
		1ull << 55, 1ull << 60, 1ull << 61, 1ull << 63, ~0ull,
	};
	uint64_t base = bases[random() % (sizeof(bases) / sizeof(*bases))];

	switch (random() % 4) {
	case 0:
		return base;
	case 1:
		return base + random() % 16;
	case 2:
		return base - random() % 16;
	default:
		return (uint64_t)random() % (DMT_BLOCKS + 8);
	}
}

TEST_F_TIMEOUT(dm, no_sector_outside_a_device_can_be_named, 120)
{
	struct dmt *t = &self->t;
	unsigned int i, taken = 0;

	srandom(2718);
	for (i = 0; i < 4000; i++) {
		struct dmt_map map = dmt_plain(&t->store, odd_number(),
					       odd_number(), RW);
		struct dmu_msg_map_response r;
		ssize_t n;

		if (random() % 2)
			map.offset = (int64_t)odd_number();
		dmt_response(&r, 0, &map);
		n = dmt_write_msg(t->ctl, DM_USERSPACE_MAP_BLOCK_RESP, 0, &r,
				  sizeof(r));
		ASSERT_EQ(fits(&r) ? (ssize_t)(sizeof(r) + 12) : -ERANGE, n) {
			TH_LOG("block %llu to %llu%+lld",
			       (unsigned long long)r.org_block,
			       (unsigned long long)r.new_block,
			       (long long)r.offset);
		}
		taken += n > 0;
	}
	EXPECT_LT(50, taken);
	EXPECT_GE(DMT_BLOCKS, dmt_counter(t->name, DMT_REMAPS));
}

/* A device that became smaller: what was mapped fails below, and harms nobody. */
TEST_F(dm, device_that_shrinks_takes_its_end_away)
{
	struct dmt *t = &self->t;
	struct dmt_map map = dmt_plain(&t->store, 1, DMT_BLOCKS - 1, RW);

	ASSERT_EQ(0, dmt_map(t->ctl, 0, &map));
	ASSERT_EQ(0, dmt_write_block(t->fd, 1, 2));
	dmt_disk_resize(&t->store, DMT_BLOCKS / 2 * DMT_BLOCK);
	EXPECT_EQ(-EIO, dmt_write_block(t->fd, 1, 3));
	EXPECT_EQ(-ERANGE, dmt_map(t->ctl, 0, &map));
	dmt_disk_resize(&t->store, DMT_BLOCKS * DMT_BLOCK);
	EXPECT_EQ(0, dmt_map(t->ctl, 0, &map));
	EXPECT_EQ(0, dmt_write_block(t->fd, 1, 4));
}

/* --- what an unprivileged user can do ---------------------------------------------------- */

static bool become_nobody(void)
{
	return !setresgid(NOBODY, NOBODY, NOBODY) &&
	       !setresuid(NOBODY, NOBODY, NOBODY);
}

/* Run a function as nobody; what it returns, or 255. */
static int as_nobody(int (*fn)(const struct dmt *t, const char *arg),
		     const struct dmt *t, const char *arg)
{
	pid_t pid = fork();
	int status;

	if (!pid)
		_exit(become_nobody() ? fn(t, arg) : 254);
	if (pid < 0 || waitpid(pid, &status, 0) != pid || !WIFEXITED(status))
		return 255;
	return WEXITSTATUS(status);
}

static int try_open(const struct dmt *t, const char *path)
{
	int fd = open(path, O_RDONLY);

	(void)t;
	return fd < 0 ? errno : 0;
}

static int try_write(const struct dmt *t, const char *path)
{
	int fd = open(path, O_WRONLY);

	(void)t;
	return fd < 0 ? errno : 0;
}

TEST_F(dm, nobody_can_open_control_and_trace_nothing)
{
	static const char params[] = "/sys/module/dm_user/parameters";
	struct dmt *t = &self->t;
	char path[300], sys[300];
	struct dirent *entry;
	struct stat st;
	DIR *dir;

	dmt_control_path(t->name, path, sizeof(path));
	EXPECT_EQ(EACCES, as_nobody(try_open, t, path));
	EXPECT_EQ(EACCES, as_nobody(try_write, t, path));
	EXPECT_EQ(EACCES, as_nobody(try_open, t, "/dev/mapper/control"));
	snprintf(sys, sizeof(sys), "/sys/class/dm-userspace/%s/uevent",
		 strrchr(path, '/') + 1);
	EXPECT_EQ(EACCES, as_nobody(try_write, t, sys));
	dir = opendir(params);
	ASSERT_NE(NULL, dir);
	while ((entry = readdir(dir))) {
		if (*entry->d_name == '.')
			continue;
		snprintf(sys, sizeof(sys), "%s/%s", params, entry->d_name);
		EXPECT_EQ(EACCES, as_nobody(try_write, t, sys));
	}
	closedir(dir);
	if (stat("/sys/kernel/tracing/events", &st))
		mount("tracefs", "/sys/kernel/tracing", "tracefs", 0, NULL);
	if (!stat("/sys/kernel/tracing/events", &st)) {
		snprintf(sys, sizeof(sys),
			 "/sys/kernel/tracing/events/dm_userspace/enable");
		EXPECT_EQ(0, access(sys, F_OK));
		EXPECT_EQ(EACCES, as_nobody(try_open, t, sys));
	}
}

/* Not a word of the key, of the table, or of what it does. */
TEST_F(dm, sysfs_tells_the_number_of_the_node_and_nothing_else)
{
	struct dmt *t = &self->t;
	char path[300], sys[300], text[4096], want[256];
	struct dirent *entry;
	struct stat st;
	size_t len;
	DIR *dir;
	FILE *f;

	dmt_control_path(t->name, path, sizeof(path));
	ASSERT_EQ(0, stat(path, &st));
	snprintf(sys, sizeof(sys), "/sys/class/dm-userspace/%s",
		 strrchr(path, '/') + 1);
	dir = opendir(sys);
	ASSERT_NE(NULL, dir);
	while ((entry = readdir(dir)))
		EXPECT_TRUE(*entry->d_name == '.' ||
			    strstr("dev uevent power subsystem",
				   entry->d_name)) {
			TH_LOG("there is %s", entry->d_name);
		}
	closedir(dir);
	strcat(sys, "/uevent");
	f = fopen(sys, "re");
	ASSERT_NE(NULL, f);
	len = fread(text, 1, sizeof(text) - 1, f);
	text[len] = '\0';
	fclose(f);
	snprintf(want, sizeof(want),
		 "MAJOR=%u\nMINOR=%u\nDEVNAME=%s\nDEVMODE=0600\n",
		 major(st.st_rdev), minor(st.st_rdev), strrchr(path, '/') + 1);
	EXPECT_STREQ(want, text);
}

/* Receive the file that root has opened, and see what it is good for. */
static int use_what_is_sent(const struct dmt *t, const char *path)
{
	char again[64];
	struct dmt_msg msg;

	(void)path;
	snprintf(again, sizeof(again), "/proc/self/fd/%d", t->ctl);
	/* It may be used; it is no way to another one. */
	if (open(again, O_RDWR) >= 0 || (errno != EACCES && errno != EPERM))
		return 1;
	if (!dmt_barrier(t->ctl))
		return 2;
	if (!dmt_expect(t->ctl, DM_USERSPACE_MAP_BLOCK_REQ, &msg))
		return 3;
	return dmt_fail(t->ctl, msg.header.id) ? 4 : 0;
}

static int send_fd(int sock, int fd)
{
	char control[CMSG_SPACE(sizeof(int))] = { 0 }, byte = 0;
	struct iovec iov = { &byte, 1 };
	struct msghdr msg = {
		.msg_iov = &iov, .msg_iovlen = 1,
		.msg_control = control, .msg_controllen = sizeof(control),
	};
	struct cmsghdr *c = CMSG_FIRSTHDR(&msg);

	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(c), &fd, sizeof(int));
	return sendmsg(sock, &msg, 0) == 1 ? 0 : -errno;
}

static int receive_fd(int sock)
{
	char control[CMSG_SPACE(sizeof(int))], byte;
	struct iovec iov = { &byte, 1 };
	struct msghdr msg = {
		.msg_iov = &iov, .msg_iovlen = 1,
		.msg_control = control, .msg_controllen = sizeof(control),
	};
	int fd = -1;

	if (recvmsg(sock, &msg, 0) == 1 && CMSG_FIRSTHDR(&msg))
		memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&msg)), sizeof(int));
	return fd;
}

TEST_F(dm, open_file_can_be_given_away_and_opens_no_other)
{
	struct dmt *t = &self->t, theirs = self->t;
	struct dmt_io *io = dmt_begin_read(t, 3);
	int socks[2], status;
	pid_t pid;

	ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_STREAM, 0, socks));
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		close(t->ctl);
		if (!become_nobody())
			_exit(254);
		theirs.ctl = receive_fd(socks[1]);
		_exit(theirs.ctl < 0 ? 253 : use_what_is_sent(&theirs, NULL));
	}
	ASSERT_EQ(0, send_fd(socks[0], t->ctl));
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_EQ(0, status);
	EXPECT_EQ(-EIO, dmt_io_result(io));
	close(socks[0]);
	close(socks[1]);
}

/* Messages are all that there is to a control device. */
TEST_F(dm, control_device_has_no_other_door)
{
	struct dmt *t = &self->t;
	int other = open("/dev/null", O_RDWR | O_CLOEXEC);
	unsigned int i;

	EXPECT_EQ(MAP_FAILED, mmap(NULL, 4096, PROT_READ, MAP_SHARED, t->ctl,
				   0));
	EXPECT_EQ(ENODEV, errno);
	EXPECT_EQ(MAP_FAILED, mmap(NULL, 4096, PROT_READ | PROT_WRITE,
				   MAP_PRIVATE, t->ctl, 0));
	EXPECT_EQ(ENODEV, errno);
	for (i = 0; i < 256; i++) {
		EXPECT_EQ(-1, ioctl(t->ctl, _IO('D', i), 0));
		EXPECT_EQ(ENOTTY, errno);
	}
	EXPECT_EQ(-1, sendfile(other, t->ctl, NULL, 4096));
	EXPECT_EQ(-1, sendfile(t->ctl, t->origin.fd, NULL, 4096));
	EXPECT_EQ(-1, ftruncate(t->ctl, 4096));
	EXPECT_EQ(0, dmt_counter(t->name, DMT_REMAPS));
	EXPECT_TRUE(dmt_barrier(t->ctl));
	close(other);
}

/* --- what leaves the kernel ---------------------------------------------------------------- */

#define POISON 0xa5

/* Read, and see that nothing but what read() says has been touched. */
static ssize_t read_guarded(int fd, uint8_t *buf, size_t size, size_t room)
{
	ssize_t n;
	size_t i;

	memset(buf, POISON, size);
	n = dmt_readable(fd, DMT_PATIENCE) ? read(fd, buf, room) : -1;
	for (i = n < 0 ? 0 : (size_t)n; i < size; i++)
		if (buf[i] != POISON)
			errx(1, "byte %zu behind %zd was written to", i, n);
	return n;
}

/* Append a message as it should be. */
static size_t expect(uint8_t *to, uint32_t type, uint32_t id,
		     const void *payload, uint32_t len)
{
	const struct dmu_msg_header header = { type, len, id };

	memcpy(to, &header, sizeof(header));
	memcpy(to + sizeof(header), payload, len);
	return sizeof(header) + len;
}

static size_t expect_request(uint8_t *to, uint32_t id, uint64_t block,
			     uint32_t flags)
{
	/* Byte by byte, so that padding is what this says it is. */
	uint8_t payload[16] = { 0 };

	memcpy(payload, &block, 8);
	memcpy(payload + 8, &flags, 4);
	return expect(to, DM_USERSPACE_MAP_BLOCK_REQ, id, payload, 16);
}

static size_t expect_status(uint8_t *to, uint32_t id, uint32_t status)
{
	const uint32_t payload[2] = { id, status };

	return expect(to, DM_USERSPACE_STATUS, id, payload, 8);
}

/* Fill the memory that messages are made in with what must not be seen again. */
static bool dirty(const struct dmt *t)
{
	const uint32_t version[2] = { 0xdeadbeef, 0xdeadbeef };
	uint8_t buf[64 * 20];
	unsigned int i;

	for (i = 0; i < 64; i++)
		if (dmt_write_msg(t->ctl, DM_USERSPACE_GET_VERSION, 0xdeadbeef,
				  version, 8) != 20)
			return false;
	for (i = 0; i < 64; i++)
		if (read_guarded(t->ctl, buf, sizeof(buf), 20) != 20)
			return false;
	return true;
}

/* With as much room as there may be, and with as little as will do. */
TEST_F(gated, every_byte_of_every_message_is_accounted_for)
{
	struct dmt *t = &self->g.t;
	uint8_t got[1024], want[1024];
	unsigned int turn;

	for (turn = 0; turn < 2; turn++) {
		struct dmt_map sync = dmt_plain(&t->store, 1, 1, RW | SYNC);
		struct dmu_msg_map_request r;
		struct dmt_io *one, *two;
		uint32_t ids[2];
		size_t len = 0;

		ASSERT_TRUE(dirty(t));
		one = dmt_write_part(t->fd, 1, 2);
		two = dmt_begin_read(t, 2);
		ASSERT_EQ(turn ? 28 : 56,
			  read_guarded(t->ctl, got, sizeof(got),
				       turn ? 28 : sizeof(got)));
		memcpy(&ids[0], got + 8, 4);
		memcpy(&r, got + 12, sizeof(r));
		len = expect_request(want, ids[0], 1, RW);
		if (turn) {
			EXPECT_EQ(0, memcmp(want, got, len));
			ASSERT_EQ(28, read_guarded(t->ctl, got, sizeof(got),
						   28));
			memcpy(&ids[1], got + 8, 4);
			len = expect_request(want, ids[1], 2, RO);
		} else {
			memcpy(&ids[1], got + 28 + 8, 4);
			len += expect_request(want + len, ids[1], 2, RO);
		}
		EXPECT_EQ(0, memcmp(want, got, len));
		EXPECT_EQ(1, r.org_block);

		ASSERT_EQ(0, dmt_map(t->ctl, ids[0], &sync));
		ASSERT_EQ(20, read_guarded(t->ctl, got, sizeof(got), 20));
		len = expect_status(want, ids[0], DM_USERSPACE_SYNC_COMPLETE);
		EXPECT_EQ(0, memcmp(want, got, len));
		ASSERT_EQ(0, dmt_sync_done(t->ctl, ids[0]));
		ASSERT_EQ(0, dmt_io_result(one));
		ASSERT_EQ(0, dmt_fail(t->ctl, ids[1]));
		EXPECT_EQ(-EIO, dmt_io_result(two));

		ASSERT_EQ(0, dmt_invalidate(t->ctl, 42, 1));
		ASSERT_EQ(20, read_guarded(t->ctl, got, sizeof(got), 20));
		len = expect_status(want, 42, DM_USERSPACE_INVAL_COMPLETE);
		EXPECT_EQ(0, memcmp(want, got, len));
		ASSERT_EQ(0, dmt_invalidate(t->ctl, 43, 1));
		ASSERT_EQ(20, read_guarded(t->ctl, got, sizeof(got), 512));
		len = expect_status(want, 43, DM_USERSPACE_INVAL_FAILED);
		EXPECT_EQ(0, memcmp(want, got, len));
	}
}

/* Two neighbours that are asked for in one message. */
static bool every_byte_of_a_run(struct dmt *t)
{
	struct dmt_io *io[2] = { dmt_begin_read(t, 8) };
	const uint64_t block = 8;
	const uint32_t count = 2, flags = DMU_FLAG_RD;
	uint8_t got[1024], want[1024], payload[16];
	uint32_t id;

	if (!dmt_counts(t->name, DMT_WAITING, 1))
		return false;
	io[1] = dmt_begin_read(t, 9);
	if (!dmt_counts(t->name, DMT_WAITING, 2) ||
	    read_guarded(t->ctl, got, sizeof(got), sizeof(got)) != 28)
		return false;
	memcpy(&id, got + 8, 4);
	memcpy(payload, &block, 8);
	memcpy(payload + 8, &count, 4);
	memcpy(payload + 12, &flags, 4);
	expect(want, DM_USERSPACE_MAP_RUN_REQ, id, payload, 16);
	return !memcmp(want, got, 28) && id && !dmt_fail(t->ctl, id) &&
	       !dmt_fail(t->ctl, id + 1) && dmt_io_result(io[0]) == -EIO &&
	       dmt_io_result(io[1]) == -EIO;
}

TEST_F(gated, every_byte_of_the_extensions_is_accounted_for)
{
	struct dmt *t = &self->g.t;
	const uint64_t all = ~0ull, bits = DMU_EXT_REPORTS | DMU_EXT_DISCARD |
					   DMU_EXT_RUNS;
	struct dmt_map map = dmt_plain(&t->store, 3, 3, RW);
	const uint64_t discarded[2] = { 4, 2 };
	uint8_t got[1024], want[1024], report[24] = { 0 };
	const int32_t error = -EIO;
	uint64_t block = 3;
	uint32_t kind = DMU_REPORT_IO_FAILED, id;
	struct dmt_io *io;
	size_t len;

	ASSERT_EQ(20, dmt_write_msg(t->ctl, DM_USERSPACE_EXTENSIONS, 9, &all,
				    8));
	ASSERT_EQ(20, read_guarded(t->ctl, got, sizeof(got), sizeof(got)));
	len = expect(want, DM_USERSPACE_EXTENSIONS, 9, &bits, 8);
	EXPECT_EQ(0, memcmp(want, got, len));
	ASSERT_TRUE(dirty(t));
	EXPECT_TRUE(every_byte_of_a_run(t));
	ASSERT_TRUE(dirty(t));

	io = dmt_begin_read(t, 3);
	id = dmt_expect_request(t->ctl, 3, RO);
	ASSERT_NE(0, id);
	dmt_gate_break(&self->g.store);
	ASSERT_EQ(0, dmt_map(t->ctl, id, &map));
	EXPECT_EQ(-EIO, dmt_io_result(io));
	ASSERT_EQ(36, read_guarded(t->ctl, got, sizeof(got), sizeof(got)));
	/* Which id it names is not what this is about. */
	memcpy(&id, got + 20, 4);
	memcpy(report, &block, 8);
	memcpy(report + 8, &id, 4);
	memcpy(report + 12, &kind, 4);
	memcpy(report + 16, &error, 4);
	len = expect(want, DM_USERSPACE_REPORT, 0, report, 24);
	EXPECT_EQ(0, memcmp(want, got, len));

	dmt_gate_mend(&self->g.store);
	ASSERT_TRUE(dirty(t));
	for (map.block = 4; map.block < 6; map.block++)
		ASSERT_EQ(0, dmt_map(t->ctl, 0, &map));
	EXPECT_EQ(0, dmt_io_result(dmt_io(t->fd, DMT_DISCARD, 4 * DMT_BLOCK,
					  2 * DMT_BLOCK, 0)));
	ASSERT_LE(28, read_guarded(t->ctl, got, sizeof(got), 36));
	len = expect(want, DM_USERSPACE_DISCARD, 0, discarded, 16);
	EXPECT_EQ(0, memcmp(want, got, 12));
	EXPECT_EQ(0, memcmp(want + 12, got + 12, 8));
}

TEST_HARNESS_MAIN
