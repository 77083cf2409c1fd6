// SPDX-License-Identifier: GPL-2.0-only
/*
 * Block devices, and files, which get a loop device, with direct I/O where that
 * works.
 *
 * Such a loop device goes away by itself with its last user: a table that has
 * been loaded, or, until then, our descriptor. There is nothing to undo.
 *
 * Two loop devices on one file know nothing of each other, and neither do the
 * daemons that use them: a store used twice would be destroyed. So a file is locked
 * (flock(2)) before anything else is done to it, and for as long as the loop device
 * is there, which holds the file that we have opened. Loop devices that others have
 * made are looked for then. A file that is only read may be used as often as one
 * likes.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/fs.h>
#include <linux/loop.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "dmuctl.h"

/* How often a file that others make and remove is looked at. */
#define TRIES		10

/* The loop driver may be a module that nobody has needed so far. */
static int loop_control(void)
{
	int fd = open("/dev/loop-control", O_RDWR | O_CLOEXEC);

	if (fd < 0)
		complain("/dev/loop-control: %s: is the loop driver there?",
			 strerror(errno));
	return fd;
}

/**
 * backing_open_direct() - open what is open, for reading past the page cache
 * @fd: of a file or device
 *
 * Return: a descriptor, or -1.
 */
int backing_open_direct(int fd)
{
	char path[32];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	return open(path, O_RDONLY | O_DIRECT | O_CLOEXEC);
}

/*
 * Does direct I/O work there, in sectors, as the loop device would do it? The file
 * system may say so and be wrong: overlayfs of Linux 6.1 does, where the file
 * beneath is on one that has none. Each read would fail then.
 */
static bool direct_io_works(int file)
{
	static char sector[512] __attribute__((aligned(4096)));
	int fd = backing_open_direct(file);
	bool works;

	if (fd < 0)
		return false;
	works = pread(fd, sector, sizeof(sector), 0) >= 0;
	close(fd);
	return works;
}

/* 0, 1 where somebody else took that one, or -1. */
static int loop_try(int control, int file, bool read_only, struct backing *b)
{
	struct loop_config config = {
		.fd = (unsigned int)file,
		.info.lo_flags = LO_FLAGS_AUTOCLEAR |
				 (direct_io_works(file) ? LO_FLAGS_DIRECT_IO : 0) |
				 (read_only ? LO_FLAGS_READ_ONLY : 0),
	};
	int nr = ioctl(control, LOOP_CTL_GET_FREE);
	char path[32];
	int r;

	if (nr < 0)
		return complain("no free loop device: %s", strerror(errno));
	snprintf(path, sizeof(path), "/dev/loop%d", nr);
	b->fd = open(path, (read_only ? O_RDONLY : O_RDWR) | O_CLOEXEC);
	if (b->fd < 0)
		return complain("%s: %s", path, strerror(errno));
	snprintf((char *)config.info.lo_file_name, LO_NAME_SIZE, "%s", b->path);
	r = ioctl(b->fd, LOOP_CONFIGURE, &config);
	if (!r)
		return 0;
	r = errno;
	close(b->fd);
	b->fd = -1;
	if (r == EBUSY)
		return 1;
	return complain("cannot attach %s to %s: %s", b->path, path,
			strerror(r));
}

/* Is this the file behind a loop device, and may it not be used beside that? */
static bool loop_clashes(int loop, const struct stat *file, bool read_only)
{
	struct loop_info64 info;

	return !ioctl(loop, LOOP_GET_STATUS64, &info) &&
	       info.lo_device == file->st_dev && info.lo_inode == file->st_ino &&
	       !(read_only && info.lo_flags & LO_FLAGS_READ_ONLY);
}

/* Complain of a loop device that uses the file already. */
static int check_unused(const char *path, int file, bool read_only)
{
	struct dirent *entry;
	char node[300];
	struct stat st;
	int fd, r = 0;
	DIR *dir;

	if (fstat(file, &st))
		return complain("%s: %s", path, strerror(errno));
	dir = opendir("/sys/block");
	while (dir && !r && (entry = readdir(dir))) {
		if (strncmp(entry->d_name, "loop", 4))
			continue;
		snprintf(node, sizeof(node), "/dev/%s", entry->d_name);
		fd = open(node, O_RDONLY | O_CLOEXEC);
		if (fd < 0)
			continue;
		if (loop_clashes(fd, &st, read_only))
			r = complain("%s is in use already, as %s", path, node);
		close(fd);
	}
	if (dir)
		closedir(dir);
	return r;
}

