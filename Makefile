# stayd. Two commands are all one needs: `make demo` and `make check`; both install what is missing.
#   make            build/stayd build/stayctl (static) and build/stay-net (dynamic)
#   make SAN=1 ...  everything under ASan and UBSan, in build-san/
#   make check STRICT=1   without a second run of an end-to-end test that failed; TESTS="e2e unit" only these
#   make fault      every system call of the daemon fails once: hours; CELLS=2000 a sample
#   make NEXT=1 ... the version after this one, in build-next/: what upgrade tests go to and come back from
#   make sim SECONDS=60 [SEED=S] [JOBS=2], make fuzz SECONDS=60, make bench, make install DESTDIR=... PREFIX=/usr
SHELL   := /bin/bash
B       := build$(if $(SAN),-san)$(if $(NEXT),-next)
PREFIX  ?= /usr
CC      ?= gcc
PKGS    := build-essential pkg-config libcap-dev libseccomp-dev libinih-dev libjansson-dev libmd-dev check \
           libcurl4-openssl-dev python3 haproxy mandoc iproute2 procps strace tini catatonit
WARN    := -Wall -Wextra -Wshadow -Wswitch-enum -Wstrict-prototypes -Wmissing-prototypes -Wvla \
           -Wformat=2 $(if $(CI),-Werror)
CFLAGS  ?= -O2 -g
CFLAGS  += -std=gnu11 -D_GNU_SOURCE $(WARN) -Iinclude -Isupervisord -MMD -MP -ffile-prefix-map=$(CURDIR)=. \
           -fno-strict-aliasing $(if $(NEXT),-DSTAYD_NEXT) \
           $(if $(SAN),-fsanitize=address$(,)undefined -fno-omit-frame-pointer -fno-sanitize-recover=undefined, \
           -D_FORTIFY_SOURCE=2 -fstack-protector-strong -fcf-protection -ffunction-sections -fdata-sections)
