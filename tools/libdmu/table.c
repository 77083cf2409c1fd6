// SPDX-License-Identifier: LGPL-2.1-or-later
/* Reading the lines that the target and the kernel print about a device. */
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysmacros.h>

#include "table.h"

/* The next word of *@pos, with its length; *@pos moves behind it. 0: none. */
static size_t next_word(const char **pos, const char **word)
{
	size_t len;

	*word = *pos + strspn(*pos, " \t\n");
	len = strcspn(*word, " \t\n");
	*pos = *word + len;
	return len;
}

/* Plain decimal digits, no more than 32 bits. Where they end, or NULL. */
static const char *parse_u32(const char *digits, uint32_t *value)
{
	unsigned long long n;
	char *end;

	/* strtoull() would take white space and signs too. */
	if (!isdigit((unsigned char)*digits))
		return NULL;
	errno = 0;
	n = strtoull(digits, &end, 10);
	if (errno || n > UINT32_MAX)
		return NULL;
	*value = n;
	return end;
}

/* "major:minor" at @word. Where it ends, or NULL. */
static const char *parse_devno(const char *word, dev_t *dev)
{
	uint32_t maj, min;
	const char *end = parse_u32(word, &maj);

	if (!end || *end != ':')
		return NULL;
	end = parse_u32(end + 1, &min);
	if (end)
		*dev = makedev(maj, min);
	return end;
}

/* The words that are devices; the first plain number is the feature count. */
static int parse_devices(const char *pos, struct dmui_table *table)
{
	const char *word, *end;
	uint32_t nr_features;
	dev_t *devices, dev;
	size_t len;

	while ((len = next_word(&pos, &word))) {
		end = parse_u32(word, &nr_features);
		if (end == word + len)
			return 0;
		if (parse_devno(word, &dev) != word + len)
			return -EINVAL;
		devices = reallocarray(table->devices, table->nr_devices + 1,
				       sizeof(*devices));
		if (!devices)
			return -ENOMEM;
		table->devices = devices;
		devices[table->nr_devices++] = dev;
	}
	return 0;
}

/**
 * dmui_parse_table() - read what "dmsetup table" prints behind "userspace"
 * @args: "<key> <block size> <major:minor>... [<#feature args> <arg>...]"
 * @table: where it goes; on success freed with dmui_table_destroy()
 *
 * Return: 0, -ENOMEM, or -EINVAL where @args are something else.
 */
int dmui_parse_table(const char *args, struct dmui_table *table)
{
	const char *word;
	size_t len;
	int err;

	memset(table, 0, sizeof(*table));
	len = next_word(&args, &word);
	if (!len || len >= sizeof(table->key))
		return -EINVAL;
	memcpy(table->key, word, len);
	len = next_word(&args, &word);
	if (!len || parse_u32(word, &table->block_size) != word + len)
		return -EINVAL;
	err = parse_devices(args, table);
	if (!err && !table->nr_devices)
		err = -EINVAL;
	if (err)
		dmui_table_destroy(table);
	return err;
}

/**
 * dmui_table_destroy() - free what dmui_parse_table() allocated
 * @table: not its own memory
 */
void dmui_table_destroy(struct dmui_table *table)
{
	free(table->devices);
	table->devices = NULL;
	table->nr_devices = 0;
}

/**
 * dmui_parse_control() - find the control device in a status line
 * @status: what "dmsetup status" prints behind "userspace"; begins with it
 * @control: where its number goes
 *
 * Return: 0, or -EINVAL where @status begins with something else.
 */
int dmui_parse_control(const char *status, dev_t *control)
{
	const char *word;
	size_t len = next_word(&status, &word);

	if (!len || parse_devno(word, control) != word + len)
		return -EINVAL;
	return 0;
}

/**
 * dmui_parse_devname() - find a device's node
 * @uevent: what /sys/dev/char/major:minor/uevent holds
 * @path: where "/dev/..." goes
 * @size: bytes there
 *
 * Return: 0; -ENOENT: no node is named; -ENAMETOOLONG.
 */
int dmui_parse_devname(const char *uevent, char *path, size_t size)
{
	static const char tag[] = "DEVNAME=";
	const char *line = uevent;
	int len;

	while (strncmp(line, tag, sizeof(tag) - 1)) {
		line = strchr(line, '\n');
		if (!line)
			return -ENOENT;
		line++;
	}
	line += sizeof(tag) - 1;
	len = snprintf(path, size, "/dev/%.*s", (int)strcspn(line, "\n"), line);
	return len >= 0 && (size_t)len < size ? 0 : -ENAMETOOLONG;
}
