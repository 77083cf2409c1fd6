#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# Verified load on whole stacks: fio, the module, dmud with its policies.
set -u
# shellcheck source-path=SCRIPTDIR source=lib/tools.sh
. "$(dirname "$(readlink -f "$0")")/tools.sh"

megabytes=$(often 4)
kill_times=$(often 8)
mixed=(--bsrange=4k-64k --rw=randwrite --size="${megabytes}M" --iodepth=16 --ioengine=libaio)
small=(--bs=512 --rw=randrw --size="$(often 512)k" --offset=9M --iodepth=2 --ioengine=libaio)
large=(--bs=1M --rw=write --size="${megabytes}M" --iodepth=4 --ioengine=libaio)

load_linear()
{
	make_image disk.img 16
	dmuctl attach --policy linear --block-size "$1" --device disk.img \
		-o "push=$2" lin || return
	verify /dev/mapper/lin "${mixed[@]}" \
		--name=small --stonewall "${small[@]}" \
		--name=large --stonewall "${large[@]}" \
		--name=uring --stonewall "${mixed[@]}" --ioengine=io_uring &&
		[[ $(counter_of lin $field_errors) == 0 ]]
	local status=$?

	dmuctl detach lin && return $status
}

# A load, then a restart, then the same load's data read again.
load_cow()
{
	local status sum

	rm -f store.cow
	make_image origin.img 10
	sum=$(sha256sum < origin.img)
	dmuctl snapshot --origin origin.img --store store.cow --store-size 20M \
		--block-size "$1" snap || return
	# The number of a job is part of what it writes: that of the first is read again.
	verify /dev/mapper/snap "${mixed[@]}" --fsync=8 \
		--name=mixed --stonewall "${mixed[@]}" --offset=4M \
		--name=small --stonewall "${small[@]}"
	status=$?
	dmuctl detach snap || return
	((status == 0)) || return $status
	dmuctl snapshot --origin origin.img --store store.cow snap || return
	verify /dev/mapper/snap "${mixed[@]}" --fsync=8 --verify_only
	status=$?
	dmuctl detach snap && [[ $(sha256sum < origin.img) == "$sum" ]] &&
		return $status
}

# write_sectors END STEP: some, to the snapshot and to what it should hold then.
write_sectors()
{
	local i file

	for ((i = 3; i < $1; i += $2)); do
		for file in want.img /dev/mapper/snap; do
			printf 'sector %d' $i | dd of=$file bs=512 seek=$i count=1 \
				conv=notrunc,sync,fsync status=none || return
		done
	done
}

# What was not written still reads as the origin, also beside what was.
partial_writes()
{
	local status=0

	rm -f store.cow
	make_image origin.img 8
	cp origin.img want.img
	dmuctl snapshot --origin origin.img --store store.cow --store-size 32M \
		--block-size 64k snap || return
	write_sectors 4000 811 || status=1
	cmp want.img /dev/mapper/snap || status=1
	dmuctl detach snap
	return $status
}

# Who reads on is told of what follows; that is then written to, here and there.
told_ahead()
{
	local misses status=0

	rm -f store.cow
	make_image origin.img 4
	cp origin.img want.img
	dmuctl snapshot --origin origin.img --store store.cow --store-size 32M \
		--block-size 4k snap || return
	dd if=/dev/mapper/snap bs=4k iflag=direct status=none |
		cmp - origin.img || status=1
	misses=$(counter_of snap $field_misses)
	echo "$misses misses with 1024 blocks"
	((misses < 100)) || status=1
	write_sectors 8000 811 || status=1
	cmp want.img /dev/mapper/snap || status=1
	dmuctl detach snap && dmuctl snapshot --origin origin.img \
		--store store.cow snap || return
	dd if=/dev/mapper/snap bs=4k iflag=direct status=none |
		cmp - want.img || status=1
	dmuctl detach snap
	return $status
}

# Each round somewhere else, so that there are always blocks nobody knows.
load_until_done()
{
	local round=0

	until [[ -e load.done ]]; do
		verify /dev/mapper/snap "${mixed[@]}" --size=1M \
			--offset=$((round++ % 24 * 2))M || return
	done
}

kill_daemon()
{
	local seen=$1 misses

	# Once this daemon has had something to do.
	while kill -0 "$load" 2> /dev/null; do
		misses=$(counter_of snap $field_misses)
		((misses < seen + 20)) || break
		dmsetup message snap 0 drop_idle
	done
	pkill -KILL -x dmud && dmuctl revive snap
}

