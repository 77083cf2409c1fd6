# SPDX-License-Identifier: GPL-2.0-only
#
# The one door: make help says what there is. Kernel builds read Kbuild, not this.

SHELL := /bin/bash
.DEFAULT_GOAL := all

TOP := $(CURDIR)
BUILD := $(TOP)/build
KVER ?= $(shell uname -r)
KDIR ?= /lib/modules/$(KVER)/build

# A build of its own for each kernel: sources are linked there, so that what
# one kernel's build leaves behind is nothing to the next one's.
MODULE_DIR := $(BUILD)/module/$(KVER)
SOURCES := Kbuild $(wildcard *.c *.h) $(wildcard include/linux/*.h)

## all: build the module for the running kernel, or for KVER=, and the tools
all: module tools

## module: build the module only
module: $(SOURCES)
	@selftests/need-headers "$(KDIR)" "$(KVER)"
	@mkdir -p $(MODULE_DIR)/include/linux
	@for f in $(SOURCES); do ln -sfn $(TOP)/$$f $(MODULE_DIR)/$$f; done
	$(MAKE) -C $(KDIR) M=$(MODULE_DIR) modules

## tools: build the library, the daemon, its policies and dmuctl
tools:
	$(MAKE) -C tools

## install: install the tools, and the module by way of dkms if it is there
install: tools
	$(MAKE) -C tools install
	selftests/dkms install

## demo: see it work: a snapshot of a real filesystem, in a VM (installs what it needs)
demo:
	selftests/demo

## check: lint, unit tests, and all selftests on both kernels (installs what it needs)
check:
	selftests/check

## debug-kernel: build the kernel of check-debug, kept outside of the checkout; KCSAN=1: that of check-kcsan
debug-kernel:
	selftests/debug-kernel/build $(if $(KCSAN),kcsan,debug)

## check-debug: all selftests on a kernel with KASAN, lockdep, kmemleak and others
check-debug:
	selftests/check debug

## check-kcsan: selftests on a kernel that finds data races
check-kcsan:
	selftests/check kcsan

## drill: an hour and a half of faults on the debug kernel, of changes on both others
drill:
	selftests/check drill

## lint: checkpatch, sparse, W=1, shellcheck
lint: ; selftests/check lint

## unit: unit tests of the library, the daemon and the policies
unit: ; selftests/check unit

# KVER is another kernel's only where somebody has said so.
BENCH_KVER := $(if $(filter file,$(origin KVER)),,$(KVER))

## bench: count what I/O costs, beside the peers (KVER=; installs what it needs)
bench:
	selftests/bench/bench $(BENCH_KVER)

## bench-quick: the same with a part of the I/O
bench-quick:
	selftests/bench/bench --quick $(BENCH_KVER)

## shell: a shell in a VM, with the module loaded (KERNEL=6.1, 6.12 or a bzImage)
shell:
	selftests/shell $(KERNEL)

## clean: remove what was built
clean:
	rm -rf $(BUILD)

## help: this
help:
	@echo "dm-userspace: a device-mapper target whose blocks a daemon maps"
	@echo
	@sed -n 's/^## \([a-z-]*\): /make \1\t/p' Makefile | expand -t 20
	@echo
	@echo "One test:           selftests/check 6.12 copy"
	@echo "Another kernel:     make KVER=6.1.0-56-amd64"

.PHONY: all module tools install demo check debug-kernel check-debug check-kcsan drill \
	lint unit bench bench-quick shell clean help
