# SPDX-License-Identifier: GPL-2.0-only
#
# Sourced by the scripts that test with dmuctl, dmud and fio. They run in a VM
# whose /tmp is a disk in memory.
# shellcheck shell=bash

# In an installed tree the helpers are beside the collection.
# shellcheck source=/dev/null
. "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/../kselftest/ktap_helpers.sh"

work=$(mktemp -d /tmp/dmt.XXXXXX)
cd "$work" || exit 1

# How much of something there is to be; an eighth on a kernel that looks for
# mistakes, where all takes longer. As dmt_often().
often()
{
	if [[ -e /proc/lockdep_stats || -e /sys/kernel/debug/kcsan ]]; then
		echo $((($1 + 7) / 8))
	else
		echo "$1"
	fi
}

# NAME COMMAND...: a test that passes where the command does.
check()
{
	local name=$1 began=$EPOCHREALTIME
	shift

	if "$@" > "$work/log" 2>&1; then
		echo "# $(((${EPOCHREALTIME/./} - ${began/./}) / 1000)) ms"
		ktap_test_pass "$name"
	else
		sed 's/^/# /' "$work/log"
		dmesg | tail -n 15 | sed 's/^/# /'
		ktap_test_fail "$name"
	fi
}

images=0

# A disk image, of 16 MiB at most, that no other one is like: make_image FILE MEGABYTES
make_image()
{
	# Random numbers take long to make: each image has them from another place on.
	[[ -e random ]] || dd if=/dev/urandom of=random bs=1M count=17 status=none
	dd if=random of="$1" bs=1M count="$2" skip=$((++images * 4096)) \
		iflag=skip_bytes status=none
}

# A member of the device's status, by its name alone: status_of NAME KEY
status_of()
{
	dmuctl status --json "$1" | sed -n 's/^ *"'"$2"'": \([^,]*\),*$/\1/p'
}

# A number of the target's status line, by its place: counter_of NAME FIELD
counter_of()
{
	local fields

	read -ra fields < <(dmsetup status "$1")
	echo "${fields[$2]}"
}

# Fields of the line, as dmsetup prints it, that tests look at.
# shellcheck disable=SC2034
field_misses=7 field_errors=13

# What fio's jobs have in common. Verification reads everything back. More jobs
# follow with --name=... --stonewall: to start fio takes longer than they do.
verify()
{
	local device=$1
	shift

	fio --filename="$device" --direct=1 --verify=crc32c \
		--verify_fatal=1 --verify_dump=0 --randrepeat=1 --group_reporting \
		--output-format=terse --output=/dev/null --name=verify "$@"
}
