// SPDX-License-Identifier: GPL-2.0-only
/*
 * profiler.so: a plugin of QEMU's that counts what is executed in a window.
 *
 * stopwatch.so marks where a window begins and ends with an instruction that does
 * nothing and has a number in it. In between each piece of code that is executed is
 * counted, of the kernel and of programs, without any influence on what runs when.
 *
 *	-plugin FILE,out=FILE[,stores=on]
 *
 * For each window, in that order, there are lines in the file:
 *
 *	window NUMBER
 *	code ADDRESS INSTRUCTIONS TIMES BYTES	as many in a row, how often; in hex
 *						what the first are, for programs whose
 *						addresses are the same
 *	lock ADDRESS TIMES			one that locks the bus
 *	store ADDRESS TIMES FROM TO gs|push|-	with stores=on: one of a module that
 *						writes, to which addresses, and
 *						whether by way of %gs, or because it
 *						pushes or calls
 *
 * QEMU's header for plugins is in no package of Debian's: what is used of it is
 * declared here, as of version 1 of that interface (QEMU 4.2 to 8.2).
 */
#include <inttypes.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "window.h"

typedef uint64_t qemu_plugin_id_t;
typedef uint32_t qemu_plugin_meminfo_t;
struct qemu_plugin_tb;
struct qemu_plugin_insn;

enum { CB_NO_REGS = 0, INLINE_ADD_U64 = 0, MEM_W = 2 };

int qemu_plugin_install(qemu_plugin_id_t id, const void *info, int argc,
			char **argv);
void qemu_plugin_register_vcpu_tb_trans_cb(qemu_plugin_id_t id,
					   void (*fn)(qemu_plugin_id_t id,
						      struct qemu_plugin_tb *tb));
void qemu_plugin_register_vcpu_tb_exec_inline(struct qemu_plugin_tb *tb, int op,
					      void *ptr, uint64_t imm);
void qemu_plugin_register_vcpu_insn_exec_cb(struct qemu_plugin_insn *insn,
					    void (*fn)(unsigned int cpu, void *data),
					    int flags, void *data);
void qemu_plugin_register_vcpu_mem_cb(struct qemu_plugin_insn *insn,
				      void (*fn)(unsigned int cpu,
						 qemu_plugin_meminfo_t info,
						 uint64_t vaddr, void *data),
				      int flags, int rw, void *data);
bool qemu_plugin_mem_is_store(qemu_plugin_meminfo_t info);
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *tb);
struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *tb,
						 size_t i);
const uint8_t *qemu_plugin_insn_data(const struct qemu_plugin_insn *insn);
size_t qemu_plugin_insn_size(const struct qemu_plugin_insn *insn);
uint64_t qemu_plugin_insn_vaddr(const struct qemu_plugin_insn *insn);

__attribute__((visibility("default"))) int qemu_plugin_version = 1;

/* Where Linux on x86-64 puts modules. */
#define MODULES_FROM UINT64_C(0xffffffffa0000000)
#define MODULES_TO UINT64_C(0xffffffffff000000)

#define MAX_BYTES 24

/* A piece of code that QEMU translates as one; made anew for each translation. */
struct code {
	struct code *next;
	uint64_t times;
	uint64_t address;
	unsigned int insns;
	unsigned int nr_bytes;
	unsigned char bytes[MAX_BYTES];
};

/* One instruction of a code that locks, or that writes. */
struct insn {
	struct insn *next;
	const struct code *code;
	uint64_t address;
	uint64_t stores;
	uint64_t from;
	uint64_t to;
	const char *way;
};

static struct code *codes;
static struct insn *locks;
static struct insn *stores;
static bool want_stores;
static bool in_window;
static FILE *out;

static void *need_memory(size_t size)
{
	void *memory = calloc(1, size);

	if (!memory)
		abort();
	return memory;
}

/* --- a window -------------------------------------------------------------------- */

static void window_begins(unsigned int cpu, void *data)
{
	static unsigned int windows;
	struct code *code;
	struct insn *insn;

	(void)cpu;
	(void)data;
	fprintf(out, "window %u\n", windows++);
	for (code = codes; code; code = code->next)
		code->times = 0;
	for (insn = stores; insn; insn = insn->next)
		insn->stores = 0;
	in_window = true;
}

static void print_code(const struct code *code)
{
	unsigned int i;

	fprintf(out, "code %" PRIx64 " %u %" PRIu64 " ", code->address,
		code->insns, code->times);
	for (i = 0; i < code->nr_bytes; i++)
		fprintf(out, "%02x", code->bytes[i]);
	fputc('\n', out);
}

static void window_ends(unsigned int cpu, void *data)
{
	const struct code *code;
	const struct insn *insn;

	(void)cpu;
	(void)data;
	in_window = false;
	for (code = codes; code; code = code->next)
		if (code->times)
			print_code(code);
	for (insn = locks; insn; insn = insn->next)
		if (insn->code->times)
			fprintf(out, "lock %" PRIx64 " %" PRIu64 "\n",
				insn->address, insn->code->times);
	for (insn = stores; insn; insn = insn->next)
		if (insn->stores)
			fprintf(out, "store %" PRIx64 " %" PRIu64 " %" PRIx64
				" %" PRIx64 " %s\n", insn->address,
				insn->stores, insn->from, insn->to,
				insn->way);
	fflush(out);
}

