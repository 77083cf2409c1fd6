// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * The on-disk format of a cow store: see format.h and
 * Documentation/cow-format.rst.
 */
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include <zlib.h>

#include "format.h"

#define SUPER_COPIES	2u
#define SUPER_CLEAN	1u /* the one flag of version 1 */

/* What the origin is known by: so much of both its ends; which way, and a CRC-32. */
#define MARK_BYTES	65536u
#define MARK_ENDS	1u

#define PAGE_MAGIC	0x31504443u /* "CDP1" */

static const uint8_t super_magic[16] = "dm-userspace cow"; /* no final NUL */

/* A superblock as it is on disk; integers are little-endian. */
struct disk_super {
	uint8_t magic[16];
	uint32_t version;
	uint32_t crc; /* CRC-32 of the slot with this field zero */
	uint64_t generation;
	uint8_t uuid[16];
	uint32_t block_size;
	uint32_t flags;
	uint64_t origin_sectors;
	uint64_t mapped_sectors;
	uint64_t created;
	uint64_t zones;
	uint64_t cursor;
	uint64_t entries;
	uint64_t commit;
	uint64_t origin_mark;
	uint8_t reserved[COW_SLOT_SIZE - 120];
};

_Static_assert(sizeof(struct disk_super) == COW_SLOT_SIZE, "super layout");

enum super_state {
	SUPER_NONE,
	SUPER_BAD,
	SUPER_UNKNOWN, /* intact, but not of a kind this program knows */
	SUPER_GOOD,
};

/* What else may be at the head of a store, so that a refusal can name it. */
static const struct signature {
	const char *name;
	size_t offset;
	size_t len;
	const char *bytes;
} signatures[] = {
	{ "ext2, ext3 or ext4", 1080, 2, "\x53\xef" },
	{ "XFS", 0, 4, "XFSB" },
	{ "btrfs", 65600, 8, "_BHRfS_M" },
	{ "LUKS", 0, 6, "LUKS\xba\xbe" },
	{ "an LVM physical volume", 512, 8, "LABELONE" },
	{ "swap", 4086, 10, "SWAPSPACE2" },
	{ "an md RAID member", 4096, 4, "\xfc\x4e\x2b\xa9" },
	{ "a dm-snapshot store", 0, 4, "SnAp" },
	{ "a qcow2 image", 0, 4, "QFI\xfb" },
	{ "a partition table", 510, 2, "\x55\xaa" },
};

/**
 * cow_error() - leave a sentence for whoever asked
 * @err: COW_ERROR_SIZE bytes
 * @fmt: printf format
 */
void cow_error(char *err, const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	vsnprintf(err, COW_ERROR_SIZE, fmt, args);
	va_end(args);
}

/**
 * cow_pread() - read all of a range
 * @fd: the store
 * @buf: aligned as O_DIRECT asks
 * @len: bytes
 * @offset: bytes
 * Return: 0; -EIO where the store ends before the range does; -errno
 */
int cow_pread(int fd, void *buf, size_t len, uint64_t offset)
{
	size_t done = 0;

	while (done < len) {
		ssize_t n = pread(fd, (char *)buf + done, len - done,
				  (off_t)(offset + done));

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n ? -errno : -EIO;
		done += (size_t)n;
	}
	return 0;
}

#define READ_TRIES 3 /* before a slot is given up for good */

static int read_slot(int fd, void *slot, uint64_t offset)
{
	unsigned int tries = READ_TRIES;
	int ret;

	do {
		ret = cow_pread(fd, slot, COW_SLOT_SIZE, offset);
	} while (ret && --tries);
	return ret;
}

/* Is it the disk's fault, and not that of memory, or of the way there? */
static bool is_medium_error(int err)
{
	return err == -EIO || err == -ENODATA || err == -EILSEQ;
}

/**
 * cow_pread_slots() - read all of a range that can be read
 * @fd: the store
 * @buf: aligned as O_DIRECT asks
 * @len: bytes, a multiple of COW_SLOT_SIZE
 * @offset: bytes
 *
 * A write that was cut off can leave a sector that cannot even be read: the
 * slot it is in reads as all ones, which is no valid slot and not blank.
 *
 * Return: 0; -errno where not one slot can be read, or something else is wrong than the
 *	disk
 */