static int loop_attach(struct backing *b, int file, bool read_only)
{
	int control = loop_control();
	int r = -1;

	if (control < 0)
		return -1;
	do {
		r = loop_try(control, file, read_only, b);
	} while (r == 1);
	close(control);
	return r;
}

/* Is it still that file's path? */
static bool same_file(const char *path, int file)
{
	struct stat now, then;

	return !stat(path, &now) && !fstat(file, &then) &&
	       now.st_dev == then.st_dev && now.st_ino == then.st_ino;
}

/* 0, 1 where it is not its path's file any more, or -1. */
static int lock_file(const struct backing *b, bool read_only)
{
	/* Where a file system knows of no locks, nobody holds one. */
	if (flock(b->file, (read_only ? LOCK_SH : LOCK_EX) | LOCK_NB) &&
	    errno == EWOULDBLOCK)
		return check_unused(b->path, b->file, read_only) ? -1 :
		       complain("%s is in use already: another dmuctl, or some other program, has locked it",
				b->path);
	return same_file(b->path, b->file) ? 0 : 1;
}

static int open_once(struct backing *b, bool read_only, bool make)
{
	int flags = (read_only ? O_RDONLY : O_RDWR) | O_CLOEXEC;
	int r;

	b->file = open(b->path, flags);
	if (b->file < 0 && errno == ENOENT && make) {
		b->file = open(b->path, flags | O_CREAT | O_EXCL, 0600);
		b->made = b->file >= 0;
	}
	if (b->file < 0)
		return errno == EEXIST ? 1 :
		       complain("%s: %s", b->path, strerror(errno));
	r = lock_file(b, read_only);
	if (!r)
		return 0;
	/* Whoever was faster has it now, though we have made it. */
	close(b->file);
	b->file = -1;
	b->made = false;
	return r;
}

/* Get hold of a file that nobody else has. */
static int open_locked(struct backing *b, bool read_only, bool make)
{
	int tries = TRIES, r;

	do {
		r = open_once(b, read_only, make);
	} while (r == 1 && --tries);
	return r == 1 ? complain("%s comes and goes, or leads nowhere",
				 b->path) : r;
}

/* An empty file is one that somebody has just made, and given up. */
static int size_file(struct backing *b, uint64_t bytes)
{
	struct stat st;

	if (fstat(b->file, &st))
		return complain("%s: %s", b->path, strerror(errno));
	if (!bytes || st.st_size)
		return 0;
	b->sized = true;
	if (ftruncate(b->file, (off_t)bytes))
		return complain("%s: %s", b->path, strerror(errno));
	return 0;
}

static int open_file(struct backing *b, bool read_only, uint64_t create_bytes)
{
	if (open_locked(b, read_only, create_bytes) ||
	    size_file(b, create_bytes) ||
	    check_unused(b->path, b->file, read_only))
		return -1;
	return loop_attach(b, b->file, read_only);
}

static int open_device(struct backing *b, bool read_only)
{
	b->fd = open(b->path, (read_only ? O_RDONLY : O_RDWR) | O_CLOEXEC);
	if (b->fd < 0)
		return complain("%s: %s", b->path, strerror(errno));
	return 0;
}

static int describe(struct backing *b)
{
	struct stat st;

	if (fstat(b->fd, &st) || ioctl(b->fd, BLKGETSIZE64, &b->bytes))
		return complain("%s: %s", b->path, strerror(errno));
	b->dev = st.st_rdev;
	if (b->bytes < 512)
		return complain("%s is empty", b->path);
	return 0;
}

/**
 * backing_open() - get hold of a block device, or of a file as one
 * @b: gets it; to be closed with backing_close()
 * @path: of the device or file
 * @read_only: nothing will be written there
 * @create_bytes: a file that is not there, or is empty, gets this size, and is
 *	sparse; 0: it is left so
 *
 * Return: 0, or -1 after a sentence.
 */
int backing_open(struct backing *b, const char *path, bool read_only,
		 uint64_t create_bytes)
{
	struct stat st;
	int r;

	memset(b, 0, sizeof(*b));
	b->path = path;
	b->fd = -1;
	b->file = -1;
	if (stat(path, &st))
		st.st_mode = S_IFREG; /* open_file() says what is wrong */
	if (S_ISBLK(st.st_mode))
		r = open_device(b, read_only);
	else if (S_ISREG(st.st_mode))
		r = open_file(b, read_only, create_bytes);
	else
		r = complain("%s is neither a block device nor a file", path);
	if (!r)
		r = describe(b);
	if (r)
		backing_undo(b);
	return r;
}

