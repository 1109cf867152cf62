# Builds the fuzzers with clang's libFuzzer under ASan and UBSan; called by run.sh.
#   make -f tests/fuzz/fuzz.mk [NAMES="unit values"]   build-fuzz/fuzz_NAME, build-fuzz/NAME.dict
O       := build-fuzz
CC      := $(if $(shell command -v ccache),ccache )clang
NAMES   ?= $(patsubst tests/fuzz/fuzz_%.c,%,$(sort $(wildcard tests/fuzz/fuzz_*.c)))
FLAGS   := -std=gnu11 -D_GNU_SOURCE -O1 -g -Iinclude -Isupervisord -I. -Itests -MMD -MP -fno-strict-aliasing \
           -Wno-unknown-warning-option -fno-omit-frame-pointer \
           -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=undefined \
           -fsanitize-coverage-ignorelist=tests/fuzz/nocoverage.txt
LIBS    := $(shell sed -n "s/^LIBS *:= *//p" Makefile) -lcurl
DIRS    := $(filter-out net,$(notdir $(patsubst %/,%,$(wildcard supervisord/*/))))
objs     = $(patsubst %.c,$O/%.o,$(wildcard $(1)))
A       := $(foreach d,$(DIRS),$O/$d.a) $O/net.a $O/ctl.a

all: $(foreach n,$(NAMES),$O/fuzz_$n)
$O/%.o: %.c tests/fuzz/fuzz.mk tests/fuzz/nocoverage.txt
	@mkdir -p $(@D)
	@$(CC) $(FLAGS) -c -o $@ $<
define archive
$O/$(1).a: $(2)
	@rm -f $$@; ar Drcs $$@ $$^
endef
$(foreach d,$(DIRS),$(eval $(call archive,$d,$(call objs,supervisord/$d/*.c))))
$(eval $(call archive,net,$(filter-out %/main.o,$(call objs,supervisord/net/*.c supervisord/net/lb/*.c))))
$(eval $(call archive,ctl,$(filter-out %/main.o,$(call objs,ctl/*.c))))
$O/fuzz_%: $O/tests/fuzz/fuzz_%.o $A
	@clang -fsanitize=fuzzer,address,undefined -o $@ $< -Wl,--start-group $A -Wl,--end-group $(LIBS)

# Words of the tables, as libFuzzer's dictionaries.
$O/unit.dict: include/stayd/directives.def
	@grep -oE '^[A-Z_]*ROW\(("[A-Za-z-]+", *)?[A-Za-z0-9]+,' $< | \
	sed -E 's/^[A-Z_]*ROW\(("([A-Za-z-]+)", *)?([A-Za-z0-9]+),/"[\2]\\x0a"\n"\3="/; s/^"\[\]\\x0a"\n//' | sort -u > $@
.PHONY: all
.SECONDARY:
-include $(shell find $O -name '*.d' 2>/dev/null)