int cow_pread_slots(int fd, void *buf, size_t len, uint64_t offset)
{
	int ret = cow_pread(fd, buf, len, offset);
	bool any = false;
	size_t i;

	if (!ret)
		return 0;
	for (i = 0; i < len; i += COW_SLOT_SIZE) {
		char *slot = (char *)buf + i;

		ret = read_slot(fd, slot, offset + i);
		if (!ret)
			any = true;
		else if (is_medium_error(ret))
			memset(slot, 0xff, COW_SLOT_SIZE);
		else
			return ret;
	}
	return any ? 0 : -EIO;
}

/**
 * cow_pwrite() - write all of a range
 * @fd: the store
 * @buf: aligned as O_DIRECT asks
 * @len: bytes
 * @offset: bytes
 * Return: 0 or -errno; after an error the range may hold anything
 */
int cow_pwrite(int fd, const void *buf, size_t len, uint64_t offset)
{
	size_t done = 0;

	while (done < len) {
		ssize_t n = pwrite(fd, (const char *)buf + done, len - done,
				   (off_t)(offset + done));

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n ? -errno : -EIO;
		done += (size_t)n;
	}
	return 0;
}

/**
 * cow_store_size() - size of a store
 * @fd: a block device, or a regular file standing in for one
 * @bytes: set
 * Return: 0, -ENOTBLK or -errno
 */
int cow_store_size(int fd, uint64_t *bytes)
{
	struct stat st;

	if (fstat(fd, &st))
		return -errno;
	if (S_ISREG(st.st_mode)) {
		*bytes = (uint64_t)st.st_size;
		return 0;
	}
	if (!S_ISBLK(st.st_mode))
		return -ENOTBLK;
	return ioctl(fd, BLKGETSIZE64, bytes) ? -errno : 0;
}

/**
 * cow_store_lock() - be the only one who writes to a store
 * @fd: the store, opened for writing; the lock lasts as long as it is open
 * @err: COW_ERROR_SIZE bytes
 *
 * Not flock(): udev takes that one on block devices for its own purposes.
 *
 * Return: 0, -EBUSY or -errno
 */
int cow_store_lock(int fd, char *err)
{
	struct flock lock = {
		.l_type = F_WRLCK,
		.l_whence = SEEK_SET,
		.l_len = COW_SLOT_SIZE,
	};

	int ret;

	if (!fcntl(fd, F_OFD_SETLK, &lock))
		return 0;
	ret = errno == EAGAIN || errno == EACCES ? -EBUSY : -errno;
	if (ret == -EBUSY)
		cow_error(err, "is in use by another process");
	else
		cow_error(err, "cannot be locked: %s", strerror(-ret));
	return ret;
}

static int read_ends(int fd, uint64_t bytes, uint8_t *buf, uint32_t *sum)
{
	uint64_t first = bytes < MARK_BYTES ? bytes : MARK_BYTES;
	uint64_t last = (bytes - first) / COW_SLOT_SIZE * COW_SLOT_SIZE;
	int ret = cow_pread(fd, buf, first, 0);
	uLong crc;

	if (ret)
		return ret;
	crc = crc32_z(0, buf, first);
	ret = cow_pread(fd, buf, bytes - last, last);
	*sum = (uint32_t)crc32_z(crc, buf, bytes - last);
	return ret;
}

/**
 * cow_origin_mark() - what an origin is to be known by
 * @fd: open for reading, with or without O_DIRECT
 * @sectors: its size
 * @mark: set; never 0
 *
 * Another disk of the same size differs in its partition table or its superblock,
 * and so does a file system that was mounted for writing meanwhile.
 *
 * Return: 0 or -errno
 */
int cow_origin_mark(int fd, uint64_t sectors, uint64_t *mark)
{
	uint8_t *buf = aligned_alloc(COW_SLOT_SIZE, MARK_BYTES + COW_SLOT_SIZE);
	uint32_t sum;
	int ret;

	if (!buf)
		return -ENOMEM;
	ret = read_ends(fd, sectors * 512, buf, &sum);
	if (!ret)
		*mark = (uint64_t)MARK_ENDS << 32 | sum;
	free(buf);
	return ret;
}

