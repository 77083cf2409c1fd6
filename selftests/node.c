// SPDX-License-Identifier: GPL-2.0-only
/* The control device: who may open it, and how it ends. */
#define _GNU_SOURCE
#include "lib/fixture.h"
#include <err.h>
#include <linux/capability.h>
#include <poll.h>
#include <sched.h>
#include <sys/epoll.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#define NOBODY	65534

/* --- who ------------------------------------------------------------------------ */

TEST_F(dm, node_is_for_root_alone_and_has_the_number_that_status_says)
{
	struct dmt *t = &self->t;
	char path[300], status[256];
	unsigned int maj, min;
	struct stat st;

	dmt_control_path(t->name, path, sizeof(path));
	EXPECT_EQ(0, strncmp(path, "/dev/dm-userspace", 17));
	ASSERT_EQ(0, stat(path, &st));
	EXPECT_EQ(S_IFCHR | 0600, st.st_mode);
	EXPECT_EQ(0, st.st_uid);
	EXPECT_EQ(0, st.st_gid);
	dmt_dm_status(t->name, false, status, sizeof(status));
	ASSERT_EQ(2, sscanf(status, "%u:%u ", &maj, &min));
	EXPECT_EQ(maj, major(st.st_rdev));
	EXPECT_EQ(min, minor(st.st_rdev));
}

/* Take a capability from this process for good. */
static int drop_capability(unsigned int cap)
{
	struct __user_cap_header_struct header = {
		.version = _LINUX_CAPABILITY_VERSION_3,
	};
	struct __user_cap_data_struct data[2];

	if (syscall(SYS_capget, &header, data))
		return -errno;
	data[CAP_TO_INDEX(cap)].effective &= ~CAP_TO_MASK(cap);
	data[CAP_TO_INDEX(cap)].permitted &= ~CAP_TO_MASK(cap);
	data[CAP_TO_INDEX(cap)].inheritable &= ~CAP_TO_MASK(cap);
	return syscall(SYS_capset, &header, data) ? -errno : 0;
}

/* Run a function in a child; what it returns, 0 to 254, or 255. */
static int in_child(int (*fn)(void *arg), void *arg)
{
	pid_t pid = fork();
	int status;

	if (!pid)
		_exit(fn(arg));
	if (pid < 0 || waitpid(pid, &status, 0) != pid || !WIFEXITED(status))
		return 255;
	return WEXITSTATUS(status);
}

static int open_without_cap(void *path)
{
	int fd;

	if (drop_capability(CAP_SYS_ADMIN))
		return 254;
	fd = open(path, O_RDWR);
	return fd < 0 ? errno : 0;
}

static int open_as_nobody(void *path)
{
	int fd;

	if (setresgid(NOBODY, NOBODY, NOBODY) ||
	    setresuid(NOBODY, NOBODY, NOBODY))
		return 254;
	/* So it is not the mode of the node that says no. */
	if (access(path, R_OK | W_OK))
		return 253;
	fd = open(path, O_RDWR);
	return fd < 0 ? errno : 0;
}

static int open_in_namespace(void *path)
{
	int fd;

	if (unshare(CLONE_NEWUSER))
		return 252;
	fd = open(path, O_RDWR);
	return fd < 0 ? errno : 0;
}

TEST_F(dm, open_takes_the_capability_whatever_the_mode)
{
	struct dmt *t = &self->t;
	long refs = dmt_module_refs();
	char path[300];

	dmt_control_path(t->name, path, sizeof(path));
	EXPECT_EQ(EACCES, in_child(open_without_cap, path));
	ASSERT_EQ(0, chmod(path, 0666));
	EXPECT_EQ(EACCES, in_child(open_without_cap, path));
	EXPECT_EQ(EACCES, in_child(open_as_nobody, path));
	EXPECT_EQ(refs, dmt_module_refs());
}

TEST_F(dm, root_of_a_user_namespace_may_not_open_it)
{
	struct dmt *t = &self->t;
	char path[300];
	int r;

	dmt_control_path(t->name, path, sizeof(path));
	ASSERT_EQ(0, chmod(path, 0666));
	r = in_child(open_in_namespace, path);
	if (r == 252)
		SKIP(return, "this kernel has no user namespaces");
	EXPECT_EQ(EACCES, r);
}

