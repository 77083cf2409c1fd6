#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# dmuctl as a person uses it: what it does, what it says when it cannot, and that
# nothing is left behind then.
set -u
# shellcheck source-path=SCRIPTDIR source=lib/tools.sh
. "$(dirname "$(readlink -f "$0")")/tools.sh"

truncate -s 16M origin.img
make_image other.img 16

# What a failed command may have left: devices, loops, daemons, sockets, nodes. The
# programs that list these would take longer than what is tested.
leftovers()
{
	local file line

	for file in /sys/block/dm-*/dm/name /sys/block/loop*/loop/backing_file \
		    /proc/[1-9]*/comm; do
		# A process may have gone since.
		read -r line 2> /dev/null < "$file" || continue
		[[ $file != /proc/* || $line == dmud ]] && echo "$file: $line"
	done
	for file in /run/dm-userspace/* /dev/dm-userspace*; do
		[[ ! -S $file && ! -c $file ]] || echo "$file"
	done
}

# STATUS REGEX COMMAND...: it fails so, and says one sentence like that.
refuses()
{
	local status=$1 regex=$2 said got
	shift 2

	said=$("$@" 2>&1)
	got=$?
	printf '%s: status %d, said: %s\n' "$*" $got "$said"
	((got == status)) && [[ $said != *$'\n'* && $said =~ $regex ]]
}

# COMMAND...: succeeds, and leaves everything as it was. Programs take long to
# start in a VM: this is asked once for all that a test wants refused.
unchanged()
{
	local before

	before=$(leftovers)
	"$@" || return
	[[ $(leftovers) == "$before" ]] || {
		leftovers
		return 1
	}
}

# As refuses, and everything is as it was.
refused()
{
	unchanged refuses "$@"
}

snapshot()
{
	dmuctl snapshot --origin origin.img --store store.cow "$@"
}

bad_commands()
{
	refuses 2 'which command' dmuctl &&
		refuses 2 'no command frobnicate' dmuctl frobnicate &&
		refuses 2 'needs --origin and --store' dmuctl snapshot work &&
		refuses 2 'needs one NAME' dmuctl snapshot --origin a --store b &&
		refuses 2 'power of two' snapshot --block-size 5000 work &&
		refuses 2 'is a size such as' snapshot --store-size 1x work &&
		refuses 2 'letters and digits' snapshot a/b &&
		refuses 2 'letters and digits' snapshot 'a~b' &&
		refuses 2 'letters and digits' snapshot a,b &&
		refuses 2 'letters and digits' snapshot $'na\xc3\xafve' &&
		refuses 2 'letters and digits' snapshot 'a b' &&
		refuses 2 'begin with' snapshot .a &&
		refuses 2 '1 to 84' snapshot "$(printf 'x%.0s' {1..85})" &&
		refuses 2 'multiple of 512' dmuctl attach --policy linear \
			--device other.img --size 1000 work &&
		refuses 2 '-o takes NAME=VALUE, not offset' dmuctl attach \
			--policy linear --device other.img -o offset work &&
		refuses 2 'needs --policy' dmuctl attach --policy '' \
			--device other.img work &&
		refuses 2 'is a size such as' dmuctl grow --size 0 work &&
		refuses 2 'needs one NAME' dmuctl status &&
		refuses 1 'no mapped device nosuch' dmuctl status nosuch &&
		refuses 1 'no mapped device nosuch' dmuctl detach nosuch &&
		refuses 1 'no mapped device nosuch' dmuctl grow nosuch &&
		refuses 1 'no mapped device nosuch' dmuctl revive nosuch
}

bad_files()
{
	mkfs.ext4 -q -F other.img && : > empty.img || return
	refuses 1 'nosuch.img: No such file' \
		dmuctl snapshot --origin nosuch.img --store other.img work &&
		refuses 1 'no store store.cow: --store-size' snapshot work &&
		refuses 1 'are the same' \
			dmuctl snapshot --origin other.img --store other.img work &&
		refuses 1 'holds something' \
			dmuctl snapshot --origin origin.img --store other.img work &&
		refuses 1 'too small|no room' snapshot --store-size 4096 work &&
		[[ ! -e store.cow ]] &&
		refuses 1 'is empty' \
			dmuctl snapshot --origin empty.img --store other.img work &&
		refuses 1 'neither a block device nor a file' \
			dmuctl snapshot --origin /dev/null --store other.img work &&
		refuses 1 'neither a block device nor a file' \
			dmuctl snapshot --origin /tmp --store other.img work &&
		fsck.ext4 -fn other.img
}

# A policy that does not want these devices, or that is not there.
bad_policies()
{
	refuses 1 'nosuch' dmuctl attach --policy nosuch --device other.img vol &&
		refuses 1 'two devices' dmuctl attach --policy cow --device other.img vol &&
		refuses 1 'no such option|option' \
			dmuctl attach --policy linear --device other.img -o x=y vol
}

# From an offset on, and no further than the disk goes. The name is as long as may be.
a_part_of_a_disk()
{
	local status vol

	vol=$(printf 'v%.0s' {1..84})
	dmuctl attach --policy linear --device other.img --size 15M -o offset=2048 \
		"$vol" || return
	(($(blockdev --getsize64 "/dev/mapper/$vol") == 15 << 20)) &&
		cmp <(tail -c 15M other.img) "/dev/mapper/$vol"
	status=$?
	dmuctl detach "$vol" && return $status
}

help_and_version()
{
	local command

	for command in '' snapshot grow attach detach list status revive; do
		# shellcheck disable=SC2086 # the empty one is no word
		dmuctl $command --help | grep -q '^Usage: dmuctl' || return
	done
	dmuctl --version | grep -q '^dmuctl [0-9]'
}

a_snapshot()
{
	[[ $(dmuctl list) == 'There are no dm-userspace devices.' ]] || return
	[[ $(snapshot --store-size 32M --block-size 4k work) == /dev/mapper/work ]] ||
		return
	dmuctl list | grep -Eq '^work +cow +16M +4K +served$' || return
	dmuctl list --json | python3 -c 'import json, sys
[d] = json.load(sys.stdin)
assert d["name"] == "work" and d["size"] == 16 << 20 and d["block_size"] == 4096, d
assert d["state"] == "served" and d["policy"] == "cow", d' || return
	dmuctl status --json work | python3 -c 'import json, sys
d = json.load(sys.stdin)
assert d["daemon"]["policy_status"]["blocks_used"] == 0, d
assert d["kernel"]["remaps"] >= 0 and d["path"] == "/dev/mapper/work", d' || return
	dmuctl status work | grep -q 'origin.img' || return
	[[ $(stat -c '%a %u' /dev/dm-userspace*) == '600 0' ]]
}

# While it is there.
clashes()
{
	refuses 1 'a mapped device work already' snapshot work &&
		refuses 1 'store.cow is in use already' snapshot twin &&
		refuses 1 'origin.img is in use already' \
			dmuctl snapshot --origin other.img --store origin.img twin &&
		refuses 1 'store.cow is in use already' \
			dmuctl attach --policy linear --device store.cow twin &&
		refuses 1 'serves|in use|already' dmuctl revive work || return
	exec 9< /dev/mapper/work
	refuses 1 'in use .1 have it open.: unmount' dmuctl detach work
	local status=$?

	exec 9<&-
	return $status
}

# One origin may have several snapshots, and each is its own.
two_snapshots()
{
	dmuctl snapshot --origin origin.img --store store2.cow --store-size 32M twin ||
		return
	printf one | dd of=/dev/mapper/work conv=sync,fsync bs=512 status=none
	printf two | dd of=/dev/mapper/twin conv=sync,fsync bs=512 status=none
	[[ $(head -c 3 /dev/mapper/work) == one ]] &&
		[[ $(head -c 3 /dev/mapper/twin) == two ]] &&
		dmuctl detach twin
}

# COMMAND...: one of two at a time; the other says why not, and undoes no more
# than its own.
raced()
{
	local loops=()

	"$@" left > left.said 2>&1 &
	"$@" right > right.said 2>&1
	local right=$? left

	wait $!
	left=$?
	cat left.said right.said
	((left + right == 1)) || return
	grep -q 'is in use already' left.said right.said || return
	mapfile -t loops < <(losetup -n -O BACK-FILE | grep /raced.cow)
	((${#loops[@]} == 1)) && [[ ${loops[0]} == "$work/raced.cow" ]] || return
	if ((left == 0)); then
		dmuctl detach left
	else
		dmuctl detach right
	fi
}

# Two daemons on one store would give the same places to different blocks.
races_for_a_store()
{
	local i rounds

	rounds=$(often 24)
	for ((i = 0; i < rounds; i++)); do
		((i % 3 == 2)) || rm -f raced.cow
		raced dmuctl snapshot --origin origin.img --store raced.cow \
			--store-size 8M || return
	done
	rm raced.cow
}

# Who has it open for a moment only is waited for.
detach_waits()
{
	local pid name='A#+-.:=@_z9'

	[[ $(dmuctl snapshot --origin origin.img --store store2.cow "$name") == \
		"/dev/mapper/$name" && -b /dev/mapper/$name ]] || return
	exec 9< "/dev/mapper/$name"
	dmuctl detach "$name" 9<&- &
	pid=$!
	# Until it has looked, and is about to look again.
	until [[ $(< /proc/$pid/wchan) == *nanosleep* ]]; do
		kill -0 $pid || break
	done
	exec 9<&-
	wait $pid
}

# The daemon dies; I/O that needs it waits, and goes on with the next.
revive()
{
	pkill -KILL -x dmud || return
	dmuctl list | grep -q 'no daemon' || return
	dmuctl status work | grep -q 'does not answer' || return
	dd if=/dev/urandom of=/dev/mapper/work bs=4k seek=100 count=4 oflag=direct \
		status=none &
	dmuctl revive work && wait $! && dmuctl list | grep -q served
}

# A daemon that is stuck does not have dmuctl stuck.
stuck_daemon()
{
	local said

	pkill -STOP -x dmud || return
	said=$(timeout -s KILL 60 dmuctl status work)
	pkill -CONT -x dmud
	grep -q 'does not answer' <<< "$said" && grep -q 'blocks remembered' <<< "$said"
}

# What the policy says while the daemon starts is kept, too.
logged_while_starting()
{
	local logger

	rm -f log.txt store3.cow
	python3 -c 'import signal, socket
signal.alarm(60)
log = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
log.bind("/dev/log")
line = b""
while b"formatted" not in line:
    line = log.recv(2000)
print(line.decode())' > log.txt &
	logger=$!
	until [[ -S /dev/log ]]; do
		kill -0 $logger || return
	done
	dmuctl snapshot --origin origin.img --store store3.cow --store-size 8M twin &&
		wait $logger && grep 'dmud.*: store .*: formatted' log.txt
	local status=$?

	rm -f /dev/log
	dmuctl detach twin && return $status
}

# A path may hold any bytes; JSON may not.
paths_in_json()
{
	local origin=$'\xfforigin \xc3\xa4 \xed\xa0\x80\xc0\xaf.img' status

	cp origin.img "$origin" &&
		dmuctl snapshot --origin "$origin" --store store3.cow twin || return
	dmuctl list --json | python3 -c 'import json, sys
[path] = [d["devices"][0] for d in json.loads(sys.stdin.buffer.read().decode())
          if d["name"] == "twin"]
assert path.endswith("/\ufffdorigin \u00e4 \ufffd\ufffd\ufffd\ufffd\ufffd.img"), ascii(path)'
	status=$?
	dmuctl detach twin && return $status
}

# It is the file in use that grows, and no other that has its name here.
grow_knows_the_file()
{
	local status

	dmuctl snapshot --origin origin.img --store store3.cow twin || return
	echo mine > mine.img
	mount --bind mine.img store3.cow &&
		refuses 1 'is another file here than the one in use' \
			dmuctl grow --size 16M twin
	status=$?
	umount store3.cow
	((status == 0)) && [[ $(< mine.img) == mine ]] && mv store3.cow moved.cow &&
		dmuctl grow --size 16M twin &&
		(($(status_of twin store_bytes) == 16 << 20)) || status=1
	dmuctl detach twin && return $status
}

# Its key is the name that it was made with, whatever it is called now.
revive_renamed()
{
	dmsetup rename work other || return
	pkill -KILL -x dmud || return
	dmuctl list | grep -Eq '^other +cow .*no daemon$' && dmuctl revive other &&
		dmuctl list | grep -Eq '^other +cow .*served$' &&
		refuses 1 'key work .* device other' dmuctl snapshot \
			--origin origin.img --store store2.cow work &&
		[[ $(head -c 3 /dev/mapper/other) == one ]] &&
		dmsetup rename other work
}

# What somebody has suspended stays so until they resume it.
revive_suspended()
{
	pkill -KILL -x dmud || return
	dmsetup suspend --noflush work && dmuctl revive work 2> said || return
	grep -q 'work is suspended: .* "dmsetup resume work"' said &&
		[[ $(dmsetup info -c --noheadings -o suspended work) == Suspended ]] &&
		dmsetup resume work && dmuctl list | grep -q served &&
		[[ $(head -c 3 /dev/mapper/work) == one ]]
}

# One whose maker got no further than to load its table.
revive_unfinished()
{
	local table uuid

	table=$(dmsetup table work | sed 's/ work / half /')
	uuid=$(dmsetup info -c --noheadings -o uuid work | sed 's/work$/half/')
	dmsetup create half --uuid "$uuid" --notable &&
		dmsetup load half --table "$table" && dmuctl detach work &&
		dmuctl revive half && dmuctl list | grep -q 'half .*served' &&
		[[ $(head -c 3 /dev/mapper/half) == one ]] && dmuctl detach half &&
		snapshot work
}

geometry_is_kept()
{
	dmuctl detach work || return
	refused 1 'blocks of 4096 bytes, not 65536' snapshot --block-size 64k work || return
	truncate -s 24M larger.img
	refused 1 'sectors' dmuctl snapshot --origin larger.img --store store.cow work ||
		return
	snapshot work && [[ $(head -c 3 /dev/mapper/work) == one ]]
}

# FILE: its first sector is another.
rewrite()
{
	dd if=/dev/urandom of="$1" bs=512 count=1 conv=notrunc status=none
}

known()
{
	dmuctl snapshot --store known.cow "$@" twin
}

refused_origins()
{
	local other='made for an origin with other contents: .*another.img .*--accept-origin'

	refuses 1 "$other" known --origin another.img &&
		refuses 1 "$other" known --origin another.img --force &&
		refuses 1 'with other contents: .*origin=accept' dmuctl attach \
			--policy cow --device another.img --device known.cow twin
}

# The likeliest mistake: the store of one image, and another image, or the same one
# after it was mounted.
store_knows_its_origin()
{
	make_image one.img 4 && cp one.img another.img && rewrite another.img || return
	known --origin one.img --store-size 16M && dmuctl detach twin &&
		known --origin one.img && dmuctl detach twin &&
		unchanged refused_origins &&
		known --origin another.img --accept-origin && dmuctl detach twin &&
		known --origin another.img || return
	# What is in use goes on, and is refused the next time.
	pkill -KILL -x dmud && rewrite another.img && dmuctl revive twin &&
		dmuctl revive work &&
		cmp /dev/mapper/twin another.img && dmuctl detach twin &&
		unchanged refused_origins &&
		refused 1 'made for an origin with other contents' known --origin one.img
}

# Interrupted while the daemon is starting: it is kept from it by a lock.
interrupted()
{
	dmuctl detach work || return
	local before pid

	before=$(leftovers)
	dmuctl snapshot --origin origin.img --store store.cow slow > out 2>&1 &
	pid=$!
	kill -INT $pid 2> /dev/null
	wait $pid
	if [[ $(dmsetup ls --target userspace) == slow* ]]; then
		echo "it was too late to interrupt"
		dmuctl detach slow || return
	fi
	[[ $(leftovers) == "$before" ]]
}

# ORIGIN STORE: of "work", under another name, in whatever role.
refused_as_store()
{
	local store='is the store of work already: .*dmuctl revive work'

	refuses 1 "$store" dmuctl snapshot --origin "$1" --store "$2" twin &&
		refuses 1 "$store" dmuctl snapshot --origin "$2" --store store2.cow twin &&
		refuses 1 "$store" dmuctl attach --policy linear --device "$2" twin &&
		refuses 1 'in use already, by work: a store' \
			dmuctl snapshot --origin other.img --store "$1" twin &&
		refuses 1 "$store" \
			dmuctl attach --policy cow --device "$1" --device "$2" twin
}

# No other device on its store, also where no daemon has locked it.
store_is_taken()
{
	local a b status

	a=$(losetup -f --show origin.img) && b=$(losetup -f --show store.cow) || return
	dmuctl snapshot --origin "$a" --store "$b" work &&
		unchanged refused_as_store "$a" "$b" &&
		pkill -KILL -x dmud && unchanged refused_as_store "$a" "$b" &&
		# An origin is anybody's.
		dmuctl snapshot --origin "$a" --store store2.cow twin &&
		dmuctl detach twin && dmuctl revive work &&
		[[ $(head -c 3 /dev/mapper/work) == one ]] && dmuctl detach work
	status=$?
	losetup -d "$a" "$b"
	return $status
}

by_device()
{
	local a b status

	a=$(losetup -f --show origin.img) && b=$(losetup -f --show store.cow) || return
	dmsetup create base --table "0 65536 linear $b 0" &&
		dmuctl snapshot --origin "$a" --store /dev/mapper/base work &&
		[[ $(head -c 3 /dev/mapper/work) == one ]] &&
		refused 1 'leave out --size' dmuctl grow --size 64M work &&
		truncate -s 48M store.cow && losetup -c "$b" &&
		dmsetup load base --table "0 98304 linear $b 0" &&
		dmsetup resume base && dmuctl grow work &&
		(($(status_of work store_bytes) == 48 << 20)) &&
		dmuctl detach work
	status=$?
	dmsetup remove base
	losetup -d "$a" "$b"
	return $status
}

# Overlayfs of Linux 6.1 says that direct I/O works, also where its files lie on
# tmpfs, which has none there.
over_an_overlay()
{
	local status

	mkdir layers && mount -t tmpfs tmpfs layers &&
		mkdir layers/{lower,upper,work,merged} &&
		mount -t overlay -o "lowerdir=layers/lower,upperdir=layers/upper,workdir=layers/work" \
			overlay layers/merged || return
	make_image layers/merged/origin.img 4
	dmuctl snapshot --origin layers/merged/origin.img \
		--store layers/merged/store.cow --store-size 16M layered &&
		printf new | dd of=/dev/mapper/layered conv=sync,fsync bs=512 \
			status=none &&
		[[ $(head -c 3 /dev/mapper/layered) == new ]] &&
		cmp --ignore-initial=512 /dev/mapper/layered \
			layers/merged/origin.img &&
		dmuctl detach layered
	status=$?
	umount layers/merged layers
	return $status
}

# What a loop device costs is halved by it.
on_a_disk()
{
	local loop status

	# Not mount -o loop: who keeps it open may not mount it on some kernels.
	truncate -s 64M disk.img && mkfs.ext4 -q disk.img && mkdir -p disk &&
		loop=$(losetup --find --show disk.img) || return
	mount "$loop" disk || {
		losetup -d "$loop"
		return 1
	}
	dmuctl snapshot --origin origin.img --store disk/store.cow \
		--store-size 32M direct &&
		losetup -n -O BACK-FILE,DIO | tee /dev/stderr |
			grep -Eq '/disk/store.cow +1$' &&
		dmuctl detach direct
	status=$?
	umount disk && losetup -d "$loop"
	return $status
}

force_overwrites()
{
	dmuctl snapshot --origin origin.img --store other.img --force work &&
		dmuctl detach work
}

nothing_left()
{
	local left

	left=$(leftovers)
	[[ -z $left ]] || {
		echo "$left"
		return 1
	}
}

ktap_print_header
ktap_set_plan 28
check "wrong command lines are refused" unchanged bad_commands
check "files that will not do are refused, and kept" unchanged bad_files
check "what the policy refuses is undone" unchanged bad_policies
check "a part of a disk" a_part_of_a_disk
check "every command has help" help_and_version
check "a snapshot, its list and its status" a_snapshot
check "what is in use is not used twice" unchanged clashes
check "two snapshots of one origin" two_snapshots
check "detach waits for who has it open for a moment" detach_waits
check "two snapshots that want one store at a time" races_for_a_store
check "revive starts a new daemon" revive
check "a daemon that is stuck" stuck_daemon
check "the log of a daemon that starts" logged_while_starting
check "paths that are no UTF-8" paths_in_json
check "grow makes no other file larger" grow_knows_the_file
check "revive of a device that was renamed" revive_renamed
check "revive leaves suspended what was suspended" revive_suspended
check "revive resumes what was never finished" revive_unfinished
check "a store keeps its geometry and its contents" geometry_is_kept
check "a store knows its origin" store_knows_its_origin
check "an interruption undoes what was done" interrupted
check "a store that is a device is not used twice" store_is_taken
check "block devices as origin and store" by_device
check "files where direct I/O is claimed and does not work" over_an_overlay
check "direct I/O where it works" on_a_disk
check "--force overwrites something else" force_overwrites
check "nothing is left at the end" nothing_left
check "without root it says so" refused 1 'you have to be root' \
	setpriv --reuid=65534 --clear-groups dmuctl list
cd /
rm -rf "$work"
ktap_finished