/**
 * cow_origin_differs() - do two marks tell of different origins?
 * @mark: one of them; 0: not known
 * @other: the other one
 *
 * Marks that were made in a way which this program does not know tell nothing.
 */
bool cow_origin_differs(uint64_t mark, uint64_t other)
{
	return mark >> 32 == MARK_ENDS && other >> 32 == MARK_ENDS &&
	       mark != other;
}

/**
 * cow_geometry_blocks() - blocks of the mapped device, a short last one too
 * @geo: of the store
 */
uint64_t cow_geometry_blocks(const struct cow_geometry *geo)
{
	uint64_t sectors = geo->block_size / 512;

	return geo->mapped_sectors / sectors +
	       (geo->mapped_sectors % sectors != 0);
}

static uint64_t zone_stride(uint32_t block_size)
{
	return COW_ZONE_META_SIZE + (uint64_t)COW_ZONE_PLACES * block_size;
}

/**
 * cow_places() - how many blocks a store has room for
 * @store_bytes: its size
 * @block_size: bytes
 *
 * The last zone may be cut off anywhere: its pages are all there, and name
 * fewer places.
 */
uint64_t cow_places(uint64_t store_bytes, uint32_t block_size)
{
	uint64_t stride = zone_stride(block_size), places, tail;

	if (store_bytes < COW_HEAD_SIZE)
		return 0;
	store_bytes -= COW_HEAD_SIZE;
	places = store_bytes / stride * COW_ZONE_PLACES;
	tail = store_bytes % stride;
	if (tail > COW_ZONE_META_SIZE)
		places += (tail - COW_ZONE_META_SIZE) / block_size;
	return places < COW_MAX_PLACES ? places : COW_MAX_PLACES;
}

/**
 * cow_zone_offset() - where a zone begins, with its pages
 * @zone: counted from 0
 * @block_size: bytes
 * Return: bytes; a multiple of 1 MiB whatever the block size
 */
uint64_t cow_zone_offset(uint64_t zone, uint32_t block_size)
{
	return COW_HEAD_SIZE + zone * zone_stride(block_size);
}

/**
 * cow_slot_offset() - where one of the two slots of a page is
 * @page: counted over all zones
 * @slot: 0 or 1
 * @block_size: bytes
 * Return: bytes
 */
uint64_t cow_slot_offset(uint64_t page, unsigned int slot, uint32_t block_size)
{
	return cow_zone_offset(page / COW_ZONE_PAGES, block_size) +
	       slot * COW_PAGE_DISTANCE +
	       page % COW_ZONE_PAGES * COW_SLOT_SIZE;
}

/**
 * cow_place_offset() - where the data of a place is
 * @place: counted over all zones
 * @block_size: bytes
 * Return: bytes; a multiple of the block size, or of 1 MiB where that is less
 */
uint64_t cow_place_offset(uint64_t place, uint32_t block_size)
{
	return cow_zone_offset(place / COW_ZONE_PLACES, block_size) +
	       COW_ZONE_META_SIZE + place % COW_ZONE_PLACES * block_size;
}

/* CRC-32 of a slot whose crc field, at @crc_offset, counts as zero. */
static uint32_t slot_crc(const void *slot, size_t crc_offset)
{
	static const uint8_t zero[4];
	const uint8_t *p = slot;
	size_t rest = crc_offset + sizeof(zero);
	uLong crc = crc32_z(0, p, crc_offset);

	crc = crc32_z(crc, zero, sizeof(zero));
	return (uint32_t)crc32_z(crc, p + rest, COW_SLOT_SIZE - rest);
}

static bool geometry_sane(const struct cow_geometry *geo)
{
	uint32_t size = geo->block_size;

	return size >= COW_MIN_BLOCK_SIZE && size <= COW_MAX_BLOCK_SIZE &&
	       !(size & (size - 1)) && geo->mapped_sectors &&
	       geo->mapped_sectors <= geo->origin_sectors;
}

static enum super_state super_decode(const void *slot, struct cow_super *sb)
{
	struct disk_super d;