struct heir {
	struct dmt *t;
	struct dmt_map map;
};

/* Without any authority of its own, and with the file that root has opened. */
static int serve_as_nobody(void *arg)
{
	struct heir *heir = arg;
	struct dmt_msg msg;

	if (setresgid(NOBODY, NOBODY, NOBODY) ||
	    setresuid(NOBODY, NOBODY, NOBODY))
		return 254;
	if (!dmt_expect(heir->t->ctl, DM_USERSPACE_MAP_BLOCK_REQ, &msg))
		return 1;
	if (dmt_map(heir->t->ctl, msg.header.id, &heir->map))
		return 2;
	return dmt_barrier(heir->t->ctl) ? 0 : 3;
}

TEST_F(dm, authority_of_whoever_opened_it_counts)
{
	struct dmt *t = &self->t;
	struct heir heir = {
		.t = t,
		.map = { .block = 3, .to = 3, .dst = &t->origin, .flags = RO },
	};
	struct dmt_io *io;

	io = dmt_io_now(t->fd, DMT_READ, 3 * DMT_BLOCK, DMT_BLOCK, 0);
	EXPECT_EQ(0, in_child(serve_as_nobody, &heir));
	EXPECT_EQ(0, dmt_io_wait(io));
	EXPECT_TRUE(dmt_io_matches(io, DMT_ORIGIN));
	dmt_io_free(io);
}

/* --- how it is opened ------------------------------------------------------------- */

TEST_F(dm, file_is_a_stream_in_the_mode_it_was_opened_in)
{
	struct dmu_msg_version version = { .userspace_ver = 1 };
	struct dmt *t = &self->t;
	char path[300], buf[64];
	int rd, wr;

	dmt_control_path(t->name, path, sizeof(path));
	rd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	wr = open(path, O_WRONLY | O_CLOEXEC);
	ASSERT_LE(0, rd);
	ASSERT_LE(0, wr);
	EXPECT_EQ(-EBADF, dmt_write_msg(rd, DM_USERSPACE_GET_VERSION, 1,
					&version, sizeof(version)));
	EXPECT_EQ(20, dmt_write_msg(wr, DM_USERSPACE_GET_VERSION, 1, &version,
				    sizeof(version)));
	EXPECT_EQ(-1, read(wr, buf, sizeof(buf)));
	EXPECT_EQ(EBADF, errno);
	EXPECT_EQ(-1, read(rd, buf, sizeof(buf)));
	EXPECT_EQ(EAGAIN, errno);
	EXPECT_EQ(-1, pread(rd, buf, sizeof(buf), 0));
	EXPECT_EQ(ESPIPE, errno);
	EXPECT_EQ(-1, pwrite(wr, buf, sizeof(buf), 0));
	EXPECT_EQ(ESPIPE, errno);
	close(rd);
	close(wr);
}

TEST_F(dm, daemon_is_there_until_the_last_copy_of_its_file_is_closed)
{
	struct dmt *t = &self->t;
	int copy = dup(t->ctl);

	ASSERT_LE(0, copy);
	close(t->ctl);
	EXPECT_TRUE(dmt_attached(t->name));
	EXPECT_TRUE(dmt_barrier(copy));
	close(copy);
	EXPECT_FALSE(dmt_attached(t->name));
	t->ctl = -1;
}

TEST_F(dm, many_files_may_be_open_at_once)
{
	struct dmt *t = &self->t;
	int fds[100];
	unsigned int i;

	for (i = 0; i < 100; i++) {
		fds[i] = dmt_control_open(t->name, O_NONBLOCK);
		EXPECT_TRUE(dmt_barrier(fds[i]));
	}
	for (i = 0; i < 100; i++)
		close(fds[i]);
	EXPECT_TRUE(dmt_barrier(t->ctl));
	EXPECT_TRUE(dmt_silent(t->ctl));
}

/* --- how it ends ------------------------------------------------------------------- */

