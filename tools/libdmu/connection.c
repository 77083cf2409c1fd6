// SPDX-License-Identifier: LGPL-2.1-or-later
/* A connection's life, and what may be asked of it. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "internal.h"

#define SECTOR_SHIFT 9
#define BLOCK_SIZE_MAX (1u << 30)

/* Requests in flight that are remembered without growing: 1 << this / 2. */
#define REQUEST_BITS 12
#define INVALIDATION_BITS 6

/* The sentence about a connection that never came to be. */
static _Thread_local char open_error[sizeof(((struct dmu *)0)->error)];

/**
 * dmui_error() - leave a sentence for dmu_strerror()
 * @dmu: about which connection; NULL: about opening one
 * @err: a negative errno
 * @fmt: as of printf(); no full stop, no newline
 *
 * Return: @err, so that callers can return it.
 */
int dmui_error(struct dmu *dmu, int err, const char *fmt, ...)
{
	char *error = dmu ? dmu->error : open_error;
	va_list args;

	va_start(args, fmt);
	vsnprintf(error, sizeof(open_error), fmt, args);
	va_end(args);
	return err;
}

/**
 * dmui_check_geometry() - whether a mapped device can have this shape
 * @geo: to be looked at
 *
 * Return: 0, or -EINVAL and a sentence about opening.
 */
int dmui_check_geometry(const struct dmu_geometry *geo)
{
	uint32_t size = geo->block_size;

	if (size < 1u << SECTOR_SHIFT || size > BLOCK_SIZE_MAX ||
	    size & (size - 1))
		return dmui_error(NULL, -EINVAL,
				  "a block cannot have %u bytes", size);
	if (!geo->sectors)
		return dmui_error(NULL, -EINVAL, "the mapped device is empty");
	if (!geo->nr_devices)
		return dmui_error(NULL, -EINVAL, "the table names no device");
	return 0;
}

/**
 * dmui_set_geometry() - give a connection a copy of a geometry
 * @dmu: takes the place of what it had
 * @geo: one that dmui_check_geometry() likes; stays the caller's
 *
 * Return: 0 or -ENOMEM.
 */
int dmui_set_geometry(struct dmu *dmu, const struct dmu_geometry *geo)
{
	size_t size = geo->nr_devices * sizeof(*geo->devices);
	dev_t *devices = malloc(size);

	if (!devices)
		return -ENOMEM;
	memcpy(devices, geo->devices, size);
	free(dmu->geo.devices);
	dmu->geo = *geo;
	dmu->geo.devices = devices;
	dmu->block_shift = __builtin_ctz(geo->block_size) - SECTOR_SHIFT;
	return 0;
}

/* All of a connection but the descriptor that the caller brought. */
static struct dmu *new_connection(const struct dmu_geometry *geo,
				  const struct dmu_ops *ops, void *ctx)
{
	struct dmu *dmu = calloc(1, sizeof(*dmu));

	if (!dmu)
		return NULL;
	dmu->fd = -1;
	dmu->ops = *ops;
	dmu->ctx = ctx;
	dmu->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (dmu->stop_fd < 0 || dmui_set_geometry(dmu, geo) ||
	    dmui_idmap_init(&dmu->requests, REQUEST_BITS) ||
	    dmui_idmap_init(&dmu->invalidations, INVALIDATION_BITS)) {
		dmu_close(dmu);
		return NULL;
	}
	return dmu;
}

static int set_nonblocking(int fd)
{
	int flags = fcntl(fd, F_GETFL);

	if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0)
		return -errno;
	return 0;
}

/**
 * dmu_open_fd() - serve a control device that is open already
 * @fd: opened for reading and writing. From success on it belongs to the
 *	connection, which closes it; after a failure it is still the caller's.
 *	O_NONBLOCK is set on it
 * @geo: the shape of the mapped device; copied
 * @ops: what to do with requests; copied
 * @ctx: handed to every callback
 * @dmu: where the connection goes; unchanged on failure
 *
 * The kernel is asked for its version at once; see dmu_handshake() for the
 * answer. No callback comes before dmu_handshake(), dmu_dispatch() or
 * dmu_run(): requests wait in the kernel until then, and the table's
 * request_timeout has not begun.
 *
 * Return: 0; -EINVAL: @ops has no map, or @geo is no possible shape; -ENOMEM;
 * or what fcntl() and write() say of @fd. dmu_strerror(NULL) has the sentence.
 */
int dmu_open_fd(int fd, const struct dmu_geometry *geo,
		const struct dmu_ops *ops, void *ctx, struct dmu **dmu)
{
	struct dmu *new;
	int err;

	if (!ops->map)
		return dmui_error(NULL, -EINVAL, "dmu_ops.map is missing");
	err = dmui_check_geometry(geo);
	if (err)
		return err;
	err = set_nonblocking(fd);
	if (err)
		return dmui_error(NULL, err, "file descriptor %d: %s", fd,
				  strerror(-err));
	new = new_connection(geo, ops, ctx);
	if (!new)
		return dmui_error(NULL, -ENOMEM, "no memory for a connection");
	new->fd = fd;
	err = dmui_send_version(new);
	if (err) {
		dmui_error(NULL, err, "%s", new->error);
		new->fd = -1;
		dmu_close(new);
		return err;
	}
	*dmu = new;
	return 0;
}

/**
 * dmu_close() - end a connection
 * @dmu: may be NULL. Not from inside a callback
 *
 * Closes the control device and frees everything. What was gathered and not
 * written is dropped (dmu_flush() first, after answers from outside a
 * callback). Nothing is lost: the kernel keeps what was not answered, or not
 * acknowledged, for the next daemon.
 */
