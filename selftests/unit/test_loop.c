// SPDX-License-Identifier: LGPL-2.1-or-later
/* Dispatching, running, stopping, and the end. */
#include "fake.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <linux/dm-userspace.h>

#include "internal.h"

#define RD DMU_FLAG_RD
#define WR DMU_FLAG_WR

static void nothing_waits(void **state)
{
	struct fake *fake = *state;

	/* Would hang here, were the descriptor a blocking one. */
	assert_int_equal(dmu_dispatch(fake->dmu), 0);
	assert_string_equal(fake->events, "");
}

static void requests(void **state)
{
	struct fake *fake = *state;
	struct dmui_msg msgs[] = {
		msg_request(1, 0, RD),
		msg_request(UINT32_MAX, UINT64_MAX, RD | WR),
		msg_request(3, 7, WR),
	};

	fake_send(fake, msgs, 3);
	assert_int_equal(dmu_dispatch(fake->dmu), 3);
	assert_string_equal(fake->events,
			    "map:1:0:r map:4294967295:18446744073709551615:rw map:3:7:rw batch ");
	assert_int_equal(fake->writes, 0);
}

/* A read brings what one read brings; each is a batch of its own. */
static void batch_is_a_read(void **state)
{
	struct fake *fake = *state;

	fake_request(fake, 1, 1, RD);
	fake_request(fake, 2, 2, RD);
	assert_int_equal(dmu_dispatch(fake->dmu), 1);
	assert_string_equal(fake->events, "map:1:1:r batch ");
	assert_int_equal(dmu_dispatch(fake->dmu), 1);
	assert_int_equal(dmu_dispatch(fake->dmu), 0);
}

static void optional_callbacks(void **state)
{
	const struct dmu_ops ops = { .map = fake_ops.map };
	struct fake fake = { 0 };
	struct dmui_msg msg;
	int fds[2];

	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, fds), 0);
	assert_int_equal(dmu_open_fd(fds[1], &fake_geometry, &ops, &fake,
				     &fake.dmu), 0);
	fake.kernel = fds[0];
	fake_receive(&fake, &msg, 1);
	fake_request(&fake, 1, 1, RD);
	assert_int_equal(dmu_dispatch(fake.dmu), 1);
	assert_int_equal(dmu_invalidate(fake.dmu, 1), 0);
	assert_int_equal(dmu_flush(fake.dmu), 0);
	fake_receive(&fake, &msg, 1);
	fake_status(&fake, msg.id, DM_USERSPACE_INVAL_COMPLETE);
	assert_int_equal(dmu_dispatch(fake.dmu), 1);
	fake_hang_up(&fake);
	assert_int_equal(dmu_dispatch(fake.dmu), -ENODEV);
	dmu_close(fake.dmu);
}

static void end_of_file(void **state)
{
	struct fake *fake = *state;
	const struct dmu_mapping m = { .block = 1, .dst = makedev(8, 0) };

	fake_request(fake, 1, 1, RD);
	fake_hang_up(fake);
	assert_int_equal(dmu_dispatch(fake->dmu), 1);
	assert_int_equal(dmu_dispatch(fake->dmu), -ENODEV);
	assert_string_equal(fake->events, "map:1:1:r batch gone ");
	/* Told once, and for ever. */
	assert_int_equal(dmu_dispatch(fake->dmu), -ENODEV);
	assert_int_equal(dmu_run(fake->dmu), 0);
	assert_string_equal(fake->events, "map:1:1:r batch gone ");
	assert_int_equal(dmu_map(fake->dmu, 1, &m), -ENODEV);
	assert_int_equal(dmu_fail(fake->dmu, 1), -ENODEV);
	assert_int_equal(dmu_push(fake->dmu, &m), -ENODEV);
	assert_int_equal(dmu_invalidate(fake->dmu, 1), -ENODEV);
	assert_int_equal(dmu_sync_done(fake->dmu, 1), -ENODEV);
	assert_string_equal(dmu_strerror(fake->dmu),
			    "the connection has ended");
}

static void fail_it(struct fake *fake, const struct dmu_request *req)
{
	assert_int_equal(dmu_fail(fake->dmu, req->id), 0);
	/* None of these may run inside themselves. */
	assert_int_equal(dmu_dispatch(fake->dmu), -EBUSY);
	assert_int_equal(dmu_run(fake->dmu), -EBUSY);
	assert_int_equal(dmu_handshake(fake->dmu, 1000), -EBUSY);
}

static void no_nesting(void **state)
{
	struct fake *fake = *state;
	struct dmui_msg msg;

	fake->on_map = fail_it;
	fake_request(fake, 1, 1, RD);
	assert_int_equal(dmu_dispatch(fake->dmu), 1);
	assert_int_equal(fake_receive(fake, &msg, 1), 1);
	fake_request(fake, 2, 1, RD);
	assert_int_equal(dmu_dispatch(fake->dmu), 1);
}

