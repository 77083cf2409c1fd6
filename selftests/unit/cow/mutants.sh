#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# Break the cow policy in one place at a time, and see the unit tests fail.
#
#   mutants.sh DIRECTORY [PATTERN]   build there; only mutants that match
#
# A mutant is "file | sed script | what is broken". TAP: a mutant that no test
# notices, or that does not change the file (any more), is "not ok".
set -u

here=$(cd "$(dirname "$0")" && pwd)
code=$(cd "$here/../../../tools/dmud/plugins/cow" && pwd)
mkdir -p "${1:?directory to build in}"
out=$(cd "$1" && pwd)
pattern=${2:-.}

mutants=$(cat <<'LIST'
book.c|s/^\tret = flush(b);/\tret = 0;/|no flush of the data before the pages
book.c|/page && !ret; page/,/return ret/s/ret = flush(b)/ret = 0/|no flush of the pages
book.c|/next.zones > b->sb.zones)/{n;s/flush(b)/0/}|no flush of a new zone before the superblock
book.c|s/ret = write_zone(b, next.zones++)/next.zones++/|pages of a new zone not written
book.c|s/page->slot = !page->slot;/;/|slots not alternated
book.c|s/cow_slot_offset(page->index, !page->slot/cow_slot_offset(page->index, page->slot/|the durable slot overwritten
book.c|s/bool all = .*/bool all = true;/|places named before they are filled
book.c|s/\tb->broken = true;/\t;/|a failed flush forgotten
book.c|s/\] == COW_FREE)$/] != 1)/|places handed out that are in use
book.c|s/\tb->entries += page->nr_added;/\t;/|entries not counted
book.c|s/return ret ? ret : cow_book_resize(b, bytes);/return ret;/|grown, and not noticed
book.c|/next.cursor = /{n;s/next.clean = false;//}|a store in use called clean
book.c|s/if (b->allotted >= b->places)/if (b->allotted > b->places + 5)/;s/return find_free(b, 0, .*/return b->cursor;/|places beyond the end
load.c|s/if (!ret \&\& fdatasync(fd))/if (0)/|no flush when opened
load.c|s/return commit\[1\] > commit\[0\];/return commit[1] < commit[0];/|the older slot believed
load.c|s/if (!valid\[0\] \&\& !valid\[1\])/if (0)/|pages bad in both slots believed
load.c|s/b->entries - a->added != a->before/0/|pages that fell back not noticed
load.c|s/if (sb->clean \&\& /if (0 \&\& /|damage after a clean close not noticed
load.c|s/if (cow_table_find(&b->table, block) != COW_NO_PLACE)/if (0)/|blocks named twice believed
load.c|s/if (block >= cow_geometry_blocks(&b->sb.geo) .*/if (0) {/|entries out of range believed
load.c|s/b->cursor = b->sb.cursor;/b->cursor = 0;/|places of the dead handed out first
load.c|s/!b->broken \&\& !b->dirty \&\& !next.clean/!next.clean/|called clean after a failure
load.c|s/if (!ret \&\& b->sb.lopsided)/if (0)/|a lost superblock not mended
load.c|s/is->block_size != want->block_size/0/|another block size accepted
load.c|s/is->origin_sectors != want->origin_sectors/0/|another origin accepted
load.c|s/is->mapped_sectors != want->mapped_sectors/0/|another device size accepted
load.c|s/b->sb.zones > b->nr_zones/0/|a shrunk store accepted
load.c|s/ret ? ret : affirm(b, &audit, err)/ret/|what was read not made true
load.c|s/renew_unproven(b, audit->added_last)/renew_unproven(b, audit->commit)/|made true but for what an earlier try left
load.c|s/renew = b->bad_slots != bad_slots/renew = false/|a slot that cannot be read left as it is
load.c|s/renew = b->bad_slots != bad_slots \&\& !b->sb.clean/renew = b->bad_slots != bad_slots/|written to and still called clean
format.c|s/return err == -EIO ||/return 1 ||/|a slot given up for lack of memory
format.c|s/le32toh(page->crc) == slot_crc(page, crc)/true/|page checksums not compared
format.c|s/!memcmp(page->uuid, uuid, sizeof(page->uuid))/true/|pages of another store believed
format.c|s/le64toh(page->index) == index/true/|pages of another index believed
format.c|s/if (le32toh(d.crc) != slot_crc.*/if (0)/|superblock checksums not compared
format.c|s/for (copy = SUPER_COPIES; copy-- > 0;)/for (copy = 1; copy-- > 0;)/|one superblock only
format.c|/copy-- > 0;/,/^}/s/if (fdatasync(fd))/if (0)/|superblocks not flushed
format.c|s/\*sb = copy\[copy\[1\].generation > copy\[0\].generation\];/*sb = copy[0];/|the older superblock believed
format.c|s/ret = cow_pwrite(fd, head, COW_HEAD_SIZE, 0);/ret = 0;/|what was there not erased
format.c|s/if (all_zero(head, COW_HEAD_SIZE))/if (!name)/|anything unknown is blank
format.c|s/\tif (!ret)$/\tif (1)/;s/return any ? 0 : ret;/return ret;/|an unreadable slot refused
format.c|s/if (!fcntl(fd, F_OFD_SETLK, &lock))/if (1)/|no lock
format.c|s/if (tail > COW_ZONE_META_SIZE)/if (tail)/|room where there is none
load.c|s/else if (cow_origin_differs(.*/else if (0)/|an origin with other contents accepted
format.c|s/ret = cow_pread(fd, buf, bytes - last, last);/ret = 0;/|the end of the origin not looked at
format.c|s/\t\t.origin_mark = htole64(sb->geo.origin_mark),/\t\t.origin_mark = 0,/|the origin forgotten
format.c|s/return mark >> 32 == MARK_ENDS \&\& other >> 32 == MARK_ENDS \&\&/return/|marks of other kinds compared
open.c|s/if (c->origin == ORIGIN_CHECK)/if (1)/|the origin refused against the option
open.c|s/if (!ret \&\& c->origin == ORIGIN_ACCEPT)/if (0)/|an origin that was accepted forgotten
table.c|s/if (t->block_at(t->owner, place) == block)/if (1)/|the tag taken for the block
table.c|s/if ((s->slot\[i\] ^ h << PLACE_BITS) \& ~PLACE_MASK)/if (0)/|the tag not used
table.c|s/bigger.size = FIRST_SIZE/bigger.size = 512/|memory wasted
cow.c|s/if (state == COW_ALLOTTED) {/if (0) {/|no copy
cow.c|s/if (state == COW_ALLOTTED) {/if (state != COW_DURABLE) {/|copied again over data
cow.c|s/if (state != COW_DURABLE)$/if (state == COW_ALLOTTED)/|no SYNC for a second request
cow.c|s/^\tif (!ret)\n\t\tacknowledge/XX/;/c->commit_error = ret;/{n;s/if (!ret)/if (1)/}|acknowledged though the commit failed
cow.c|s/\t\tcow_book_filled(&c->book, place);/\t\tcow_book_filled(\&c->book, place); dmu_sync_done(dmu, id); return;/|acknowledged before the commit
cow.c|s/if (state == COW_ABSENT \&\& !req->write)/if (state == COW_ABSENT)/|writes sent to the origin
cow.c|/^static bool find_read/,/^}/s/case COW_DURABLE:/case COW_DURABLE: case COW_FILLED:/|told ahead before it is durable
cow.c|s/m.dst_sector == first->dst_sector + n \* sectors_of_block(c)/1/|told ahead of places that do not follow
cow.c|s/^\tif (block >= c->blocks)$/\tif (0)/|told ahead of blocks beyond the end
cow.c|s/if (!c->read_on || /if (/|told ahead though nobody reads on
cow.c|s/ || !dmu_has_runs(c->dmu) ||/ ||/|told ahead one by one
cow.c|s/\tc->nr_read += n;/\t;/|never told of more than before
cow.c|s/\tc->left_out = m->block - 1;/\t;/|what was left out not known
cow.c|s/\t\treturn half;/\t\treturn n;/|taken for told though it was refused
cow.c|/^static struct dmu_mapping at_origin/,/^}/s/\t\t.dst = c->dev/\t\t.flags = DMU_MAP_WRITE, .dst = c->dev/|the origin writable
cow.c|s/\tif (error == c->allot_error)/\tif (0)/|a full store said each time
cow.c|s/if (!c->tried || !c->commit_error)/if (!c->tried)/|a batch not committed after a retry
cow.c|s/if (c->commit_error \&\& !c->tried) {/if (0) {/|refused without a retry
cow.c|s/c->held\[kept++\] = c->held\[i\];/;/|an acknowledgement lost
cow.c|/^static int make_room/,/^}/s/\tif (c->nr_held < c->held_room)$/\tif (1)/|more reports than room
cow.c|/^static int make_room/,/^}/s/\theld = reallocarray.*/\theld = NULL;/|more reports than room while commits fail
open.c|s/return c->format == FORMAT_FOREIGN ||/return 1 ||/|foreign contents overwritten
open.c|s/return c->format != FORMAT_NEVER;/return 1;/|formatted against the option
open.c|s/\t\treturn c->format == FORMAT_DAMAGED;/\t\treturn c->format != FORMAT_BLANK;/|a damaged store overwritten
open.c|s/if (st.st_rdev != c->dev\[STORE\])/if (0)/|another device written to
open.c|s/if (geo->mapped_sectors <= geo->origin_sectors)/if (1)/|an origin too small
cow.c|s/if (c->book.broken || (!c->nr_held \&\& !c->commit_error))/if (1)/|held writes wait for others
cow.c|s/if (c->book.broken || (!c->nr_held/if ((!c->nr_held/|tried in vain for ever
cow.c|s/(!c->nr_held \&\& !c->commit_error)/0/|awake for nothing
cow.c|/^static int cow_grow/,/^}/s/\tcommit(c);/\t;/|growing does not try again
cow.c|/^static int cow_grow/,/^}/s/if (c->commit_error)/if (0)/|growing says that all is well
cow.c|/^static void cow_refused/,/^}/s/\t\tc->nr_read = 0;/\t\t;/|told ahead again and again without memory
cow.c|s/if (req->block >= c->blocks)/if (req->block >= dmu_sectors(dmu))/|blocks beyond what the store was made for
device.c|s/DEVNAME=/DEVTYPE=/|the wrong node
LIST
)

# Fails where a test fails: that is what is hoped for. The quick ones first.
run_tests() {
	local test

	make -s -C "$here" BUILD="$out/build" COW="$out/cow" CFLAGS="-O1 -g" \
		WARNINGS= >"$out/log" 2>&1 || return 2
	cd "$out/build/selftests/unit/cow" || return 2
	for test in table format book damage policy origin device loop crash; do
		COW_ROUNDS=2 timeout 300 "./test_$test" >"$out/log" 2>&1 ||
			return 1
	done
}

n=0
bad=0
mutants=$(grep -e "$pattern" <<<"$mutants")
echo "1..$(wc -l <<<"$mutants")"
while IFS='|' read -r file rest; do
	script=${rest%|*}
	what=${rest##*|}
	n=$((n + 1))
	mkdir -p "$out"
	rm -rf "$out/cow"
	cp -r "$code" "$out/cow"
	sed -i -e "$script" "$out/cow/$file"
	if cmp -s "$code/$file" "$out/cow/$file"; then
		echo "not ok $n - $what # changes nothing"
		bad=1
		continue
	fi
	(run_tests)
	case $? in
	1)
		echo "ok $n - $what # $(grep -m1 '^not ok .* - ' "$out/log" |
			cut -d- -f2-)"
		;;
	2)
		echo "not ok $n - $what # $(tail -n 1 "$out/log")"
		bad=1
		;;
	*)
		echo "not ok $n - $what # no test notices"
		bad=1
		;;
	esac
done <<<"$mutants"
exit $bad