	memcpy(&d, slot, sizeof(d));
	if (memcmp(d.magic, super_magic, sizeof(d.magic)))
		return SUPER_NONE;
	if (le32toh(d.crc) != slot_crc(&d, offsetof(struct disk_super, crc)))
		return SUPER_BAD;
	if (le32toh(d.version) != COW_VERSION ||
	    le32toh(d.flags) & ~SUPER_CLEAN)
		return SUPER_UNKNOWN;

	*sb = (struct cow_super) {
		.geo.block_size = le32toh(d.block_size),
		.geo.origin_sectors = le64toh(d.origin_sectors),
		.geo.mapped_sectors = le64toh(d.mapped_sectors),
		.geo.origin_mark = le64toh(d.origin_mark),
		.generation = le64toh(d.generation),
		.created = le64toh(d.created),
		.zones = le64toh(d.zones),
		.cursor = le64toh(d.cursor),
		.entries = le64toh(d.entries),
		.commit = le64toh(d.commit),
		.clean = le32toh(d.flags) & SUPER_CLEAN,
	};
	memcpy(sb->uuid, d.uuid, sizeof(sb->uuid));
	return geometry_sane(&sb->geo) ? SUPER_GOOD : SUPER_BAD;
}

static void super_encode(const struct cow_super *sb, void *slot)
{
	struct disk_super d = {
		.version = htole32(COW_VERSION),
		.generation = htole64(sb->generation),
		.block_size = htole32(sb->geo.block_size),
		.flags = htole32(sb->clean ? SUPER_CLEAN : 0),
		.origin_sectors = htole64(sb->geo.origin_sectors),
		.mapped_sectors = htole64(sb->geo.mapped_sectors),
		.created = htole64(sb->created),
		.zones = htole64(sb->zones),
		.cursor = htole64(sb->cursor),
		.entries = htole64(sb->entries),
		.commit = htole64(sb->commit),
		.origin_mark = htole64(sb->geo.origin_mark),
	};

	memcpy(d.magic, super_magic, sizeof(d.magic));
	memcpy(d.uuid, sb->uuid, sizeof(d.uuid));
	d.crc = htole32(slot_crc(&d, offsetof(struct disk_super, crc)));
	memcpy(slot, &d, sizeof(d));
}

/**
 * cow_super_write() - replace both copies of the superblock, durably
 * @fd: the store
 * @sb: what to write; the caller has raised its generation. Knows afterwards, also
 *	after an error, which copy is whole
 * @slot: room for one slot, aligned as O_DIRECT asks
 * @unflushed: set where it was a flush that failed: then nothing that was
 *	written before, and not flushed yet, can be relied upon
 *
 * One copy after the other, each durable before the next begins, and first the one
 * that may be bad: at any moment one of them is whole, and after a success both say
 * the same, so that losing either later loses nothing.
 *
 * Return: 0 or -errno
 */
int cow_super_write(int fd, struct cow_super *sb, void *slot, bool *unflushed)
{
	unsigned int copy, i;
	int ret;

	super_encode(sb, slot);
	for (i = 0; i < SUPER_COPIES; i++) {
		copy = !sb->whole;
		ret = cow_pwrite(fd, slot, COW_SLOT_SIZE,
				 copy * COW_SUPER_DISTANCE);
		if (ret)
			return ret;
		if (fdatasync(fd)) {
			*unflushed = true;
			return -errno;
		}
		sb->whole = copy;
	}
	return 0;
}

/**
 * cow_page_valid() - is this slot whole, and this page of this store?
 * @page: the slot
 * @uuid: of the store
 * @index: page that should be here
 */
bool cow_page_valid(const struct cow_disk_page *page, const uint8_t *uuid,
		    uint64_t index)
{
	size_t crc = offsetof(struct cow_disk_page, crc);

	return le32toh(page->magic) == PAGE_MAGIC &&
	       !memcmp(page->uuid, uuid, sizeof(page->uuid)) &&
	       le64toh(page->index) == index &&
	       le32toh(page->used) <= COW_PAGE_ENTRIES &&
	       le32toh(page->added) <= le32toh(page->used) &&
	       le32toh(page->crc) == slot_crc(page, crc);
}