void dmu_close(struct dmu *dmu)
{
	if (!dmu)
		return;
	if (dmu->fd >= 0)
		close(dmu->fd);
	if (dmu->stop_fd >= 0)
		close(dmu->stop_fd);
	dmui_idmap_destroy(&dmu->requests);
	dmui_idmap_destroy(&dmu->invalidations);
	free(dmu->geo.devices);
	free(dmu->key);
	free(dmu);
}

/**
 * dmu_key() - the key of the tables that are served
 * @dmu: the connection
 *
 * Return: a string that lives as long as the connection; "" where that was
 * opened with dmu_open_fd().
 */
const char *dmu_key(const struct dmu *dmu)
{
	return dmu->key ? dmu->key : "";
}

/**
 * dmu_block_size() - how large a block is
 * @dmu: the connection
 *
 * Return: bytes; a power of two that never changes.
 */
uint32_t dmu_block_size(const struct dmu *dmu)
{
	return dmu->geo.block_size;
}

/**
 * dmu_sectors() - how large the mapped device is
 * @dmu: the connection
 *
 * Return: sectors of 512 bytes, as of opening or the last dmu_refresh().
 */
uint64_t dmu_sectors(const struct dmu *dmu)
{
	return dmu->geo.sectors;
}

/**
 * dmu_blocks() - how many blocks the mapped device has
 * @dmu: the connection
 *
 * Return: dmu_sectors() in blocks; a short last block counts as one.
 */
uint64_t dmu_blocks(const struct dmu *dmu)
{
	return ((dmu->geo.sectors - 1) >> dmu->block_shift) + 1;
}

/**
 * dmu_nr_devices() - how many devices the table names
 * @dmu: the connection
 *
 * Return: at least 1, as of opening or the last dmu_refresh().
 */
unsigned int dmu_nr_devices(const struct dmu *dmu)
{
	return dmu->geo.nr_devices;
}

/**
 * dmu_device() - a device that the table names
 * @dmu: the connection
 * @n: its place in the table, counted from 0
 *
 * Return: its number, or 0 where the table names fewer devices.
 */
dev_t dmu_device(const struct dmu *dmu, unsigned int n)
{
	return n < dmu->geo.nr_devices ? dmu->geo.devices[n] : 0;
}

/**
 * dmu_device_sectors() - the present size of a device that the table names
 * @dmu: the connection
 * @n: its place in the table, counted from 0
 * @sectors: where the size goes, in sectors of 512 bytes
 *
 * Reads sysfs: for opening and growing, not for every request.
 *
 * Return: 0; -ENXIO: the table names fewer devices; -EIO: sysfs does not know
 * a size.
 */
int dmu_device_sectors(struct dmu *dmu, unsigned int n, uint64_t *sectors)
{
	dev_t dev = dmu_device(dmu, n);
	unsigned long long value;
	char path[64];
	FILE *file;
	int found;

	if (!dev)
		return dmui_error(dmu, -ENXIO,
				  "the table names no device %u", n);
	snprintf(path, sizeof(path), "/sys/dev/block/%u:%u/size",
		 major(dev), minor(dev));
	file = fopen(path, "re");
	if (!file)
		return dmui_error(dmu, -EIO, "%s: %s", path, strerror(errno));
	found = fscanf(file, "%llu", &value);
	fclose(file);
	if (found != 1)
		return dmui_error(dmu, -EIO, "%s does not hold a size", path);
	*sectors = value;
	return 0;
}

/**
 * dmu_kernel_version() - the version of the kernel's target
 * @dmu: the connection
 *
 * Return: major << 16 | minor << 8 | patch; 0 until the kernel has told it,
 * for which dmu_handshake() waits.
 */
uint32_t dmu_kernel_version(const struct dmu *dmu)
{
	return dmu->kernel_version;
}

/**
 * dmu_has_runs() - does the kernel take runs of blocks in one message?
 * @dmu: the connection
 *
 * And so DMU_MAP_ZERO, and DMU_MAP_COPY_FROM; those from 1.2 on do.
 *
 * Return: false also while the kernel has not told yet, for which dmu_handshake()
 * waits.
 */
bool dmu_has_runs(const struct dmu *dmu)
{
	return dmu->extensions & DMU_EXT_RUNS;
}

/**
 * dmu_counters() - what has passed since the connection was opened
 * @dmu: the connection
 * @counters: where they go
 */
void dmu_counters(const struct dmu *dmu, struct dmu_counters *counters)
{
	*counters = dmu->counters;
}

/**
 * dmu_strerror() - the sentence about the most recent failure
 * @dmu: the connection; NULL: about the last dmu_open() or dmu_open_fd() of
 *	this thread
 *
 * Return: a string without full stop or newline, "" where nothing has failed;
 * good until the next failure.
 */
const char *dmu_strerror(const struct dmu *dmu)
{
	return dmu ? dmu->error : open_error;
}

/**
 * dmu_fd() - what to poll in a loop of one's own
 * @dmu: the connection
 *
 * Poll it for dmu_events(); call dmu_dispatch() whatever poll() finds,
 * POLLHUP and POLLERR included.
 *
 * Return: a file descriptor that stays the connection's.
 */
int dmu_fd(const struct dmu *dmu)
{
	return dmu->fd;
}

/**
 * dmu_events() - what to poll dmu_fd() for
 * @dmu: the connection
 *
 * For after a dmu_flush(): a control device takes everything at once, and never
 * says that it could.
 *
 * Return: POLLIN, and POLLOUT too while something waits to be written.
 */
short dmu_events(const struct dmu *dmu)
{
	return dmu->out_end > dmu->out_start ? POLLIN | POLLOUT : POLLIN;
}