,       := ,
LDFLAGS += $(if $(SAN),-fsanitize=address$(,)undefined,-Wl$(,)-z$(,)relro$(,)-z$(,)now -Wl$(,)--gc-sections -Wl$(,)--build-id=sha1)
STATIC   = $(if $(SAN),,-static)
LIBS    := -lcap -lseccomp -linih -ljansson -lmd
DIRS    := core control logd launch keeper init table model unit confine base
ARCH    := $(foreach d,$(DIRS),$(if $(wildcard supervisord/$d/*.c),$B/$d.a))
objs     = $(patsubst %.c,$B/%.o,$(wildcard $(1)))
Q       := $(if $(V),,@)

all: $(if $(wildcard supervisord/main.c),$B/stayd) $(if $(wildcard ctl/*.c),$B/stayctl) \
     $(if $(wildcard supervisord/net/main.c),$B/stay-net)

$B/%.o: %.c Makefile
	@mkdir -p $(@D)
	$(Q)$(CC) $(CFLAGS) -c -o $@ $<
define archive
$B/$(1).a: $(call objs,supervisord/$(1)/*.c)
	$(Q)rm -f $$@; ar Drcs $$@ $$^
endef
$(foreach d,$(DIRS),$(eval $(call archive,$d)))
$B/stayd: $(call objs,supervisord/main.c) $(ARCH)
	$(Q)$(CC) $(STATIC) $(LDFLAGS) -o $@ $< -Wl,--start-group $(ARCH) -Wl,--end-group $(LIBS)
$B/stayctl: $(call objs,ctl/*.c) $B/unit.a $B/base.a
	$(Q)$(CC) $(STATIC) $(LDFLAGS) -o $@ $^ $(LIBS)
$B/stay-net: $(call objs,supervisord/net/*.c supervisord/net/lb/*.c) $B/confine.a $B/base.a
	$(Q)$(CC) $(LDFLAGS) -o $@ $^ -lcurl -ljansson

# ---- tests: every file is a program that prints TAP; tests/run.py runs them and counts ----
UNIT  := $(patsubst tests/unit/%.c,$B/tests/%,$(wildcard tests/unit/test_*.c))
TOOLS := $(patsubst tests/tools/%.c,$B/tests/tools/%,$(wildcard tests/tools/*.c))
FUZZ  := $(patsubst tests/fuzz/fuzz_%.c,$B/tests/replay_%,$(wildcard tests/fuzz/fuzz_*.c))
NETOB  = $(filter-out $B/supervisord/net/main.o,$(call objs,supervisord/net/*.c supervisord/net/lb/*.c))
CTLOB  = $(filter-out $B/ctl/main.o,$(call objs,ctl/*.c))
$B/tests/test_net_%: LIBX = $(NETOB) -lcurl
$(filter $B/tests/test_net_%,$(UNIT)): $(NETOB)
$B/tests/test_ctl_%: LIBX = $(CTLOB)
$(filter $B/tests/test_ctl_%,$(UNIT)): $(CTLOB)
$B/tests/test_%: $B/tests/unit/test_%.o $B/tests/unit/check_main.o $(ARCH)
	$(Q)$(CC) $(LDFLAGS) -o $@ $< $B/tests/unit/check_main.o $(LIBX) -Wl,--start-group $(ARCH) -Wl,--end-group $(LIBS) -lcheck -lsubunit -lm -lrt -pthread
# Archives, so that a target takes what it needs and may stand in for the rest.
$B/tests/parts.a: $(NETOB) $(CTLOB)
	$(Q)mkdir -p $(@D); rm -f $@; ar Drcs $@ $^
$B/tests/replay_%: $B/tests/fuzz/fuzz_%.o $B/tests/fuzz/replay.o $B/tests/parts.a $(ARCH)
	$(Q)$(CC) $(LDFLAGS) -o $@ $< $B/tests/fuzz/replay.o -Wl,--start-group $B/tests/parts.a $(ARCH) -Wl,--end-group $(LIBS) -lcurl
$B/sim: $(call objs,tests/sim/*.c) $B/model.a $B/unit.a $B/base.a
	$(Q)$(CC) $(LDFLAGS) -o $@ $^ $(LIBS)
# Tools run inside sandboxes as the program under test: static and uninstrumented, also with SAN=1.
$B/tests/tools/%: override SAN :=
$B/tests/tools/%: $B/tests/tools/%.o
	@mkdir -p $(@D)
	$(Q)$(CC) $(STATIC) $(LDFLAGS) -o $@ $< -lm
$B/tests/unit/%.o $B/tests/fuzz/%.o $B/tests/sim/%.o: CFLAGS += -Itests
$B/tests/fuzz/%.o: CFLAGS += -I.
.SECONDARY:

# The same objects, linked so that each reference to a function of calls.def goes through inject.c.
FAULTY := $B/fault/stayd $B/fault/stay-net
INJECT := $B/tests/fault/inject.o
WRAP    = $(foreach c,$(shell grep -o '^CALL.[a-z0-9_]*' tests/fault/calls.def | cut -c6-),-Wl$(,)--wrap=$c)
$(FAULTY): $(INJECT) tests/fault/calls.def
$B/fault/stayd: $B/stayd
	@mkdir -p $(@D)
	$(Q)$(CC) $(STATIC) $(LDFLAGS) $(WRAP) -o $@ $B/supervisord/main.o $(INJECT) -Wl,--start-group $(ARCH) -Wl,--end-group $(LIBS)
$B/fault/stay-net: $B/stay-net
	@mkdir -p $(@D)
	$(Q)$(CC) $(LDFLAGS) $(WRAP) -o $@ $(call objs,supervisord/net/*.c supervisord/net/lb/*.c) $(INJECT) $B/supervisord/launch/clone.o $B/confine.a $B/base.a -lcurl -ljansson

deps:
	@packaging/deps.sh $(PKGS)
tests: all $(FAULTY) $(UNIT) $(TOOLS) $(FUZZ) $(if $(wildcard tests/sim/*.c),$B/sim)
# The next version: the same sources with STAYD_NEXT, where records and frames have one field more.
next:
	$(Q)$(MAKE) --no-print-directory NEXT=1 $(addprefix build$(if $(SAN),-san)-next/,stayd stay-net)
check: deps
	$(Q)$(MAKE) --no-print-directory -j$$(nproc) tests next
	$(Q)/usr/bin/python3 tests/run.py --build $B $(if $(STRICT),--strict) $(TESTS)
demo: deps
	$(Q)$(MAKE) --no-print-directory -j$$(nproc) all $(TOOLS)
	$(Q)/usr/bin/python3 tests/demo/demo.py --build $B
bench: deps
	$(Q)$(MAKE) --no-print-directory -j$$(nproc) all
	$(Q)PEER_STAYD_DIR=$(CURDIR)/$B /usr/bin/python3 tests/bench/bench.py run --peers limit,stayd --quick
sim: deps $B/sim
	$(Q)tests/sim/night.sh $B/sim $(or $(SECONDS),60) $(or $(JOBS),1) $(SEED)
fuzz: deps
	@packaging/deps.sh clang libclang-rt-14-dev
	$(Q)tests/fuzz/run.sh $(or $(SECONDS),60)
fault: deps
	$(Q)$(MAKE) --no-print-directory -j$$(nproc) all $(FAULTY) $(TOOLS)
	$(Q)/usr/bin/python3 tests/fault/matrix.py --build $B $(if $(CELLS),--cells $(CELLS))
layers:
	@/usr/bin/python3 tests/layers.py
purity: $B/model.a $B/keeper.a $B/init.a $B/table.a $B/supervisord/base/bare.o $B/supervisord/base/pack.o
	@for a in $^; do /usr/bin/python3 tests/purity.py $$a || exit 1; done
fmt:
	clang-format -i $$(git ls-files '*.c' '*.h')
install: all
	install -s -D -m755 -t $(DESTDIR)$(PREFIX)/bin $B/stayd $B/stayctl
	install -s -D -m755 -t $(DESTDIR)$(PREFIX)/lib/stayd $B/stay-net
	install -D -m644 -t $(DESTDIR)$(PREFIX)/share/man/man8 supervisord/stayd.8
	install -D -m644 -t $(DESTDIR)$(PREFIX)/share/man/man1 ctl/stayctl.1
	install -D -m644 -t $(DESTDIR)$(PREFIX)/share/man/man5 units/stayd.unit.5
clean:
	rm -rf build build-*
.DELETE_ON_ERROR: # half a program is none
.PHONY: all deps tests next check demo bench sim fuzz fault layers purity fmt install clean
-include $(shell find $B -name '*.d' 2>/dev/null)
