// SPDX-License-Identifier: GPL-2.0-only
/*
 * Keeping books of simulated stores, in few words: see desk.h.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "desk.h"

const struct cow_geometry geo = {
	.block_size = BLOCK,
	.origin_sectors = 1000000,
	.mapped_sectors = 999999,
};

char err[COW_ERROR_SIZE];

struct sim *new_store(uint64_t places)
{
	struct sim *s = sim_new(cow_place_offset(places - 1, BLOCK) + BLOCK);

	sim_select(s);
	assert_false(cow_store_format(s->fd, &geo, err));
	return s;
}

static struct cow_book *try_open(struct sim *s, int *ret)
{
	struct cow_book *b = malloc(sizeof(*b));

	sim_select(s);
	*ret = cow_book_open(b, s->fd, &geo, err);
	if (!*ret)
		return b;
	free(b);
	return NULL;
}

struct cow_book *open_book(struct sim *s)
{
	int ret;
	struct cow_book *b = try_open(s, &ret);

	if (ret)
		fail_msg("the store %s", err);
	return b;
}

void close_book(struct cow_book *b)
{
	cow_book_close(b);
	free(b);
}

/* A daemon that dies: memory is gone, and nothing else happens. */
void kill_book(struct sim *s, struct cow_book *b)
{
	s->dead = true;
	close_book(b);
	s->dead = false;
}

void refused(struct sim *s, const char *why)
{
	uint64_t writes = s->writes;
	int ret;

	try_open(s, &ret);
	assert_true(ret < 0);
	if (!strstr(err, why))
		fail_msg("refused, but for this: %s", err);
	assert_int_equal(s->writes, writes);
}

uint64_t allot(struct cow_book *b, uint64_t block)
{
	uint64_t place;

	assert_false(cow_book_allot(b, block, &place));
	return place;
}

/* Blocks from @from on, each allotted and filled. */
void fill(struct cow_book *b, uint64_t from, uint64_t n)
{
	while (n--)
		cow_book_filled(b, allot(b, from++));
}

void commit(struct cow_book *b)
{
	assert_false(cow_book_commit(b));
}

enum cow_state state_of(struct cow_book *b, uint64_t block)
{
	uint64_t place;

	return cow_book_find(b, block, &place);
}