/**
 * backing_undo() - whatever it was wanted for has failed
 * @b: closed; a file that was made for it is removed, one that was empty is so
 *	again
 */
void backing_undo(struct backing *b)
{
	/* Nobody else has it: it is still locked. */
	if (b->made && same_file(b->path, b->file))
		unlink(b->path);
	else if (b->sized && ftruncate(b->file, 0))
		complain("%s: %s", b->path, strerror(errno));
	backing_close(b);
}

/**
 * backing_close() - let go of a device
 * @b: of backing_open()
 */
void backing_close(struct backing *b)
{
	if (b->fd >= 0)
		close(b->fd);
	b->fd = -1;
	if (b->file >= 0)
		close(b->file);
	b->file = -1;
}

/* The first line of a file in sysfs. */
static bool read_line(const char *path, char *buf, size_t size)
{
	FILE *f = fopen(path, "re");
	bool ok = f && fgets(buf, (int)size, f);

	if (f)
		fclose(f);
	if (ok)
		buf[strcspn(buf, "\n")] = '\0';
	return ok;
}

/* The file behind a loop device. */
static bool loop_file(dev_t dev, char *buf, size_t size)
{
	char path[96];

	snprintf(path, sizeof(path), "/sys/dev/block/%u:%u/loop/backing_file",
		 major(dev), minor(dev));
	return read_line(path, buf, size);
}

static void node_path(dev_t dev, char *buf, size_t size)
{
	char link[64], target[256];
	ssize_t n;

	snprintf(link, sizeof(link), "/sys/dev/block/%u:%u", major(dev),
		 minor(dev));
	n = readlink(link, target, sizeof(target) - 1);
	target[n < 0 ? 0 : n] = '\0';
	snprintf(buf, size, "/dev/%s",
		 strrchr(target, '/') ? strrchr(target, '/') + 1 : "?");
}

/**
 * backing_name() - what a person would call a block device
 * @dev: its number
 * @buf: gets the path of the device, or of the file behind it
 * @size: bytes there
 */
void backing_name(dev_t dev, char *buf, size_t size)
{
	if (!loop_file(dev, buf, size))
		node_path(dev, buf, size);
}

/* Make the file behind a loop device larger, by what was its path. */
static int grow_file(int loop, const char *path, uint64_t bytes)
{
	int fd = open(path, O_RDWR | O_CLOEXEC);
	struct loop_info64 info;
	struct stat st;
	int r = 0;

	if (fd < 0 || fstat(fd, &st) || ioctl(loop, LOOP_GET_STATUS64, &info))
		r = complain("%s: %s", path, strerror(errno));
	else if (info.lo_device != st.st_dev || info.lo_inode != st.st_ino)
		r = complain("%s is another file here than the one in use, as where something is mounted over that: make that one larger where it can be seen, then leave out --size",
			     path);
	else if ((uint64_t)st.st_size > bytes)
		r = complain("%s has %jd bytes already, and is not made smaller",
			     path, (intmax_t)st.st_size);
	else if (ftruncate(fd, (off_t)bytes))
		r = complain("%s: %s", path, strerror(errno));
	if (fd >= 0)
		close(fd);
	return r;
}

/**
 * backing_grow() - let a device have the size that is behind it
 * @dev: its number
 * @name: of the mapped device, for messages
 * @bytes: make the file behind it this large first; 0: leave it
 *
 * Return: 0, or -1 after a sentence.
 */
int backing_grow(dev_t dev, const char *name, uint64_t bytes)
{
	char file[4096], node[300];
	int fd, r = 0;

	if (!loop_file(dev, file, sizeof(file))) {
		if (!bytes)
			return 0;
		node_path(dev, node, sizeof(node));
		return complain("the store of %s is the device %s, not a file: make it larger by its own means, then leave out --size",
				name, node);
	}
	node_path(dev, node, sizeof(node));
	fd = open(node, O_RDWR | O_CLOEXEC);
	if (fd < 0)
		return complain("%s: %s", node, strerror(errno));
	if (bytes)
		r = grow_file(fd, file, bytes);
	if (!r && ioctl(fd, LOOP_SET_CAPACITY))
		r = complain("%s: %s", node, strerror(errno));
	close(fd);
	return r;
}
