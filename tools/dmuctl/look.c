// SPDX-License-Identifier: GPL-2.0-only
/* list and status: for people, and as JSON for programs. */
#include <getopt.h>
#include <inttypes.h>
#include <json-c/json.h>
#include <stdio.h>
#include <string.h>
#include <sys/sysmacros.h>

#include "dmuctl.h"

/* What the words of the status line are, behind the control device's number. */
static const struct {
	const char *key;
	const char *text;
} counters[] = {
	{ "remaps", "blocks remembered" },
	{ "hits", "hits" },
	{ "misses", "misses" },
	{ "waiting", "requests waiting" },
	{ "sent", "requests sent" },
	{ "copies", "copies in flight" },
	{ "syncs", "waiting for metadata" },
	{ "evictions", "evictions" },
	{ "errors", "I/O errors" },
};

#define NR_COUNTERS (sizeof(counters) / sizeof(counters[0]))

/**
 * struct kernel_status - the target's status line
 * @attached: a daemon is there
 * @counters: in the order of the table above
 */
struct kernel_status {
	bool attached;
	uint64_t counters[NR_COUNTERS];
};

static bool parse_status(const char *line, struct kernel_status *s)
{
	char word[16];
	unsigned int major, minor;
	int used = 0, n;
	size_t i;

	if (sscanf(line, "%u:%u %15s%n", &major, &minor, word, &used) != 3)
		return false;
	s->attached = !strcmp(word, "attached");
	for (i = 0; i < NR_COUNTERS; i++) {
		line += used;
		if (sscanf(line, "%" SCNu64 "%n", &s->counters[i], &n) != 1)
			return false;
		used = n;
	}
	return true;
}

static const char *state_of(const struct mapped *m,
			    const struct kernel_status *s)
{
	if (m->suspended)
		return "suspended";
	return s->attached ? "served" : "no daemon";
}

/* "1.5G": short, for people; exact figures are in the JSON. */
static const char *human(uint64_t bytes, char *buf, size_t size)
{
	static const char units[] = "BKMGTPE";
	double n = (double)bytes;
	int unit = 0;

	while (n >= 1024 && units[unit + 1]) {
		n /= 1024;
		unit++;
	}
	if (!unit)
		snprintf(buf, size, "%" PRIu64, bytes);
	else
		snprintf(buf, size, n < 10 && n != (double)(int)n ?
			 "%.1f%c" : "%.0f%c", n, units[unit]);
	return buf;
}

static void add_string(struct json_object *o, const char *key, const char *s)
{
	json_object_object_add(o, key, json_object_new_string(s));
}

static void add_number(struct json_object *o, const char *key, uint64_t n)
{
	json_object_object_add(o, key, json_object_new_uint64(n));
}

/* What list and status have in common. */
static struct json_object *device_json(const struct mapped *m,
				       const struct kernel_status *s)
{
	struct json_object *o = json_object_new_object();
	struct json_object *devices = json_object_new_array();
	char buf[4096];
	unsigned int i;

	add_string(o, "name", m->name);
	add_string(o, "path", mapped_path(m->name));
	add_string(o, "policy", m->policy);
	add_string(o, "state", state_of(m, s));
	add_number(o, "size", m->sectors * 512);
	add_number(o, "block_size", m->block_size);
	add_number(o, "open_count", (uint64_t)m->open_count);
	for (i = 0; i < m->nr_devices; i++) {
		backing_name(m->devices[i], buf, sizeof(buf));
		json_object_array_add(devices, json_object_new_string(buf));
	}
	json_object_object_add(o, "devices", devices);
	return o;
}

/* Bytes of the character there, in UTF-8; 0 where it is none. */
static size_t utf8_length(const char *text)
{
	static const struct {
		unsigned char mask, bits;
		unsigned long least;
	} forms[] = {
		{ 0x80, 0x00, 0 }, { 0xe0, 0xc0, 0x80 }, { 0xf0, 0xe0, 0x800 },
		{ 0xf8, 0xf0, 0x10000 },
	};
	const unsigned char *c = (const unsigned char *)text;
	unsigned long code;
	size_t n, i;

	for (n = 0; (*c & forms[n].mask) != forms[n].bits; n++)
		if (n == sizeof(forms) / sizeof(forms[0]) - 1)
			return 0;
	code = *c & (unsigned char)~forms[n].mask;
	for (i = 1; i <= n; i++) {
		if ((c[i] & 0xc0) != 0x80)
			return 0;
		code = code << 6 | (c[i] & 0x3f);
	}
	if (code < forms[n].least || code > 0x10ffff ||
	    (code >= 0xd800 && code < 0xe000))
		return 0;
	return n + 1;
}

/* A path may hold any bytes; JSON is UTF-8, or nobody can read it. */
static void print_json(struct json_object *o)
{
	const char *text =
		json_object_to_json_string_ext(o, JSON_C_TO_STRING_PRETTY |
					       JSON_C_TO_STRING_SPACED |
					       JSON_C_TO_STRING_NOSLASHESCAPE);
	size_t n;

	while (*text) {
		n = utf8_length(text);
		if (n)
			fwrite(text, 1, n, stdout);
		else
			fputs("\xef\xbf\xbd", stdout);
		text += n ? n : 1;
	}
	putchar('\n');
	json_object_put(o);
}