static void stored(unsigned int cpu, qemu_plugin_meminfo_t info, uint64_t vaddr,
		   void *data)
{
	struct insn *insn = data;

	(void)cpu;
	/* QEMU calls for what is read, too, whatever it is asked for. */
	if (!in_window || !qemu_plugin_mem_is_store(info))
		return;
	if (!insn->stores++ || vaddr < insn->from)
		insn->from = vaddr;
	if (insn->stores == 1 || vaddr > insn->to)
		insn->to = vaddr;
}

/* --- instructions ---------------------------------------------------------------- */

static bool is_prefix(uint8_t byte)
{
	return byte == 0x66 || byte == 0x67 || byte == 0xf2 || byte == 0xf3 ||
	       byte == 0x2e || byte == 0x36 || byte == 0x3e || byte == 0x26 ||
	       byte == 0x64 || byte == 0x65 || (byte & 0xf0) == 0x40; /* REX */
}

/* A lock prefix; or xchg with memory, which locks without one. */
static bool is_locked(const uint8_t *bytes, size_t size)
{
	size_t i = 0;

	while (i < size && is_prefix(bytes[i]))
		i++;
	if (i < size && bytes[i] == 0xf0)
		return true;
	return i + 1 < size && (bytes[i] == 0x86 || bytes[i] == 0x87) &&
	       bytes[i + 1] < 0xc0;
}

/* What pushes, or calls: where that goes is a stack. */
static bool is_push(const uint8_t *bytes, size_t size)
{
	uint8_t opcode = bytes[0], operation = size > 1 ? bytes[1] >> 3 & 7 : 0;

	return (opcode & 0xf8) == 0x50 || opcode == 0x68 || opcode == 0x6a ||
	       opcode == 0xe8 ||
	       (opcode == 0xff && (operation == 2 || operation == 6));
}

static const char *way_of(const uint8_t *bytes, size_t size)
{
	size_t i;

	for (i = 0; i < size && is_prefix(bytes[i]); i++)
		if (bytes[i] == 0x65)
			return "gs";
	return i < size && is_push(bytes + i, size - i) ? "push" : "-";
}

static struct insn *note_insn(struct insn **list, const struct code *code,
			      uint64_t address)
{
	struct insn *insn = need_memory(sizeof(*insn));

	insn->code = code;
	insn->address = address;
	insn->next = *list;
	*list = insn;
	return insn;
}

/* nopl MARK + number(%rax,%rax), as MARK_WINDOW() leaves it. Its mark, or 0. */
static uint32_t mark_of(const uint8_t *bytes, size_t size)
{
	static const uint8_t nop[] = { 0x0f, 0x1f, 0x84, 0x00 };
	uint32_t mark;

	if (size != 8 || memcmp(bytes, nop, sizeof(nop)))
		return 0;
	memcpy(&mark, bytes + sizeof(nop), sizeof(mark));
	return mark;
}

static void look_for_mark(struct qemu_plugin_insn *insn, const uint8_t *bytes,
			  size_t size)
{
	uint32_t mark = mark_of(bytes, size);

	if (mark == WINDOW_BEGINS)
		qemu_plugin_register_vcpu_insn_exec_cb(insn, window_begins,
						       CB_NO_REGS, NULL);
	else if (mark == WINDOW_ENDS)
		qemu_plugin_register_vcpu_insn_exec_cb(insn, window_ends,
						       CB_NO_REGS, NULL);
}

static void watch_stores(struct code *code, struct qemu_plugin_insn *insn,
			 uint64_t address, const char *way)
{
	struct insn *noted = note_insn(&stores, code, address);

	noted->way = way;
	qemu_plugin_register_vcpu_mem_cb(insn, stored, CB_NO_REGS, MEM_W, noted);
}

static void note_bytes(struct code *code, const uint8_t *bytes, size_t size)
{
	if (size > MAX_BYTES - code->nr_bytes)
		size = MAX_BYTES - code->nr_bytes;
	memcpy(code->bytes + code->nr_bytes, bytes, size);
	code->nr_bytes += size;
}

static void look_at(struct code *code, struct qemu_plugin_insn *insn)
{
	uint64_t address = qemu_plugin_insn_vaddr(insn);
	const uint8_t *bytes = qemu_plugin_insn_data(insn);
	size_t size = qemu_plugin_insn_size(insn);

	note_bytes(code, bytes, size);
	if (is_locked(bytes, size))
		note_insn(&locks, code, address);
	if (want_stores && address >= MODULES_FROM && address < MODULES_TO)
		watch_stores(code, insn, address, way_of(bytes, size));
	look_for_mark(insn, bytes, size);
}

static void translated(qemu_plugin_id_t id, struct qemu_plugin_tb *tb)
{
	struct code *code = need_memory(sizeof(*code));
	unsigned int i;

	(void)id;
	code->insns = qemu_plugin_tb_n_insns(tb);
	code->address = qemu_plugin_insn_vaddr(qemu_plugin_tb_get_insn(tb, 0));
	code->next = codes;
	codes = code;
	for (i = 0; i < code->insns; i++)
		look_at(code, qemu_plugin_tb_get_insn(tb, i));
	qemu_plugin_register_vcpu_tb_exec_inline(tb, INLINE_ADD_U64,
						 &code->times, 1);
}

__attribute__((visibility("default")))
int qemu_plugin_install(qemu_plugin_id_t id, const void *info, int argc,
			char **argv)
{
	int i;

	(void)info;
	for (i = 0; i < argc; i++) {
		if (!strncmp(argv[i], "out=", 4))
			out = fopen(argv[i] + 4, "w");
		else if (!strcmp(argv[i], "stores=on"))
			want_stores = true;
	}
	if (!out) {
		fprintf(stderr, "profiler: out=FILE is wanted, writable\n");
		return -1;
	}
	qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
	return 0;
}