/**
 * cow_page_seal() - make a slot valid
 * @page: its commit, before, used, added and block are set
 * @uuid: of the store
 * @index: which page this is
 */
void cow_page_seal(struct cow_disk_page *page, const uint8_t *uuid,
		   uint64_t index)
{
	size_t crc = offsetof(struct cow_disk_page, crc);

	page->magic = htole32(PAGE_MAGIC);
	page->index = htole64(index);
	memcpy(page->uuid, uuid, sizeof(page->uuid));
	memset(page->reserved, 0, sizeof(page->reserved));
	page->crc = htole32(slot_crc(page, crc));
}

static const char *foreign_name(const uint8_t *head)
{
	const struct signature *s = signatures;
	const struct signature *end = s + sizeof(signatures) / sizeof(*s);

	for (; s < end; s++)
		if (!memcmp(head + s->offset, s->bytes, s->len))
			return s->name;
	return NULL;
}

static bool all_zero(const uint8_t *p, size_t len)
{
	return !p[0] && !memcmp(p, p + 1, len - 1);
}

/* Neither superblock is there: who else lives here? */
static int probe_other(int fd, uint64_t size, uint8_t *head, char *err)
{
	const char *name = foreign_name(head);
	int ret;

	if (all_zero(head, COW_HEAD_SIZE))
		return COW_BLANK;
	if (name) {
		cow_error(err, "holds something that is not a cow store (it looks like %s)",
			  name);
		return COW_FOREIGN;
	}
	cow_error(err, "holds something that is not a cow store");
	if (size < COW_HEAD_SIZE + COW_SLOT_SIZE)
		return COW_FOREIGN;
	ret = cow_pread(fd, head, COW_SLOT_SIZE, COW_HEAD_SIZE);
	if (ret) {
		cow_error(err, "cannot be read: %s", strerror(-ret));
		return ret;
	}
	if (le32toh(((struct cow_disk_page *)head)->magic) != PAGE_MAGIC)
		return COW_FOREIGN;
	cow_error(err, "is a cow store that has lost both its superblocks");
	return COW_UNUSABLE;
}

/* Both superblocks were read: which one counts? */
static int probe_supers(const uint8_t *head, const enum super_state *state,
			const struct cow_super *copy, struct cow_super *sb,
			char *err)
{
	bool both = state[0] == SUPER_GOOD && state[1] == SUPER_GOOD;
	unsigned int whole = state[1] == SUPER_GOOD;

	if (state[0] == SUPER_UNKNOWN || state[1] == SUPER_UNKNOWN) {
		cow_error(err, "is a cow store of a newer format; this program knows version %u",
			  COW_VERSION);
		return COW_UNUSABLE;
	}
	if (state[0] != SUPER_GOOD && state[1] != SUPER_GOOD) {
		cow_error(err, "is a cow store, but both its superblocks are damaged, or its formatting was interrupted");
		return COW_UNUSABLE;
	}
	if (both && memcmp(copy[0].uuid, copy[1].uuid, sizeof(sb->uuid))) {
		cow_error(err, "has superblocks of two different cow stores");
		return COW_UNUSABLE;
	}
	if (both)
		whole = copy[1].generation > copy[0].generation;
	*sb = copy[whole];
	sb->whole = whole;
	sb->lopsided = memcmp(head, head + COW_SUPER_DISTANCE, COW_SLOT_SIZE);
	return COW_STORE;
}

/* Can this device be a store at all? */
static int check_device(int fd, uint64_t *size, char *err)
{
	int logical = 512;
	int ret = cow_store_size(fd, size);

	if (ret) {
		cow_error(err, "has no size: %s", strerror(-ret));
		return ret;
	}
	if (*size < COW_HEAD_SIZE) {
		cow_error(err, "is too small for a cow store: %ju bytes",
			  (uintmax_t)*size);
		return -ENOSPC;
	}
	/* A regular file has no logical block size, and needs none. */
	if (ioctl(fd, BLKSSZGET, &logical))
		logical = 512;
	if (logical > (int)COW_SLOT_SIZE) {
		cow_error(err, "has logical blocks of %d bytes; a cow store can do with %u at most",
			  logical, COW_SLOT_SIZE);
		return -EINVAL;
	}
	return 0;
}

