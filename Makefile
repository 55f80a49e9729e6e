# exitpath: builds the images (freestanding, x86-64) and the host tools.
#
#   make            everything          make images     the images
#   make tools      the host programs   make trees      the device trees
#   make install DESTDIR=... PREFIX=...
#   make MUTATE=NAME    the core broken on purpose: tests/mutants/core.tsv
#   make REHEARSE=1     the cases that no machine can run, on a pretended processor: tests/rehearsal
#
# SRC is the source folder, B the build folder; configure writes $(B)/config.mk.

# Simple variables: config.mk, included below, would become the last makefile.
ifndef SRC
SRC := $(patsubst %/,%,$(dir $(lastword $(MAKEFILE_LIST))))
endif
ifndef B
B := $(SRC)/build
endif
# One name for each file, however they are given: what make has noted about dependencies counts for
# every later make, from another folder, too.
override SRC := $(or $(realpath $(SRC)),$(SRC))
override B := $(or $(realpath $(B)),$(abspath $(B)))
# A built file that is asked for by another name: not what is a goal by itself.
GOALS := all images tools trees models mutants rehearsal install clean stale
OTHER_NAMES := $(filter-out $(GOALS) $(B)/%,$(foreach goal,$(MAKECMDGOALS),$(if $(filter $(B)/%,$(abspath \
	$(goal))),$(goal))))

CC      = gcc
HOSTCC  = gcc
LD      = ld
AR      = ar
OBJCOPY = objcopy
STRIP   = $(OBJCOPY) --strip-all
DTC     = dtc
PREFIX  = /usr/local
-include $(B)/config.mk

# What every built file depends on besides its sources.
CONFIG := $(wildcard $(B)/config.mk) $(SRC)/Makefile

LIBFDT_A ?= $(shell $(CC) -print-file-name=libfdt.a)

# `make V=1` prints the commands.
Q = $(if $(V),,@)

WARN = -Wall -Wextra -Werror -Wmissing-prototypes -Wstrict-prototypes -Wvla

# No SSE and no red zone: interrupt handlers share the stack of what they interrupt.
# Constants such as physical addresses are dereferenced on purpose.
IMAGE_CFLAGS = -std=gnu11 -O2 -g $(WARN) -ffreestanding -fno-pic -fno-pie -mno-red-zone \
	-mgeneral-regs-only -fno-asynchronous-unwind-tables -fno-stack-protector \
	-fno-strict-aliasing -fno-delete-null-pointer-checks -fcf-protection=none \
	-ffile-prefix-map=$(SRC)/= $(CASE_ORDER_CFLAGS) -I$(SRC)/lib -I$(SRC)/lib/x86 -I$(B)/gen
# The linker itself, not through the compiler: there are hundreds of links.
IMAGE_LDFLAGS = -nostdlib -static --build-id=none -z noexecstack -z max-page-size=4096 \
	--no-warn-rwx-segments --gc-sections
HOST_CFLAGS = -std=c11 -D_GNU_SOURCE -O2 -g $(WARN)

IMAGES   := $(sort $(patsubst $(SRC)/x86/%.c,%,$(wildcard $(SRC)/x86/*/*.c)))
LIB_SRC  := $(sort $(wildcard $(SRC)/lib/*.c $(SRC)/lib/x86/*/*.c))
LIB_ASM  := $(sort $(filter-out %/rom.S,$(wildcard $(SRC)/lib/x86/*/*.S)))
# What an image takes of the library: the assembly always (entry points that nothing calls), of the rest
# what it needs.
LIB_ASM_OBJ := $(patsubst $(SRC)/%.S,$(B)/obj/%.S.o,$(LIB_ASM))
LIB_OBJ  := $(patsubst $(SRC)/%.c,$(B)/obj/%.o,$(LIB_SRC))
LIB      := $(LIB_ASM_OBJ) $(B)/obj/lib.a
LDS      := $(SRC)/lib/x86/boot/image.lds
TOOLS    := $(sort $(patsubst $(SRC)/tools/%.c,%,$(wildcard $(SRC)/tools/*.c)) \
	    $(patsubst $(SRC)/tools/%/,%,$(dir $(wildcard $(SRC)/tools/*/*.c))))