# The daemon is killed again and again while a verified load runs.
killed_again_and_again()
{
	local load kills status

	for ((kills = 0; kills < kill_times; kills++)); do
		((kills)) || {
			load_until_done &
			load=$!
		}
		kill_daemon "$(counter_of snap $field_misses)" || break
		kill -0 "$load" || break
	done
	echo "$kills kills"
	: > load.done
	wait "$load"
	status=$?
	rm -f load.done
	((kills == kill_times)) && return $status
}

killed_cow()
{
	local status sum

	rm -f store.cow origin.img
	truncate -s 48M origin.img
	dd if=/dev/urandom of=origin.img bs=1M count=4 conv=notrunc status=none
	sum=$(sha256sum < origin.img)
	dmuctl snapshot --origin origin.img --store store.cow \
		--store-size 100M --block-size 4k snap || return
	killed_again_and_again
	status=$?
	dmuctl detach snap && [[ $(sha256sum < origin.img) == "$sum" ]] &&
		return $status
}

killed_linear()
{
	local status

	rm -f disk.img
	truncate -s 48M disk.img
	# Told of all blocks before, the kernel would not ask.
	dmuctl attach --policy linear --device disk.img --block-size 4k \
		-o push=no snap || return
	killed_again_and_again
	status=$?
	dmuctl detach snap && return $status
}

# What was written to it first.
first_is_there()
{
	cmp --bytes=2M new.img <(dd if=/dev/mapper/snap bs=64k count=32 \
		iflag=direct status=none)
}

# A full store fails what needs room, keeps the rest, and goes on once grown.
full_store()
{
	rm -f store.cow
	make_image origin.img 16
	make_image new.img 2
	dmuctl snapshot --origin origin.img --store store.cow --store-size 8M \
		--block-size 4k snap || return
	dd if=new.img of=/dev/mapper/snap bs=64k oflag=direct status=none || return
	first_is_there || return
	! dd if=/dev/zero of=/dev/mapper/snap bs=64k seek=32 oflag=direct \
		status=none || return
	first_is_there || return
	[[ $(status_of snap full) == true ]] || return
	dmuctl grow --size 32M snap || return
	dd if=/dev/zero of=/dev/mapper/snap bs=64k seek=32 count=128 oflag=direct \
		status=none || return
	first_is_there || return
	dmuctl detach snap
}

# A filesystem, with what filesystems do: discard, flush, FUA, write-zeroes.
filesystem()
{
	local status headers=/usr/include/linux

	(($(often 8) == 8)) || headers=/usr/include/asm-generic
	rm -f store.cow
	truncate -s 64M origin.img
	mkfs.ext4 -q -F origin.img
	mkdir -p mnt
	dmuctl snapshot --origin origin.img --store store.cow --store-size 128M \
		--block-size 16k snap || return
	mount /dev/mapper/snap mnt &&
		cp -r $headers mnt/headers && rm -r mnt/headers/s* &&
		fstrim mnt && sync && umount mnt
	status=$?
	((status == 0)) && fsck.ext4 -fn /dev/mapper/snap || status=1
	dmuctl detach snap || return
	dmuctl snapshot --origin origin.img --store store.cow snap || return
	fsck.ext4 -fn /dev/mapper/snap &&
		mount /dev/mapper/snap mnt &&
		diff -rq -x 's*' $headers mnt/headers &&
		umount mnt || status=1
	dmuctl detach snap
	return $status
}

ktap_print_header
ktap_set_plan 12
check "linear, 4k blocks, mixed sizes and depths" load_linear 4k no
check "linear, 4k blocks that are pushed" load_linear 4k yes
check "linear, 1m blocks" load_linear 1m no
check "cow, 4k blocks, and again after a restart" load_cow 4k
check "cow, 64k blocks, and again after a restart" load_cow 64k
check "cow, 512 byte blocks, and again after a restart" load_cow 512
check "cow, parts of blocks" partial_writes
check "cow, blocks that are told ahead" told_ahead
check "cow, daemon killed again and again" killed_cow
check "linear, daemon killed again and again" killed_linear
check "cow, full store" full_store
check "cow, a filesystem" filesystem
cd /
rm -rf "$work"
ktap_finished