static int probe(int fd, uint8_t *head, struct cow_super *sb, char *err)
{
	struct cow_super copy[SUPER_COPIES];
	enum super_state state[SUPER_COPIES];
	uint64_t size;
	unsigned int i;
	int ret = check_device(fd, &size, err);

	if (ret)
		return ret;
	ret = cow_pread_slots(fd, head, COW_HEAD_SIZE, 0);
	if (ret) {
		cow_error(err, "cannot be read: %s", strerror(-ret));
		return ret;
	}
	for (i = 0; i < SUPER_COPIES; i++)
		state[i] = super_decode(head + i * COW_SUPER_DISTANCE,
					&copy[i]);
	if (state[0] == SUPER_NONE && state[1] == SUPER_NONE)
		return probe_other(fd, size, head, err);
	return probe_supers(head, state, copy, sb, err);
}

/**
 * cow_store_probe() - what does a device hold?
 * @fd: open for reading, with or without O_DIRECT
 * @sb: set where the answer is COW_STORE
 * @err: COW_ERROR_SIZE bytes: for other answers, but COW_BLANK, what is there
 * Return: enum cow_content, or -errno: -ENOSPC where it is too small for any
 *	store
 */
int cow_store_probe(int fd, struct cow_super *sb, char *err)
{
	uint8_t *head = aligned_alloc(COW_SLOT_SIZE, COW_HEAD_SIZE);
	int ret;

	if (!head) {
		cow_error(err, "cannot be probed: out of memory");
		return -ENOMEM;
	}
	ret = probe(fd, head, sb, err);
	free(head);
	return ret;
}

static int format_head(int fd, struct cow_super *sb, uint8_t *head)
{
	bool unflushed;
	int ret;

	/*
	 * What was there goes first, and durably: a crash half-way must not
	 * leave an older superblock that reads as the store's own.
	 */
	memset(head, 0, COW_HEAD_SIZE);
	ret = cow_pwrite(fd, head, COW_HEAD_SIZE, 0);
	if (!ret && fdatasync(fd))
		ret = -errno;
	return ret ? ret : cow_super_write(fd, sb, head, &unflushed);
}

/**
 * cow_store_format() - make an empty cow store, whatever was there
 * @fd: open for writing, with or without O_DIRECT, locked by the caller
 * @geo: what it is for
 * @err: COW_ERROR_SIZE bytes
 *
 * Writes the first COW_HEAD_SIZE bytes. Pages are written as zones come into
 * use; older ones beyond are told apart by the uuid.
 *
 * Return: 0, -EINVAL (a block size or sizes that cannot be), -ENOSPC (no room
 *	for a single block) or -errno
 */
int cow_store_format(int fd, const struct cow_geometry *geo, char *err)
{
	struct cow_super sb = {
		.geo = *geo,
		.generation = 1,
		.created = (uint64_t)time(NULL),
		.clean = true,
	};
	uint64_t size;
	uint8_t *head;
	int ret;

	if (!geometry_sane(geo)) {
		cow_error(err, "cannot be formatted for blocks of %u bytes, an origin of %ju and a device of %ju sectors",
			  geo->block_size, (uintmax_t)geo->origin_sectors,
			  (uintmax_t)geo->mapped_sectors);
		return -EINVAL;
	}
	ret = check_device(fd, &size, err);
	if (ret)
		return ret;
	if (!cow_places(size, geo->block_size)) {
		cow_error(err, "is too small: %ju bytes; a cow store with blocks of %u bytes needs %ju at least",
			  (uintmax_t)size, geo->block_size,
			  (uintmax_t)cow_place_offset(0, geo->block_size) +
			  geo->block_size);
		return -ENOSPC;
	}
	head = aligned_alloc(COW_SLOT_SIZE, COW_HEAD_SIZE);
	if (!head)
		ret = -ENOMEM;
	else if (getrandom(sb.uuid, sizeof(sb.uuid), 0) !=
		 (ssize_t)sizeof(sb.uuid))
		ret = -EIO;
	else
		ret = format_head(fd, &sb, head);
	if (ret)
		cow_error(err, "cannot be formatted: %s", strerror(-ret));
	free(head);
	return ret;
}