TREES    := $(sort $(patsubst $(SRC)/runners/%.dts,$(B)/runners/%.dtb,$(wildcard $(SRC)/runners/*/machine.dts)))
CORE_OBJ := $(patsubst %,$(B)/obj/core/%.o,core main cpuid devices entry loader machine memory report text vm)
VMM_OBJ  := $(patsubst $(SRC)/%.c,$(B)/obj/%.o,$(wildcard $(SRC)/runners/kvm/*.c))

IMAGE_FILES := $(patsubst %,$(B)/images/%,$(IMAGES))

.PHONY: all images tools trees install clean
.PHONY: $(OTHER_NAMES)
$(foreach goal,$(OTHER_NAMES),$(eval $(goal): $(abspath $(goal)) ;))
.DELETE_ON_ERROR:
.SECONDARY:
all: images tools trees
images: $(IMAGE_FILES) $(IMAGE_FILES:=.tsv) $(IMAGE_FILES:=.takes)
# An image whose source is gone must not stay: it would be listed, run and counted.
STALE := $(filter-out $(IMAGE_FILES) $(IMAGE_FILES:=.tsv) $(IMAGE_FILES:=.takes),$(wildcard $(B)/images/*/*))
ifneq ($(STALE),)
.PHONY: stale
images: stale
stale:
	$(Q)rm -f $(STALE)
endif
LINUX_TOOLS = $(B)/boot/pvh.bin $(patsubst %,$(B)/runners/linux/%,vmm init session)
tools: $(patsubst %,$(B)/tools/%,$(TOOLS)) $(B)/boot/rom.bin $(if $(VMM_OBJ),$(B)/runners/kvm/vmm $(B)/runners/core/core) \
	$(if $(wildcard $(SRC)/runners/linux/init.c),$(LINUX_TOOLS))
trees: $(TREES)

# --- images -----------------------------------------------------------------

# The core shares an image with a guest and its cases: small before fast.
$(B)/obj/lib/x86/hv/%.o $(B)/obj/x86/hv/%.o $(B)/obj/lib/x86/vmx/fields.o: IMAGE_CFLAGS += -Os
# But for the way of every exit.
$(patsubst %,$(B)/obj/lib/x86/hv/%.o,run inject dispatch exits cpuid fpu lapic mp): IMAGE_CFLAGS += -O2
# All rules are asked at every entry of sweeps and walks: fast before small.
$(B)/obj/lib/x86/vmx/entry_rules.o $(B)/obj/lib/x86/vmx/entry_model.o: IMAGE_CFLAGS += -O3
# Many small rules, in every image of x86/vmx: small.
$(patsubst %,$(B)/obj/lib/x86/vmx/%.o,exit_model exit_reason exit_lists exit_information exit_code audit \
		audit_words): \
	IMAGE_CFLAGS += -Os
# What every image has and runs once, or only to say what is wrong.
$(patsubst %,$(B)/obj/lib/%.o,platform tree fmt x86/cpu/smp x86/vmx/vmcs x86/vmx/controls x86/vmx/capabilities): \
	IMAGE_CFLAGS += -Os

$(B)/obj/lib/%.o: $(SRC)/lib/%.c $(CONFIG)
	@mkdir -p $(@D)
	$(Q)$(CC) $(IMAGE_CFLAGS) -ffunction-sections -MMD -MP -c -o $@ $<
$(B)/obj/lib/%.S.o: $(SRC)/lib/%.S $(CONFIG)
	@mkdir -p $(@D)
	$(Q)$(CC) $(IMAGE_CFLAGS) -MMD -MP -c -o $@ $<
$(B)/obj/x86/%.o: $(SRC)/x86/%.c $(CONFIG)
	@mkdir -p $(@D)
	$(Q)$(CC) $(IMAGE_CFLAGS) -MMD -MP -c -o $@ $<

$(B)/obj/lib.a: $(LIB_OBJ)
	$(Q)rm -f $@
	$(Q)$(AR) rcs $@ $(LIB_OBJ)

# Linked twice: the second time with the SDM section titles of its own cases.
$(B)/obj/images/%.pass1: $(B)/obj/x86/%.o $(LIB) $(LDS)
	@mkdir -p $(@D)
	$(Q)$(LD) $(IMAGE_LDFLAGS) -T $(LDS) -o $@ $< $(LIB) $(LIBFDT_A)
$(B)/obj/images/%.sections.c: $(B)/obj/images/%.pass1 $(B)/tools/imageinfo $(wildcard $(SRC)/spec/*.csv)
	$(Q)$(B)/tools/imageinfo --spec $(SRC)/spec --sections $< > $@
$(B)/obj/images/%.sections.o: $(B)/obj/images/%.sections.c $(CONFIG)
	$(Q)$(CC) $(IMAGE_CFLAGS) -c -o $@ $<
# imageinfo needs three symbols; the pass before has them all, for a debugger.
$(B)/images/%: $(B)/obj/x86/%.o $(B)/obj/images/%.sections.o $(LIB) $(LDS)
	@mkdir -p $(@D)
	$(Q)$(LD) $(IMAGE_LDFLAGS) -S -T $(LDS) -o $@ $< $(B)/obj/images/$*.sections.o $(LIB) $(LIBFDT_A)
	$(Q)$(OBJCOPY) --strip-all -K __cases_start -K __cases_end -K platform_count $@
	$(Q)[ $$(wc -c <$@) -le 262144 ] || { echo "$@: more than 256 KiB; split it" >&2; exit 1; }
$(B)/images/%.tsv: $(B)/images/% $(B)/tools/imageinfo
	$(Q)$(B)/tools/imageinfo --spec $(SRC)/spec --image $* $< > $@
$(B)/images/%.takes: $(B)/images/% $(B)/tools/imageinfo
	$(Q)$(B)/tools/imageinfo --takes $< > $@

$(B)/boot/rom.bin: $(SRC)/lib/x86/boot/rom.S $(CONFIG)
	@mkdir -p $(@D)
	$(Q)$(CC) -m32 -c -o $(B)/boot/rom.o $<
	$(Q)$(OBJCOPY) -O binary -j .text $(B)/boot/rom.o $@
$(B)/boot/pvh.bin: $(SRC)/runners/linux/pvh.S $(CONFIG)
	@mkdir -p $(@D)
	$(Q)$(CC) -m32 -c -o $(B)/boot/pvh.o $<
	$(Q)$(OBJCOPY) -O binary -j .text $(B)/boot/pvh.o $@

# --- host -------------------------------------------------------------------

$(B)/tools/%: $(SRC)/tools/%.c $(CONFIG)
	@mkdir -p $(@D)
	$(Q)$(HOSTCC) $(HOST_CFLAGS) -MMD -MP -MF $@.d -o $@ $< -lfdt
# A tool of several files has a folder of its own.
.SECONDEXPANSION:
$(sort $(patsubst $(SRC)/%/,$(B)/%,$(dir $(wildcard $(SRC)/tools/*/*.c)))): \
		$(B)/tools/%: $$(wildcard $(SRC)/tools/%/*.c) $$(wildcard $(SRC)/tools/%/*.h) $(CONFIG)
	@mkdir -p $(@D)
	$(Q)$(HOSTCC) $(HOST_CFLAGS) -o $@ $(filter %.c,$^) -lfdt

$(B)/obj/runners/%.o: $(SRC)/runners/%.c $(CONFIG)
	@mkdir -p $(@D)
	$(Q)$(HOSTCC) $(HOST_CFLAGS) -iquote $(SRC)/lib/x86 -pthread -MMD -MP -c -o $@ $<
$(B)/runners/kvm/vmm: $(VMM_OBJ)
	@mkdir -p $(@D)
	$(Q)$(HOSTCC) -pthread -o $@ $^ -lfdt

# The platform linux: the VMM and init for a kernel without any library, and the host's end.
$(B)/runners/linux/vmm: $(VMM_OBJ)
	@mkdir -p $(@D)
	$(Q)$(HOSTCC) -static -pthread -o $@ $^ -lfdt
	$(Q)$(STRIP) $@
$(B)/runners/linux/init: $(B)/obj/runners/linux/init.o
	@mkdir -p $(@D)
	$(Q)$(HOSTCC) -static -o $@ $^
	$(Q)$(STRIP) $@
$(B)/runners/linux/session: $(patsubst %,$(B)/obj/runners/linux/%.o,session words)
	@mkdir -p $(@D)
	$(Q)$(HOSTCC) -o $@ $^

# The core as a platform: the VMM's front end once more, freestanding, with the core as its back end.
CORE_CFLAGS = $(IMAGE_CFLAGS) -Os -I$(SRC)/runners/kvm -I$(SRC)/runners/core -ffunction-sections -MMD -MP
$(B)/obj/core/%.o: $(SRC)/runners/core/%.c $(CONFIG)
	@mkdir -p $(@D)
	$(Q)$(CC) $(CORE_CFLAGS) -c -o $@ $<
$(B)/obj/core/%.o: $(SRC)/runners/kvm/%.c $(CONFIG)
	@mkdir -p $(@D)
	$(Q)$(CC) $(CORE_CFLAGS) -c -o $@ $<
$(B)/runners/core/core: $(CORE_OBJ) $(LIB) $(LDS)
	@mkdir -p $(@D)
	$(Q)$(LD) $(IMAGE_LDFLAGS) -s -T $(LDS) -o $@ $(CORE_OBJ) $(LIB) $(LIBFDT_A)

$(B)/runners/%.dtb: $(SRC)/runners/%.dts $(CONFIG)
	@mkdir -p $(@D)
	$(Q)$(DTC) -q -I dts -O dtb -o $@ $<

# --- the models, on the host: tests/models.t ------------------------------------

# walk_vectors.def: a row may override what a macro for several rows says.
MODEL_CFLAGS = $(HOST_CFLAGS) -Wno-override-init -I$(SRC)/lib -I$(SRC)/lib/x86
FUZZ_CC      = clang
FUZZ_CFLAGS  = -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=all

.PHONY: models
models: $(addprefix $(B)/tests/,walk_test memory_type_test walk_fuzz entry_test entry_fuzz exit_test exit_fuzz)

$(B)/obj/host/%.o: $(SRC)/%.c $(CONFIG)
	@mkdir -p $(@D)
	$(Q)$(HOSTCC) $(MODEL_CFLAGS) -MMD -MP -c -o $@ $<
$(B)/obj/fuzz/%.o: $(SRC)/%.c $(CONFIG)
	@mkdir -p $(@D)
	$(Q)$(FUZZ_CC) $(MODEL_CFLAGS) $(FUZZ_CFLAGS) -MMD -MP -c -o $@ $<

$(B)/tests/%_test: $(B)/obj/host/tests/models/%_test.o $(B)/obj/host/lib/x86/mmu/%.o
	@mkdir -p $(@D)
	$(Q)$(HOSTCC) -o $@ $^ -lcmocka
$(B)/tests/entry_test: $(addprefix $(B)/obj/host/,tests/models/entry_test.o tests/models/entry_world.o \
		$(patsubst %,lib/x86/vmx/entry_%.o,model exits rules scene))
	@mkdir -p $(@D)
	$(Q)$(HOSTCC) -o $@ $^ -lcmocka
$(B)/tests/exit_test: $(addprefix $(B)/obj/host/,tests/models/exit_test.o tests/models/exit_settle.o \
		$(patsubst %,lib/x86/vmx/%.o,exit_model exit_information exit_reason exit_lists exit_code exit_rules entry_model entry_exits entry_rules))
	@mkdir -p $(@D)
	$(Q)$(HOSTCC) -o $@ $^ -lcmocka
$(B)/tests/%_fuzz: $(addprefix $(B)/obj/fuzz/,tests/models/%_fuzz.o \
		tests/models/%_properties.o tests/models/%_reference.o lib/x86/mmu/%.o lib/x86/mmu/memory_type.o)
	@mkdir -p $(@D)
	$(Q)$(FUZZ_CC) $(FUZZ_CFLAGS) -o $@ $^
$(B)/tests/entry_fuzz: $(addprefix $(B)/obj/fuzz/,$(patsubst %,tests/models/entry_%.o,fuzz draw world) \
		$(patsubst %,lib/x86/vmx/entry_%.o,model exits rules scene))
	@mkdir -p $(@D)
	$(Q)$(FUZZ_CC) $(FUZZ_CFLAGS) -o $@ $^
$(B)/tests/exit_fuzz: $(addprefix $(B)/obj/fuzz/,tests/models/exit_fuzz.o tests/models/exit_settle.o \
		$(patsubst %,tests/models/entry_%.o,draw world) \
		$(patsubst %,lib/x86/vmx/%.o,exit_model exit_information exit_reason exit_lists exit_code exit_rules \
		entry_model entry_exits entry_rules entry_scene))
	@mkdir -p $(@D)
	$(Q)$(FUZZ_CC) $(FUZZ_CFLAGS) -o $@ $^

ifdef MUTATE
include $(SRC)/tests/mutants/mutants.mk
endif

ifdef REHEARSE
include $(SRC)/tests/rehearsal/rehearsal.mk
endif

# --- install ----------------------------------------------------------------

# All that exitpath run, list, coverage and bench need, and no source. The empty file `installed`
# tells the scripts that results do not go here.
# The paths reach the shell in its environment, as they are: they may have blanks.
install: export TO = $(DESTDIR)$(PREFIX)/lib/exitpath
install: export BIN = $(DESTDIR)$(PREFIX)/bin
install: all
	$(Q)rm -rf "$$TO"/scripts "$$TO"/spec "$$TO"/runners "$$TO"/build
	$(Q)mkdir -p "$$BIN" "$$TO"/scripts "$$TO"/spec "$$TO"/build/boot "$$TO"/build/tools
	$(Q)install -m 755 $(SRC)/exitpath "$$TO"/exitpath
	$(Q)install -m 644 $(SRC)/VERSION "$$TO"/VERSION
	$(Q): > "$$TO"/installed
	$(Q)install -m 755 $(SRC)/scripts/*.sh "$$TO"/scripts
	$(Q)install -m 644 $(SRC)/scripts/*.awk "$$TO"/scripts
	$(Q)install -m 644 $(SRC)/spec/* "$$TO"/spec
	$(Q)install -m 755 $(patsubst %,$(B)/tools/%,$(TOOLS)) "$$TO"/build/tools
	$(Q)install -m 644 $(B)/boot/rom.bin $(B)/boot/pvh.bin "$$TO"/build/boot
	$(Q)for boot in $(SRC)/runners/*/boot; do \
		from=$${boot%/boot}; \
		name=$${from##*/}; \
		mkdir -p "$$TO"/runners/$$name "$$TO"/build/runners/$$name && \
		install -m 755 $$from/boot $$from/run "$$TO"/runners/$$name && \
		install -m 644 $(B)/runners/$$name/machine.dtb "$$TO"/build/runners/$$name || exit 1; \
		[ ! -f $$from/deviations.tsv ] || \
			install -m 644 $$from/deviations.tsv "$$TO"/runners/$$name || exit 1; \
		for more in serve prepare patience; do \
			[ ! -f $$from/$$more ] || \
				install -m 755 $$from/$$more "$$TO"/runners/$$name || exit 1; \
		done; \
	done
	$(Q)install -m 755 $(B)/runners/kvm/vmm "$$TO"/build/runners/kvm
	$(Q)mkdir -p "$$TO"/build/runners/core && install -m 644 $(B)/runners/core/core "$$TO"/build/runners/core
	$(Q)install -m 755 $(patsubst %,$(B)/runners/linux/%,vmm init session) "$$TO"/build/runners/linux
	$(Q)for image in $(IMAGES); do \
		mkdir -p "$$TO"/build/images/$${image%/*} && \
		install -m 644 $(B)/images/$$image $(B)/images/$$image.tsv $(B)/images/$$image.takes \
			"$$TO"/build/images/$${image%/*} || exit 1; \
	done
	$(Q)printf 'BOCHS = %s\nQEMU = %s\n' '$(BOCHS)' '$(QEMU)' > "$$TO"/build/config.mk
	$(Q)ln -sf ../lib/exitpath/exitpath "$$BIN"/exitpath

clean:
	rm -rf $(B)/obj $(B)/images $(B)/tests $(B)/tools $(B)/boot $(B)/runners $(B)/gen

-include $(shell find $(B)/obj $(B)/tools -name '*.d' 2>/dev/null)
