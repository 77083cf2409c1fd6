/* SPDX-License-Identifier: GPL-2.0-only */
/* How stopwatch.so tells profiler.so that a window begins, or ends. */
#ifndef WINDOW_H
#define WINDOW_H

/* Numbers that no compiler puts into an instruction by chance. */
#define WINDOW_BEGINS 0x444d5501
#define WINDOW_ENDS 0x444d5502

/* An instruction that does nothing: nopl MARK(%rax,%rax). */
#define MARK_WINDOW(mark) \
	__asm__ volatile(".byte 0x0f, 0x1f, 0x84, 0x00\n\t.long %c0" \
			 : : "i"(mark) : "memory")

#endif /* WINDOW_H */
