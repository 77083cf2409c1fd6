/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the target's lines say, and the kernel's of a device's node. */
#ifndef DMUI_TABLE_H
#define DMUI_TABLE_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* Bytes of a key, the final 0 included: the target refuses longer ones. */
#define DMUI_KEY_SIZE 256

/**
 * struct dmui_table - the arguments of one "userspace" table line
 * @key: names the tables that share remaps and a control device
 * @block_size: bytes
 * @nr_devices: devices named
 * @devices: their numbers, in that order; owned
 */
struct dmui_table {
	char key[DMUI_KEY_SIZE];
	uint32_t block_size;
	unsigned int nr_devices;
	dev_t *devices;
};

int dmui_parse_table(const char *args, struct dmui_table *table);
void dmui_table_destroy(struct dmui_table *table);
int dmui_parse_control(const char *status, dev_t *control);
int dmui_parse_devname(const char *uevent, char *path, size_t size);

#endif /* DMUI_TABLE_H */
