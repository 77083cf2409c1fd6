// SPDX-License-Identifier: GPL-2.0-only
/* What there is of the module, as sysfs sees it. */
#define _GNU_SOURCE
#include "dmt.h"
#include <ctype.h>
#include <dirent.h>
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Where the test VM keeps the module; DMT_MODULE says otherwise. */
#define MODULE_IN_VM "/run/vm-ctl/module/*/dm-user.ko"

/* How many users the module has; negative where it is not there. */
long dmt_module_refs(void)
{
	FILE *f = fopen("/sys/module/dm_user/refcnt", "re");
	long n;

	if (!f)
		return -errno;
	if (fscanf(f, "%ld", &n) != 1)
		errx(1, "cannot read the module's count of users");
	fclose(f);
	return n;
}

/* How many control devices there are. */
unsigned int dmt_controls(void)
{
	DIR *dir = opendir("/sys/class/dm-userspace");
	struct dirent *entry;
	unsigned int nr = 0;

	if (!dir)
		return 0;
	while ((entry = readdir(dir)))
		nr += entry->d_name[0] != '.';
	closedir(dir);
	return nr;
}

static int module_open(void)
{
	const char *path = getenv("DMT_MODULE");
	glob_t found = { 0 };
	int fd;

	if (!path && !glob(MODULE_IN_VM, 0, NULL, &found))
		path = found.gl_pathv[0];
	fd = open(path ? path : "dm-user.ko", O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		err(1, "no module; set DMT_MODULE to its path: %s",
		    path ? path : MODULE_IN_VM);
	globfree(&found);
	return fd;
}

/* The module's file in memory, for good. */
const void *dmt_module_file(size_t *len)
{
	int fd = module_open();
	struct stat st;
	void *p;

	if (fstat(fd, &st))
		err(1, "the module");
	*len = (size_t)st.st_size;
	p = mmap(NULL, *len, PROT_READ, MAP_PRIVATE, fd, 0);
	if (p == MAP_FAILED)
		err(1, "the module");
	close(fd);
	return p;
}

/* As insmod does, with these parameters: 0 or a negative errno. */
int dmt_module_insert_with(const char *params)
{
	int fd = module_open();
	int r = syscall(SYS_finit_module, fd, params, 0) ? -errno : 0;

	close(fd);
	return r;
}

int dmt_module_insert(void)
{
	return dmt_module_insert_with("");
}

/* As rmmod does: -EWOULDBLOCK where somebody uses it. */
int dmt_module_remove(void)
{
	return syscall(SYS_delete_module, "dm_user", O_NONBLOCK) ? -errno : 0;
}

/* Has it a name that starts so? */
static bool is_worker(const char *pid, const char *start)
{
	char path[300], comm[32] = "";
	const char *name = comm;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%s/comm", pid);
	f = fopen(path, "re");
	if (!f)
		return false;
	if (!fgets(comm, sizeof(comm), f))
		*comm = '\0';
	fclose(f);
	/* 6.9 put a prefix before it; 15 bytes are all that a name has. */
	if (!strncmp(name, "kworker/R-", 10))
		name += 10;
	return !strncmp(name, start, strlen(start));
}

static unsigned int workers(const char *start)
{
	DIR *dir = opendir("/proc");
	struct dirent *entry;
	unsigned int nr = 0;

	if (!dir)
		err(1, "/proc");
	while ((entry = readdir(dir)))
		nr += isdigit((unsigned char)entry->d_name[0]) &&
		      is_worker(entry->d_name, start);
	closedir(dir);
	return nr;
}

/*
 * How many threads stand by for the workqueues of keys, but for those of kcopyd: for
 * when there is no memory to make another.
 */
unsigned int dmt_rescuers(void)
{
	return workers("dm_us");
}

/*
 * How many threads the kernel keeps for devices of the module: those that
 * stand by for the workqueues of each key. They go with all that a key has.
 */
unsigned int dmt_workers(void)
{
	return dmt_rescuers() + workers("kcopy");
}