/* Both commands take --json, and list no more than that. -1: go on. */
static int parse_look(int argc, char **argv, const char *help, bool *json)
{
	static const struct option options[] = {
		{ "json", no_argument, NULL, 'j' },
		{ "help", no_argument, NULL, 'h' },
		{ }
	};
	int c;

	while ((c = getopt_long(argc, argv, "h", options, NULL)) != -1) {
		if (c == 'h') {
			fputs(help, stdout);
			return EXIT_OK;
		}
		if (c != 'j')
			return EXIT_USAGE;
		*json = true;
	}
	return -1;
}

/* --- list --------------------------------------------------------------------------------- */

static const char list_help[] =
"Usage: dmuctl list [--json]\n"
"\n"
"Shows the dm-userspace devices: name, policy, size, block size and state,\n"
"which is \"served\", \"no daemon\" (dmuctl revive) or \"suspended\".\n";

struct listing {
	struct json_object *json;
	unsigned int nr;
};

static int list_one(const struct mapped *m, void *ctx)
{
	struct listing *list = ctx;
	struct kernel_status s = {};
	char size[16], block[16];

	parse_status(m->status, &s);
	if (list->json) {
		json_object_array_add(list->json, device_json(m, &s));
		return 0;
	}
	if (!list->nr++)
		printf("%-24s %-10s %8s %8s  %s\n", "NAME", "POLICY", "SIZE",
		       "BLOCK", "STATE");
	printf("%-24s %-10s %8s %8s  %s\n", m->name, m->policy,
	       human(m->sectors * 512, size, sizeof(size)),
	       human(m->block_size, block, sizeof(block)), state_of(m, &s));
	return 0;
}

int cmd_list(int argc, char **argv)
{
	struct listing list = {};
	bool json = false;
	int r = parse_look(argc, argv, list_help, &json);

	if (r >= 0)
		return r;
	if (optind != argc)
		return usage("list takes no NAME");
	if (json)
		list.json = json_object_new_array();
	r = mapped_each(list_one, &list);
	if (json)
		print_json(list.json);
	else if (!r && !list.nr)
		puts("There are no dm-userspace devices.");
	return r ? EXIT_FAILED : EXIT_OK;
}

/* --- status -------------------------------------------------------------------------------- */

static const char status_help[] =
"Usage: dmuctl status [--json] NAME\n"
"\n"
"Shows what the kernel and the daemon know of /dev/mapper/NAME.\n";

static struct json_object *status_json(const struct mapped *m,
				       const struct kernel_status *s,
				       struct json_object *daemon)
{
	struct json_object *o = device_json(m, s);
	struct json_object *kernel = json_object_new_object();
	size_t i;

	for (i = 0; i < NR_COUNTERS; i++)
		add_number(kernel, counters[i].key, s->counters[i]);
	json_object_object_add(o, "kernel", kernel);
	json_object_object_add(o, "daemon", json_object_get(daemon));
	return o;
}

/* The members of an object, a line each; underscores read as spaces. */
static void print_members(struct json_object *o)
{
	char label[64];
	char *c;

	json_object_object_foreach(o, key, value) {
		if (json_object_is_type(value, json_type_object))
			continue;
		snprintf(label, sizeof(label), "%s", key);
		for (c = label; *c; c++)
			*c = *c == '_' ? ' ' : *c;
		printf("  %-22s %s\n", label, json_object_get_string(value));
	}
}

static void print_status(const struct mapped *m, const struct kernel_status *s,
			 struct json_object *daemon)
{
	struct json_object *own = NULL;
	char buf[4096];
	size_t i;

	printf("%s: %s, %s\n", mapped_path(m->name), m->policy,
	       state_of(m, s));
	printf("  %-22s %s\n", "size",
	       human(m->sectors * 512, buf, sizeof(buf)));
	printf("  %-22s %s\n", "block size",
	       human(m->block_size, buf, sizeof(buf)));
	for (i = 0; i < m->nr_devices; i++) {
		backing_name(m->devices[i], buf, sizeof(buf));
		printf("  %-22s %s\n", i ? "" : "devices", buf);
	}
	puts("kernel");
	for (i = 0; i < NR_COUNTERS; i++)
		printf("  %-22s %" PRIu64 "\n", counters[i].text,
		       s->counters[i]);
	if (!daemon) {
		puts("daemon\n  does not answer (if it has died, dmuctl revive starts a new one)");
		return;
	}
	puts("daemon");
	print_members(daemon);
	if (json_object_object_get_ex(daemon, "policy_status", &own)) {
		printf("%s\n", m->policy);
		print_members(own);
	}
}

int cmd_status(int argc, char **argv)
{
	struct kernel_status s = {};
	struct json_object *daemon;
	struct mapped m;
	bool json = false;
	int r = parse_look(argc, argv, status_help, &json);

	if (r >= 0)
		return r;
	if (optind != argc - 1)
		return usage("status needs one NAME");
	if (mapped_find(argv[optind], &m))
		return EXIT_FAILED;
	if (!parse_status(m.status, &s)) {
		complain("cannot understand the status of %s: %s", m.name,
			 m.status);
		return EXIT_FAILED;
	}
	daemon = daemon_ask(m.key, "status");
	if (json)
		print_json(status_json(&m, &s, daemon));
	else
		print_status(&m, &s, daemon);
	json_object_put(daemon);
	return EXIT_OK;
}
