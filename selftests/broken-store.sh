#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# A snapshot whose disks break, in part or as a whole, and are mended: what it
# had acknowledged is there afterwards, and it goes on.
set -u
# shellcheck source-path=SCRIPTDIR source=lib/tools.sh
. "$(dirname "$(readlink -f "$0")")/tools.sh"

store_sectors=$((64 * 2048))
head_end=2048	# see cow-format.rst: then come pages,
pages_end=6144	# and then places
old_bytes=$((1024 * 1024))
old=(--rw=randwrite --bs=4k "--size=$old_bytes" --ioengine=libaio --iodepth=8)

# GATE TABLE...: a device before a disk becomes something else.
become()
{
	local gate=$1
	shift

	printf '%s\n' "$@" | dmsetup load "$gate" && dmsetup resume "$gate"
}

mend()
{
	become store "0 $store_sectors linear $store_loop 0" &&
		become origin "0 32768 linear $origin_loop 0"
}

make_snapshot()
{
	make_image origin.img 16
	truncate -s $((store_sectors * 512)) store.img
	sum=$(sha256sum < origin.img)
	origin_loop=$(losetup -f --show origin.img)
	store_loop=$(losetup -f --show store.img)
	dmsetup create origin --table "0 32768 linear $origin_loop 0" &&
		dmsetup create store --table "0 $store_sectors linear $store_loop 0" &&
		attach && verify /dev/mapper/snap "${old[@]}" &&
		old_sum=$(sum_of_old)
}

sum_of_old()
{
	(set -o pipefail
	 dd if=/dev/mapper/snap bs=64k count=$((old_bytes / 65536)) iflag=direct \
		status=none | sha256sum)
}

attach()
{
	dmuctl snapshot --origin /dev/mapper/origin --store /dev/mapper/store \
		--block-size 4k snap
}

old_is_there()
{
	[[ $(sum_of_old) == "$old_sum" ]]
}

# What was written in vain, or is not written yet, is as the origin has it.
is_as_origin()
{
	cmp --bytes=4096 --ignore-initial=$(($1 * 4096)) /dev/mapper/snap origin.img
}

# BLOCK: a block that is not in the store yet.
write_block()
{
	dd if=new.img of=/dev/mapper/snap bs=4k seek="$1" count=1 oflag=direct \
		conv=notrunc status=none
}

is_new()
{
	cmp --bytes=4096 <(dd if=/dev/mapper/snap bs=4k skip="$1" count=1 \
		iflag=direct status=none) new.img
}

# COMMAND...: until it succeeds, but not for ever.
await()
{
	local end=$((SECONDS + 120))

	until "$@"; do
		((SECONDS < end)) || {
			echo "in vain for two minutes: $*"
			return 1
		}
	done
}

is_held()
{
	(($(status_of snap writes_held)))
}

held_or_ended()
{
	is_held || has_ended "$1"
}

has_ended()
{
	! kill -0 "$1" 2> /dev/null
}

# Wait until a write waits for the metadata.
held()
{
	await held_or_ended "$1" || return
	is_held || {
		echo "the write was not held"
		return 1
	}
}

# A process, and what it has to say.
ended()
{
	await has_ended "$1" && wait "$1"
}

no_daemon()
{
	[[ $(counter_of snap 4) != attached ]]
}

revive()
{
	kill -KILL "$(status_of snap pid)" && await no_daemon && dmuctl revive snap
}

# The store again, by a new daemon and a new table.
comes_again()
{
	dmuctl detach snap && attach && old_is_there
}

# Nothing can be written down: a write waits, others fail, all else goes on. Once it
# works again the one that waits need not wait for others.
pages_cannot_be_written()
{
	local pid

	become store "0 $head_end linear $store_loop 0" \
		"$head_end $((pages_end - head_end)) error" \
		"$pages_end $((store_sectors - pages_end)) linear $store_loop $pages_end" ||
		return
	write_block 2000 &
	pid=$!
	held $pid || return
	[[ $(status_of snap failing) == true ]] || return
	! write_block 2001 || return
	old_is_there && is_as_origin 2001 || return
	mend && ended $pid && write_block 2001 || return
	[[ $(status_of snap failing) == false ]] || return
	comes_again && is_new 2000 && is_new 2001
}