static short events_of(int fd, short events)
{
	struct pollfd pfd = { .fd = fd, .events = events };

	poll(&pfd, 1, 0);
	return pfd.revents;
}

static void remove_device(struct dmt *t)
{
	close(t->fd);
	t->fd = -1;
	if (dmt_dm_remove(t->name))
		errx(1, "cannot remove %s", t->name);
}

/* For the teardown. */
static void bring_back(struct dmt *t)
{
	if (dmt_dm_create(t->name))
		errx(1, "cannot create %s", t->name);
}

TEST_F(dm, open_file_outlives_the_device_and_says_so)
{
	struct dmu_msg_version version = { .userspace_ver = 1 };
	struct dmt *t = &self->t;
	struct dmt_map map = { .block = 3, .to = 3, .dst = &t->origin,
			       .flags = RO };
	char buf[64];

	/* Messages that nobody has read yet are of no use any more. */
	ASSERT_EQ(20, dmt_write_msg(t->ctl, DM_USERSPACE_GET_VERSION, 1,
				    &version, sizeof(version)));
	ASSERT_EQ(0, dmt_invalidate(t->ctl, 1, 3));
	remove_device(t);
	EXPECT_EQ(0, dmt_controls());
	EXPECT_EQ(0, read(t->ctl, buf, sizeof(buf)));
	EXPECT_EQ(0, read(t->ctl, buf, sizeof(buf)));
	EXPECT_EQ(-ENODEV, dmt_map(t->ctl, 0, &map));
	EXPECT_EQ(-ENODEV, dmt_invalidate(t->ctl, 1, 3));
	EXPECT_EQ(-ENODEV, dmt_fail(t->ctl, 1));
	EXPECT_EQ(-ENODEV, dmt_sync_done(t->ctl, 1));
	EXPECT_EQ(-ENODEV, dmt_write_msg(t->ctl, DM_USERSPACE_GET_VERSION, 1,
					 &version, sizeof(version)));
	EXPECT_EQ(-1, write(t->ctl, buf, 1));
	EXPECT_EQ(ENODEV, errno);
	EXPECT_EQ(POLLHUP, events_of(t->ctl, 0));
	EXPECT_EQ(POLLIN | POLLHUP, events_of(t->ctl, POLLIN));
	EXPECT_LT(0, dmt_module_refs());
	bring_back(t);
}

TEST_F(dm, whoever_sleeps_is_woken_by_the_end)
{
	struct dmt_sleeper reader, in, hup;
	struct dmt *t = &self->t;
	int fd = dmt_control_open(t->name, 0);

	dmt_sleeper_read(&reader, fd);
	dmt_sleeper_poll(&in, t->ctl, POLLIN);
	dmt_sleeper_poll(&hup, t->ctl, 0);
	ASSERT_FALSE(reader.over || in.over || hup.over);
	remove_device(t);
	EXPECT_EQ(0, dmt_sleeper_wait(&reader));
	EXPECT_EQ(POLLIN | POLLHUP, dmt_sleeper_wait(&in));
	EXPECT_EQ(POLLHUP, dmt_sleeper_wait(&hup));
	close(fd);
	bring_back(t);
}

TEST_F(dm, whoever_polls_for_ordinary_data_is_woken_by_it)
{
	struct dmt *t = &self->t;
	struct dmt_sleeper s;
	struct dmt_io *io;
	uint32_t id;

	dmt_sleeper_poll(&s, t->ctl, POLLRDNORM);
	ASSERT_FALSE(s.over);
	io = dmt_io(t->fd, DMT_READ, 0, DMT_BLOCK, 0);
	EXPECT_EQ(POLLRDNORM, dmt_sleeper_wait(&s));
	id = dmt_expect_request(t->ctl, 0, RO);
	ASSERT_NE(0, id);
	ASSERT_EQ(0, dmt_fail(t->ctl, id));
	EXPECT_EQ(-EIO, dmt_io_result(io));
}

static int exclusive(int fd)
{
	struct epoll_event event = { .events = EPOLLIN | EPOLLEXCLUSIVE };
	int epoll = epoll_create1(EPOLL_CLOEXEC);

	if (epoll < 0 || epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event))
		err(1, "epoll");
	return epoll;
}

