# Builds a plugin in C. A project's Makefile sets NAME and SOURCES, and includes this file.
#
# TOOLCHAIN=zig, the default, needs python3 alone: the compiler is a Python package. TOOLCHAIN=clang
# takes the system's clang, with lld, wasi-libc and the compiler runtime for wasm32.

TOOLCHAIN ?= zig
JACKFIELD ?= jackfield
SDK := $(patsubst %/,%,$(dir $(lastword $(MAKEFILE_LIST))))
BUILD := build/$(TOOLCHAIN)
OUTPUT := build/$(NAME).wasm
# What the output was made with. It is newer than what was made with anything else.
MADE_WITH := build/made-with

# Where the zig toolchain is installed; several projects may share one.
VENV ?= .toolchain
PYTHON := $(VENV)/bin/python

# zig would leave assert() out of what is optimised.
COMPILE = --target=wasm32-wasi -std=gnu11 -Os -UNDEBUG -Wall -Wextra -Werror -I$(SDK)/include \
	-MMD -MP
# For the plugin's own files. A misspelt handler would be a function that nobody calls: all of them
# have a prototype.
CFLAGS += -Wmissing-prototypes

# zig's stack of its own is 16 MiB, above the memory with which a node keeps an instance.
LINK = --target=wasm32-wasi -mexec-model=reactor -Os -Wl,-z,stack-size=65536

ifeq ($(TOOLCHAIN),zig)
CC := $(PYTHON) -m ziglang cc
INSTALLED := $(VENV)/installed
# The names of functions are for the backtrace of a trap.
LINK += -g
STRIP = $(PYTHON) $(SDK)/strip.py $@
else
CC := clang
INSTALLED :=
# First in memory, as zig has it: a stack that overflows traps, and does not write over data.
LINK += -Wl,--stack-first -Wl,--strip-debug
STRIP =
endif

object = $(BUILD)/$(subst ../,up/,$(basename $(1))).o
SDK_SOURCES := $(wildcard $(SDK)/src/*.c $(SDK)/bindings/*.c)
OBJECTS := $(foreach source,$(SOURCES) $(SDK_SOURCES),$(call object,$(source)))

$(OUTPUT): $(BUILD)/core.wasm $(MADE_WITH) $(shell find wit -name '*.wit')
	"$(JACKFIELD)" componentize $< -o $@

$(BUILD)/core.wasm: $(OBJECTS) $(MADE_WITH)
	$(CC) $(LINK) -o $@ $(OBJECTS)
	$(STRIP)

# In quotes for the shell. It is written only when it changes: make looks at its time.
quoted = '$(subst ','\'',$(1))'
$(MADE_WITH): ALWAYS
	@mkdir -p $(@D)
	@printf '%s\n' $(call quoted,$(TOOLCHAIN) $(CFLAGS) $(OBJECTS)) | cmp -s - $@ || \
		printf '%s\n' $(call quoted,$(TOOLCHAIN) $(CFLAGS) $(OBJECTS)) >$@

define compile
$(call object,$(1)): $(1) Makefile $(SDK)/jackfield.mk $(INSTALLED) $(3)
	@mkdir -p $$(@D)
	$$(CC) $$(COMPILE) $(2) -c -o $$@ $$<
endef
$(foreach source,$(SOURCES),$(eval $(call compile,$(source),$$(CFLAGS),$(MADE_WITH))))
$(foreach source,$(SDK_SOURCES),$(eval $(call compile,$(source))))

# A cut-off installation leaves no mark.
$(VENV)/installed: $(SDK)/requirements.txt
	@echo "installing $$(cat $<) in $(VENV)" >&2
	python3 -m venv $(VENV)
	$(PYTHON) -m pip install --quiet --disable-pip-version-check --requirement $<
	touch $@

.DELETE_ON_ERROR:
.PHONY: clean ALWAYS
clean:
	rm -rf build

-include $(OBJECTS:.o=.d)