/* Stopped beforehand, it returns at once, but not without its answers. */
static void stop_before_run(void **state)
{
	struct fake *fake = *state;
	struct dmui_msg msg;

	fake_request(fake, 1, 1, RD);
	assert_int_equal(dmu_dispatch(fake->dmu), 1);
	assert_int_equal(dmu_fail(fake->dmu, 1), 0);
	dmu_stop(fake->dmu);
	dmu_stop(fake->dmu);
	assert_int_equal(dmu_run(fake->dmu), 0);
	assert_int_equal(fake_receive(fake, &msg, 1), 1);
	/* One run was stopped; the next is not, and ends for another reason. */
	fake_hang_up(fake);
	assert_int_equal(dmu_run(fake->dmu), 0);
	assert_non_null(strstr(fake->events, "gone "));
}

static void stop_on_map(struct fake *fake, const struct dmu_request *req)
{
	assert_int_equal(dmu_fail(fake->dmu, req->id), 0);
	dmu_stop(fake->dmu);
}

static void stop_in_callback(void **state)
{
	struct fake *fake = *state;
	struct dmui_msg msg;

	fake->on_map = stop_on_map;
	fake_request(fake, 1, 1, RD);
	fake_request(fake, 2, 2, RD);
	assert_int_equal(dmu_run(fake->dmu), 0);
	assert_string_equal(fake->events, "map:1:1:r batch ");
	assert_int_equal(fake_receive(fake, &msg, 1), 1);
	fake_nothing_came(fake);
}

static void run_until_gone(void **state)
{
	struct fake *fake = *state;

	fake_request(fake, 1, 1, RD);
	fake_request(fake, 2, 2, RD);
	fake_hang_up(fake);
	assert_int_equal(dmu_run(fake->dmu), 0);
	assert_string_equal(fake->events,
			    "map:1:1:r batch map:2:2:r batch gone ");
}

/* Even where there is no room for another stop. */
static void stop_keeps_errno(void **state)
{
	const uint64_t full = UINT64_MAX - 1;
	struct fake *fake = *state;

	assert_int_equal(write(fake->dmu->stop_fd, &full, sizeof(full)),
			 sizeof(full));
	errno = E2BIG;
	dmu_stop(fake->dmu);
	assert_int_equal(errno, E2BIG);
	assert_int_equal(dmu_run(fake->dmu), 0);
}

static struct dmu *to_stop;

static void handler(int signal)
{
	(void)signal;
	dmu_stop(to_stop);
}

static void *wait_and_signal(void *arg)
{
	struct fake *fake = arg;
	char buf[100];

	/* The answer says that dmu_run() is running. */
	recv(fake->kernel, buf, sizeof(buf), 0);
	raise(SIGUSR1);
	return NULL;
}

static void fail_first(struct fake *fake, const struct dmu_request *req)
{
	assert_int_equal(dmu_fail(fake->dmu, req->id), 0);
}

/* From a signal handler, and from another thread, while it polls. */
static void stop_while_running(void **state)
{
	struct fake *fake = *state;
	pthread_t thread;

	to_stop = fake->dmu;
	fake->on_map = fail_first;
	signal(SIGUSR1, handler);
	fake_request(fake, 1, 1, RD);
	assert_int_equal(pthread_create(&thread, NULL, wait_and_signal, fake),
			 0);
	assert_int_equal(dmu_run(fake->dmu), 0);
	assert_int_equal(pthread_join(thread, NULL), 0);
	assert_string_equal(fake->events, "map:1:1:r batch ");
}

static void bad_descriptor(void **state)
{
	struct fake *fake = *state;
	int saved = dup(dmu_fd(fake->dmu));

	close(dmu_fd(fake->dmu));
	assert_int_equal(dmu_dispatch(fake->dmu), -EBADF);
	assert_int_equal(dmu_run(fake->dmu), -EBADF);
	assert_non_null(strstr(dmu_strerror(fake->dmu), "read"));
	dup2(saved, dmu_fd(fake->dmu));
	close(saved);
}

#define with_fake(test) \
	cmocka_unit_test_setup_teardown(test, fake_setup, fake_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		with_fake(nothing_waits),
		with_fake(requests),
		with_fake(batch_is_a_read),
		cmocka_unit_test(optional_callbacks),
		with_fake(end_of_file),
		with_fake(no_nesting),
		with_fake(stop_before_run),
		with_fake(stop_in_callback),
		with_fake(run_until_gone),
		with_fake(stop_keeps_errno),
		with_fake(stop_while_running),
		with_fake(bad_descriptor),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