/* What is for one of them only wakes that one, whoever else would like to be woken. */
TEST_F(dm, those_who_wait_exclusively_are_woken_each_by_its_own)
{
	struct dmt_map map = { .dst = &self->t.store, .flags = RW };
	struct dmt_sleeper sleepers[2];
	struct dmt *t = &self->t;
	int files[2], epolls[2];
	unsigned int i;

	for (i = 0; i < 2; i++) {
		files[i] = dmt_control_open(t->name, O_NONBLOCK);
		epolls[i] = exclusive(files[i]);
		dmt_sleeper_epoll(&sleepers[i], epolls[i]);
		ASSERT_FALSE(sleepers[i].over);
	}
	for (i = 0; i < 2; i++) {
		ASSERT_EQ(0, dmt_map(files[i], 0, &map));
		ASSERT_EQ(0, dmt_invalidate(files[i], 42, 0));
		EXPECT_EQ(POLLIN, dmt_sleeper_wait(&sleepers[i]));
		EXPECT_TRUE(dmt_expect_status(files[i], 42,
					      DM_USERSPACE_INVAL_COMPLETE));
		dmt_sleeper_epoll(&sleepers[i], epolls[i]);
		ASSERT_FALSE(sleepers[i].over);
	}
	remove_device(t);
	for (i = 0; i < 2; i++) {
		EXPECT_EQ(EPOLLIN | EPOLLHUP, dmt_sleeper_wait(&sleepers[i]));
		close(epolls[i]);
		close(files[i]);
	}
	bring_back(t);
}

TEST_F(dm, node_goes_with_the_last_table_and_not_before)
{
	struct dmt *t = &self->t;
	char path[300], params[256], second[64];

	snprintf(second, sizeof(second), "%s-second", t->name);
	dmt_control_path(t->name, path, sizeof(path));
	dmt_params(t, params, sizeof(params));
	ASSERT_EQ(0, dmt_dm_create(second));
	ASSERT_EQ(0, dmt_dm_load(second, 0, 64, "userspace", params));
	remove_device(t);
	EXPECT_EQ(0, access(path, F_OK));
	EXPECT_TRUE(dmt_barrier(t->ctl));
	/* One that was only loaded is a table, too. */
	ASSERT_EQ(0, dmt_dm_clear(second));
	EXPECT_EQ(-1, access(path, F_OK));
	EXPECT_EQ(POLLHUP, events_of(t->ctl, 0));
	ASSERT_EQ(0, dmt_dm_remove(second));
	bring_back(t);
}

TEST_F(dm, key_that_comes_again_has_nothing_to_do_with_old_files)
{
	struct dmt *t = &self->t;
	struct dmt_map map = { .block = 3, .to = 3, .dst = &t->origin,
			       .flags = RO };
	char old[300], new[300], params[256], buf[64];
	int fd;

	dmt_control_path(t->name, old, sizeof(old));
	ASSERT_EQ(0, dmt_map(t->ctl, 0, &map));
	remove_device(t);
	bring_back(t);
	dmt_params(t, params, sizeof(params));
	ASSERT_EQ(0, dmt_dm_load(t->name, 0, DMT_BLOCKS * DMT_SECTORS,
				 "userspace", params));
	ASSERT_EQ(0, dmt_dm_resume(t->name));
	dmt_control_path(t->name, new, sizeof(new));
	EXPECT_STRNE(old, new); /* while the old one is open */
	EXPECT_FALSE(dmt_attached(t->name));
	EXPECT_EQ(0, dmt_counter(t->name, DMT_REMAPS));
	fd = dmt_control_open(t->name, O_NONBLOCK);
	EXPECT_TRUE(dmt_barrier(fd));
	EXPECT_EQ(0, read(t->ctl, buf, sizeof(buf)));
	EXPECT_EQ(-ENODEV, dmt_map(t->ctl, 0, &map));
	close(t->ctl);
	t->ctl = fd;
	EXPECT_TRUE(dmt_attached(t->name));
}

