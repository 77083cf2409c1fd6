# SPDX-License-Identifier: LGPL-2.1-or-later
# What the Makefiles of everything in user space share. The includer sets TOP,
# the way to the top of the checkout.

VERSION ?= 0.1.0
BUILD ?= $(TOP)/build

PREFIX ?= /usr/local
LIBDIR ?= $(PREFIX)/lib
SBINDIR ?= $(PREFIX)/sbin
INCLUDEDIR ?= $(PREFIX)/include
MANDIR ?= $(PREFIX)/share/man
PLUGINDIR ?= $(LIBDIR)/dmud
INSTALL ?= install

CFLAGS ?= -O2 -g
WARNINGS = -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes \
	-Wformat=2 -Werror=implicit
# make SANITIZE=address,undefined BUILD=/elsewhere
ifdef SANITIZE
HARDENING = -fsanitize=$(SANITIZE) -fno-omit-frame-pointer \
	-fno-sanitize-recover=all
HARDENING_LDFLAGS =
else
HARDENING = -U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=2 -fstack-protector-strong \
	-fstack-clash-protection
HARDENING_LDFLAGS = -Wl,-z,relro,-z,now -Wl,-z,noexecstack
endif

# All of it is position independent: one set of objects serves the shared
# library, the static one and programs.
DMU_CFLAGS = -std=gnu11 -D_GNU_SOURCE -fPIC -MMD -MP $(WARNINGS) $(HARDENING) \
	-I$(TOP)/include $(CFLAGS)
DMU_LDFLAGS = $(HARDENING_LDFLAGS) $(LDFLAGS)

# As the kernel does it: one short line a file; V=1 shows the commands.
ifdef V
Q :=
say = @:
else
Q := @
MAKEFLAGS += --no-print-directory
say = @printf '  %-7s %s\n'
endif