# After a flush that failed nothing can be relied upon but by the next daemon.
nothing_can_be_written()
{
	local pid

	# The superblock says that this daemon is at work, and need not for a while.
	write_block 2099 || return
	become store "0 $store_sectors flakey $store_loop 0 0 1 1 error_writes" ||
		return
	! write_block 2100 || return
	become store "0 $pages_end flakey $store_loop 0 0 1 1 error_writes" \
		"$pages_end $((store_sectors - pages_end)) linear $store_loop $pages_end" ||
		return
	write_block 2101 &
	pid=$!
	held $pid || return
	old_is_there || return
	mend || return
	! write_block 2102 || return
	kill -0 $pid || return
	revive && ended $pid && write_block 2102 || return
	comes_again && is_new 2101 && is_new 2102 && is_as_origin 2100
}

# The data are not there while the disk is not, and then they are.
places_cannot_be_used()
{
	become store "0 $pages_end linear $store_loop 0" \
		"$pages_end $((store_sectors - pages_end)) error" || return
	! write_block 2200 || return
	! old_is_there || return
	is_as_origin 2201 || return
	mend && old_is_there && is_as_origin 2200 && write_block 2200 || return
	comes_again && is_new 2200
}

origin_cannot_be_read()
{
	become origin "0 32768 error" || return
	echo 3 > /proc/sys/vm/drop_caches
	! is_as_origin 2300 || return
	# A part of a block needs the rest of it; a whole one does not.
	! dd if=new.img of=/dev/mapper/snap bs=512 seek=$((2301 * 8)) count=1 \
		oflag=direct conv=notrunc status=none || return
	write_block 2302 && old_is_there || return
	mend && is_as_origin 2300 && is_as_origin 2301 && write_block 2301 || return
	comes_again && is_new 2301 && is_new 2302
}

# Both are gone, and so is the daemon: the next one says why it cannot.
all_is_gone()
{
	local said

	become store "0 $store_sectors error" && become origin "0 32768 error" ||
		return
	kill -KILL "$(status_of snap pid)" || return
	said=$(dmuctl revive snap 2>&1) && return 1
	echo "$said"
	[[ $(wc -l <<< "$said") == 1 ]] || return
	mend && dmuctl revive snap && old_is_there && comes_again
}

# What was the store is blank: the next daemon must not make a new one of it.
store_is_blank()
{
	local blank=blank.img loop status

	truncate -s $((store_sectors * 512)) $blank zeroes.img
	loop=$(losetup -f --show $blank) || return
	become store "0 $store_sectors linear $loop 0" || return
	kill -KILL "$(status_of snap pid)" && await no_daemon || return
	! dmuctl revive snap > said 2>&1 || return
	grep -q 'is blank, and format=no' said || return
	! dmuctl revive -o format=yes snap && cmp $blank zeroes.img
	status=$?
	mend
	losetup -d "$loop"
	((status == 0)) && dmuctl revive snap && old_is_there && comes_again
}

origin_is_untouched()
{
	dmuctl detach snap && dmsetup remove store origin || return
	losetup -d "$origin_loop" "$store_loop"
	[[ $(sha256sum < origin.img) == "$sum" ]]
}

ktap_print_header
ktap_set_plan 8
make_image new.img 1
check "a snapshot on disks that work" make_snapshot
check "metadata cannot be written" pages_cannot_be_written
check "nothing can be written, nor flushed" nothing_can_be_written
check "data cannot be read, nor written" places_cannot_be_used
check "the origin cannot be read" origin_cannot_be_read
check "nothing is there, and the daemon is dead" all_is_gone
check "the store is blank, and the daemon is dead" store_is_blank
check "the origin is untouched" origin_is_untouched
cd /
rm -rf "$work"
ktap_finished