TEST_F(dm, node_of_a_device_that_has_gone_cannot_be_opened)
{
	struct dmt *t = &self->t;
	char path[300], again[64];
	int handle;

	dmt_control_path(t->name, path, sizeof(path));
	handle = open(path, O_PATH | O_CLOEXEC);
	ASSERT_LE(0, handle);
	snprintf(again, sizeof(again), "/proc/self/fd/%d", handle);
	remove_device(t);
	/* As long as somebody has it open, the kernel still finds it ... */
	EXPECT_EQ(-1, open(again, O_RDWR));
	EXPECT_EQ(ENODEV, errno);
	close(t->ctl);
	t->ctl = -1;
	/* ... and afterwards it does not. */
	EXPECT_EQ(-1, open(again, O_RDWR));
	EXPECT_EQ(ENXIO, errno);
	EXPECT_EQ(0, dmt_module_refs());
	close(handle);
	bring_back(t);
}

TEST_F(dm, module_stays_while_a_table_or_an_open_file_uses_it)
{
	struct dmt *t = &self->t;
	char params[256];

	dmt_params(t, params, sizeof(params));
	EXPECT_EQ(-EWOULDBLOCK, dmt_module_remove());
	close(t->ctl);
	t->ctl = -1;
	EXPECT_EQ(1, dmt_module_refs());
	EXPECT_EQ(-EWOULDBLOCK, dmt_module_remove());

	t->ctl = dmt_control_open(t->name, O_NONBLOCK);
	remove_device(t);
	EXPECT_LT(0, dmt_module_refs());
	EXPECT_EQ(-EWOULDBLOCK, dmt_module_remove());

	bring_back(t);
	ASSERT_EQ(0, dmt_dm_load(t->name, 0, 64, "userspace", params));
	close(t->ctl);
	t->ctl = -1;
	EXPECT_EQ(-EWOULDBLOCK, dmt_module_remove());
	ASSERT_EQ(0, dmt_dm_clear(t->name));
	EXPECT_EQ(0, dmt_module_refs());
}

/* --- many of them ------------------------------------------------------------------- */

TEST_F_TIMEOUT(dm, forty_devices_have_a_node_each, 150)
{
	enum { NR = 40 };
	struct dmt *t = &self->t;
	char names[NR][48], paths[NR][300], params[256];
	unsigned int i, j;
	int fds[NR];

	for (i = 0; i < NR; i++) {
		struct dmt_map map = { .block = 1, .to = i, .dst = &t->origin,
				       .flags = RO };

		snprintf(names[i], sizeof(names[i]), "%s-%u", t->name, i);
		snprintf(params, sizeof(params), "%s 4096 %u:%u", names[i],
			 major(t->origin.dev), minor(t->origin.dev));
		ASSERT_EQ(0, dmt_dm_create(names[i]));
		ASSERT_EQ(0, dmt_dm_load(names[i], 0,
					 DMT_BLOCKS * DMT_SECTORS,
					 "userspace", params));
		ASSERT_EQ(0, dmt_dm_resume(names[i]));
		dmt_control_path(names[i], paths[i], sizeof(paths[i]));
		for (j = 0; j < i; j++)
			EXPECT_STRNE(paths[j], paths[i]);
		fds[i] = dmt_control_open(names[i], O_NONBLOCK);
		ASSERT_EQ(0, dmt_map(fds[i], 0, &map));
	}
	EXPECT_EQ(NR + 1, dmt_controls());
	for (i = 0; i < NR; i++) {
		EXPECT_EQ(1, dmt_counter(names[i], DMT_REMAPS));
		EXPECT_TRUE(dmt_barrier(fds[i]));
	}
	/* From the middle outwards, so that numbers become free in between. */
	for (i = 0; i < NR; i++) {
		j = i % 2 ? NR / 2 + i / 2 : NR / 2 - 1 - i / 2;
		ASSERT_EQ(0, dmt_dm_remove(names[j]));
		EXPECT_EQ(-1, access(paths[j], F_OK));
		EXPECT_EQ(POLLHUP, events_of(fds[j], 0));
		close(fds[j]);
	}
	EXPECT_EQ(1, dmt_controls());
	EXPECT_TRUE(dmt_barrier(t->ctl));
}

TEST_HARNESS_MAIN
