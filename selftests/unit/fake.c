// SPDX-License-Identifier: LGPL-2.1-or-later
/* A stand-in for the kernel. */
#include "fake.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <linux/dm-userspace.h>

static dev_t devices[NR_DEVICES];

/* makedev() is no constant expression. */
__attribute__((constructor))
static void number_devices(void)
{
	devices[0] = makedev(8, 0);
	devices[1] = makedev(8, 16);
	devices[2] = makedev(0xfff, 0xfffff);
}

const struct dmu_geometry fake_geometry = {
	.block_size = BLOCK_SIZE,
	.sectors = SECTORS,
	.nr_devices = NR_DEVICES,
	.devices = devices,
};

/* The one whose writes are looked at. */
static struct fake *current;

ssize_t __real_write(int fd, const void *buf, size_t len);
ssize_t __wrap_write(int fd, const void *buf, size_t len);

/* 0, or the error with which the kernel refuses the nth message, once. */
static int refusal(struct fake *fake)
{
	unsigned int i;
	int err;

	for (i = 0; i < MAX_REFUSALS; i++) {
		err = fake->refusals[i].err;
		if (err && fake->refusals[i].nth == fake->nth + 1)
			return err;
	}
	return 0;
}

/* What write() on a control device does: whole messages, up to a bad one. */
ssize_t __wrap_write(int fd, const void *buf, size_t len)
{
	struct dmu_msg_header header;
	size_t done = 0;
	int err = 0;

	if (!current || !current->dmu || fd != dmu_fd(current->dmu))
		return __real_write(fd, buf, len);
	current->writes++;
	while (done < len) {
		err = refusal(current);
		if (err)
			break;
		current->nth++;
		memcpy(&header, (const char *)buf + done, sizeof(header));
		done += sizeof(header) + header.payload_len;
	}
	if (done)
		return __real_write(fd, buf, done);
	current->nth++;
	errno = err;
	return -1;
}

__attribute__((format(printf, 2, 3)))
static void event(struct fake *fake, const char *fmt, ...)
{
	size_t len = strlen(fake->events);
	va_list args;

	va_start(args, fmt);
	vsnprintf(fake->events + len, sizeof(fake->events) - len, fmt, args);
	va_end(args);
}

static void on_map(struct dmu *dmu, const struct dmu_request *req, void *ctx)
{
	struct fake *fake = ctx;

	(void)dmu;
	event(fake, "map:%u:%llu:%s ", req->id, (unsigned long long)req->block,
	      req->write ? "rw" : "r");
	if (fake->on_map)
		fake->on_map(fake, req);
}

static void on_sync(struct dmu *dmu, uint32_t id, uint64_t block, void *ctx)
{
	struct fake *fake = ctx;

	(void)dmu;
	event(fake, "sync:%u:%llu ", id, (unsigned long long)block);
	if (fake->on_sync)
		fake->on_sync(fake, id);
}

static void on_invalidated(struct dmu *dmu, uint64_t block, bool mapped,
			   void *ctx)
{
	(void)dmu;
	event(ctx, "invalidated:%llu:%s ", (unsigned long long)block,
	      mapped ? "yes" : "no");
}

static void on_batch(struct dmu *dmu, void *ctx)
{
	struct fake *fake = ctx;

	(void)dmu;
	event(ctx, "batch ");
	if (fake->on_batch)
		fake->on_batch(fake);
}

static void on_gone(struct dmu *dmu, void *ctx)
{
	(void)dmu;
	event(ctx, "gone ");
}

static void on_failed(struct dmu *dmu, enum dmu_failure what, uint64_t block,
		      uint32_t id, int error, void *ctx)
{
	(void)dmu;
	event(ctx, "failed:%d:%llu:%u:%d ", what, (unsigned long long)block, id,
	      error);
}

static void on_discarded(struct dmu *dmu, uint64_t block, uint64_t count,
			 void *ctx)
{
	(void)dmu;
	event(ctx, "discarded:%llu:%llu ", (unsigned long long)block,
	      (unsigned long long)count);
}

static void on_refused(struct dmu *dmu, uint32_t id, uint64_t block, int error,
		       void *ctx)
{
	struct fake *fake = ctx;

	(void)dmu;
	event(ctx, "refused:%u:%llu:%s ", id, (unsigned long long)block,
	      strerrorname_np(-error));
	if (fake->on_refused)
		fake->on_refused(fake, id, block);
}

const struct dmu_ops fake_ops = {
	.map = on_map,
	.sync = on_sync,
	.invalidated = on_invalidated,
	.batch = on_batch,
	.gone = on_gone,
	.refused = on_refused,
	.failed = on_failed,
	.discarded = on_discarded,
};

