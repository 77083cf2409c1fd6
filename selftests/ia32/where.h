/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Which block ia32-daemon maps, and where to. The numbers have more than 32 bits
 * at both ends, in bytes as in sectors.
 */
#ifndef DMT_IA32_WHERE_H
#define DMT_IA32_WHERE_H

#define IA32_BLOCK	((1ull << 32) + 3) /* of 512 bytes */
#define IA32_OFFSET	(-((1ll << 32) - 5)) /* sectors */
#define IA32_NEW_BLOCK	((1ull << 33) + 2)
/* The sum of both. */
#define IA32_SECTOR	((1ull << 32) + 7)

#endif /* DMT_IA32_WHERE_H */
