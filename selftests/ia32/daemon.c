// SPDX-License-Identifier: GPL-2.0-only
/*
 * ia32-daemon CONTROL MAJOR MINOR: a daemon of 32 bits, for ia32.c. It has no C
 * library, because machines of 64 bits seldom have one of 32 to link with.
 *
 * Having looked at what there is without a request, it says a byte. Then it maps the
 * block that it is asked for, with SYNC, to where STORE says on the
 * device named, acknowledges, and invalidates. Its status is the line that
 * something went wrong in, modulo 256, or 0.
 */
#include "where.h"
#include <linux/dm-userspace.h>

/* Numbers of system calls, as asm/unistd_32.h has them. */
enum { SYS_EXIT = 1, SYS_READ = 3, SYS_WRITE = 4, SYS_OPEN = 5, SYS_POLL = 168 };

enum { STDOUT = 1, RDWR = 2, POLLIN = 1, POLLOUT = 4, PATIENCE = 20000 };

struct pollfd {
	int fd;
	short events;
	short revents;
};

struct message {
	struct dmu_msg_header header;
	union {
		struct dmu_msg_version version;
		struct dmu_msg_status status;
		struct dmu_msg_map_request request;
		struct dmu_msg_map_response response;
		struct dmu_msg_invalidate_map invalidate;
	} __attribute__((packed));
} __attribute__((packed));

static long call(long nr, long a, long b, long c)
{
	long r;

	__asm__ volatile("int $0x80" : "=a"(r)
			 : "a"(nr), "b"(a), "c"(b), "d"(c) : "memory");
	return r;
}

static void need(int ok, int line)
{
	if (!ok)
		call(SYS_EXIT, line & 255 ? line & 255 : 255, 0, 0);
}

#define NEED(what) need(what, __LINE__)

static unsigned int number(const char *s)
{
	unsigned int n = 0;

	while (*s)
		n = n * 10 + (unsigned int)(*s++ - '0');
	return n;
}

static void clear(void *p, unsigned long len)
{
	volatile char *c = p;

	while (len--)
		*c++ = 0;
}

static int polled(int fd, int timeout)
{
	struct pollfd p = { .fd = fd, .events = POLLIN | POLLOUT };

	NEED(call(SYS_POLL, (long)&p, 1, timeout) == 1);
	return p.revents;
}

/* Wait for one message, of that type and length. */
static void get(int fd, struct message *m, unsigned int type, unsigned int len)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };

	clear(m, sizeof(*m));
	NEED(call(SYS_POLL, (long)&p, 1, PATIENCE) == 1);
	NEED(p.revents == POLLIN);
	len += sizeof(m->header);
	NEED(call(SYS_READ, fd, (long)m, sizeof(*m)) == (long)len);
	NEED(m->header.msg_type == type);
	NEED(m->header.payload_len == len - sizeof(m->header));
}

static void put(int fd, struct message *m, unsigned int type, unsigned int id,
		unsigned int len)
{
	m->header.msg_type = type;
	m->header.payload_len = len;
	m->header.id = id;
	len += sizeof(m->header);
	NEED(call(SYS_WRITE, fd, (long)m, (long)len) == (long)len);
}

static void handshake(int fd)
{
	struct message m;

	NEED(polled(fd, 0) == POLLOUT);
	clear(&m, sizeof(m));
	m.version.userspace_ver = 7;
	put(fd, &m, DM_USERSPACE_GET_VERSION, 99, sizeof(m.version));
	NEED(polled(fd, 0) == (POLLIN | POLLOUT));
	get(fd, &m, DM_USERSPACE_GET_VERSION, sizeof(m.version));
	NEED(m.header.id == 99 && m.version.userspace_ver == 7);
	NEED(m.version.kernel_ver >= 1 << 16);
}

/* It answers with what needs all the bits of what has 64 of them. */
static void answer(int fd, unsigned int major, unsigned int minor)
{
	struct message m;
	unsigned int id;

	get(fd, &m, DM_USERSPACE_MAP_BLOCK_REQ, sizeof(m.request));
	NEED(m.header.id && m.request.org_block == IA32_BLOCK);
	NEED(m.request.flags == (DMU_FLAG_RD | DMU_FLAG_WR));
	id = m.header.id;
	clear(&m, sizeof(m));
	m.response.org_block = IA32_BLOCK;
	m.response.new_block = IA32_NEW_BLOCK;
	m.response.offset = IA32_OFFSET;
	m.response.id_of_req = id;
	m.response.flags = DMU_FLAG_RD | DMU_FLAG_WR | DMU_FLAG_SYNC;
	m.response.dst_maj = major;
	m.response.dst_min = minor;
	put(fd, &m, DM_USERSPACE_MAP_BLOCK_RESP, 0, sizeof(m.response));
	get(fd, &m, DM_USERSPACE_STATUS, sizeof(m.status));
	NEED(m.header.id == id && m.status.id_of_op == id);
	NEED(m.status.status == DM_USERSPACE_SYNC_COMPLETE);
	put(fd, &m, DM_USERSPACE_STATUS, id, sizeof(m.status));
}

static void invalidate(int fd)
{
	struct message m;

	clear(&m, sizeof(m));
	m.invalidate.org_block = IA32_BLOCK;
	put(fd, &m, DM_USERSPACE_MAP_INVALIDATE, 5, sizeof(m.invalidate));
	get(fd, &m, DM_USERSPACE_STATUS, sizeof(m.status));
	NEED(m.header.id == 5 && m.status.id_of_op == 5);
	NEED(m.status.status == DM_USERSPACE_INVAL_COMPLETE);
}

/* What the kernel puts on the stack of a new program: argc, argv. */
__attribute__((used)) void daemon_main(long *stack)
{
	const char **argv = (const char **)(stack + 1);
	long fd;

	NEED(sizeof(long) == 4 && *stack == 4);
	fd = call(SYS_OPEN, (long)argv[1], RDWR, 0);
	NEED(fd >= 0);
	handshake((int)fd);
	NEED(call(SYS_WRITE, STDOUT, (long)argv[0], 1) == 1);
	answer((int)fd, number(argv[2]), number(argv[3]));
	invalidate((int)fd);
	call(SYS_EXIT, 0, 0, 0);
}

__asm__(".globl _start\n_start:\tmov %esp, %eax\n\tand $-16, %esp\n"
	"\tsub $12, %esp\n\tpush %eax\n\tcall daemon_main\n");