static int setup(void **state, int type)
{
	struct fake *fake = calloc(1, sizeof(*fake));
	struct dmui_msg msg;
	int fds[2];

	assert_non_null(fake);
	signal(SIGPIPE, SIG_IGN);
	assert_return_code(socketpair(AF_UNIX, type, 0, fds), errno);
	fake->kernel = fds[0];
	assert_int_equal(dmu_open_fd(fds[1], &fake_geometry, &fake_ops, fake,
				     &fake->dmu), 0);
	/* Opening asks for the version; only some tests care. */
	assert_int_equal(fake_receive(fake, &msg, 1), 1);
	assert_int_equal(msg.type, DM_USERSPACE_GET_VERSION);
	current = fake;
	*state = fake;
	return 0;
}

/* Reads keep the bounds of the kernel's writes, as a control device does. */
int fake_setup(void **state)
{
	return setup(state, SOCK_SEQPACKET);
}

/* Reads run together. */
int fake_setup_stream(void **state)
{
	return setup(state, SOCK_STREAM);
}

int fake_teardown(void **state)
{
	struct fake *fake = *state;

	current = NULL;
	dmu_close(fake->dmu);
	if (fake->kernel >= 0)
		close(fake->kernel);
	free(fake);
	return 0;
}

/* Forget events, counted writes and refusals. */
void fake_reset(struct fake *fake)
{
	fake->events[0] = 0;
	fake->writes = 0;
	fake->nth = 0;
	memset(fake->refusals, 0, sizeof(fake->refusals));
}

/* Have the nth message written from now on refused. */
void fake_refuse(struct fake *fake, unsigned int nth, int err)
{
	unsigned int i = 0;

	while (fake->refusals[i].err)
		assert_true(++i < MAX_REFUSALS);
	fake->refusals[i].nth = fake->nth + nth;
	fake->refusals[i].err = err;
}

/* The target is removed. */
void fake_hang_up(struct fake *fake)
{
	close(fake->kernel);
	fake->kernel = -1;
}

void fake_send_raw(struct fake *fake, const void *buf, size_t len)
{
	assert_int_equal(send(fake->kernel, buf, len, 0), len);
}

/* All in one packet. */
void fake_send(struct fake *fake, const struct dmui_msg *msgs, size_t n)
{
	unsigned char buf[16384];
	size_t len = 0, i;

	for (i = 0; i < n; i++) {
		assert_true(len + dmui_msg_size(msgs[i].type) <= sizeof(buf));
		len += dmui_encode(buf + len, &msgs[i]);
	}
	fake_send_raw(fake, buf, len);
}

void fake_request(struct fake *fake, uint32_t id, uint64_t block,
		  uint32_t flags)
{
	struct dmui_msg msg = msg_request(id, block, flags);

	fake_send(fake, &msg, 1);
}

void fake_status(struct fake *fake, uint32_t id, uint32_t status)
{
	struct dmui_msg msg = msg_status(id, status);

	fake_send(fake, &msg, 1);
}

/* The messages of one write of the daemon's; fails where there was none. */
size_t fake_receive(struct fake *fake, struct dmui_msg *msgs, size_t max)
{
	static unsigned char buf[65536];
	char why[256];
	ssize_t len, size;
	size_t done = 0, n = 0;

	len = recv(fake->kernel, buf, sizeof(buf), MSG_DONTWAIT);
	assert_true(len > 0);
	while (done < (size_t)len) {
		assert_true(n < max);
		size = dmui_decode(buf + done, len - done, &msgs[n++], why,
				   sizeof(why));
		if (size < 0)
			fail_msg("the daemon sent nonsense: %s", why);
		done += size;
	}
	return n;
}

void fake_nothing_came(struct fake *fake)
{
	char byte;

	assert_int_equal(recv(fake->kernel, &byte, 1, MSG_DONTWAIT), -1);
	assert_int_equal(errno, EAGAIN);
}

struct dmui_msg msg_request(uint32_t id, uint64_t block, uint32_t flags)
{
	return (struct dmui_msg){
		.type = DM_USERSPACE_MAP_BLOCK_REQ,
		.id = id,
		.request = { .org_block = block, .flags = flags },
	};
}

struct dmui_msg msg_status(uint32_t id, uint32_t status)
{
	return (struct dmui_msg){
		.type = DM_USERSPACE_STATUS,
		.id = id,
		.status = { .id_of_op = id, .status = status },
	};
}

struct dmui_msg msg_version(uint32_t id, uint32_t user, uint32_t kernel)
{
	return (struct dmui_msg){
		.type = DM_USERSPACE_GET_VERSION,
		.id = id,
		.version = { .userspace_ver = user, .kernel_ver = kernel },
	};
}
