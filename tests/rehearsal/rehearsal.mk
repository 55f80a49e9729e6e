# The images of the cases that are rehearsed, with the pretended processor below them.
#
# make REHEARSE=1 makes a build folder of its own, $(B)/rehearsal. What reads or writes MSRs, CPUID or the
# VMCS is compiled once more, behind stand_in.h; all else of the library is as in $(B). FAULT="GLOB..." breaks
# the pretended processor on purpose, until the next make: faults.h.

R        := $(B)/rehearsal
R_SRC    := $(SRC)/tests/rehearsal
R_IMAGES := $(sort $(shell sed -n 's/^\([a-z][^:]*\):.*/\1/p' $(R_SRC)/cases.tsv))
# The names that stand_in.h takes over, and a macro that expands to one of them.
R_NAMES  := $(shell sed -n 's/^.define \([a-z_]*\).*rehearsed_.*/\1/p' $(R_SRC)/stand_in.h) CPUID_BIT
R_AGAIN  := $(patsubst $(SRC)/%.c,%,$(filter-out $(SRC)/lib/x86/hv/%,$(shell grep -lw $(R_NAMES:%=-e %) $(LIB_SRC))))
R_OWN    := $(patsubst $(R_SRC)/%.c,%,$(wildcard $(R_SRC)/*.c))
R_OBJ    := $(R_OWN:%=$(R)/obj/%.o) $(R_AGAIN:%=$(R)/obj/%.o)
R_LIB    := $(filter-out $(R_AGAIN:%=$(B)/obj/%.o) $(B)/obj/lib/x86/hv/%,$(LIB_OBJ))
R_CFLAGS := $(IMAGE_CFLAGS) -I$(SRC)/tests -include rehearsal/stand_in.h -ffunction-sections -MMD -MP
R_WRAP   := --wrap=platform_read --wrap=trap_guarded --wrap=vmx_switch

.PHONY: rehearsal
.DEFAULT_GOAL := rehearsal
rehearsal: tools trees $(R_IMAGES:%=$(R)/images/%)
	$(Q)cp $(B)/config.mk $(R)/
	$(Q): > $(R)/rehearsed
	$(Q)for dir in boot tools; do ln -sfn $(abspath $(B))/$$dir $(R)/$$dir; done
	$(Q)mkdir -p $(R)/runners/bochs && cp $(B)/runners/bochs/machine.dtb $(R)/runners/bochs/
	$(Q)fdtput -t s $(R)/runners/bochs/machine.dtb /chosen exitpath,fault '$(FAULT)'
	$(Q)for image in $(R_IMAGES); do cp $(B)/images/$$image.tsv $(R)/images/$$image.tsv || exit 1; done
$(R_OWN:%=$(R)/obj/%.o): $(R)/obj/%.o: $(R_SRC)/%.c $(CONFIG)
	@mkdir -p $(@D)
	$(Q)$(CC) $(R_CFLAGS) -DREHEARSAL_INSIDE -c -o $@ $<
$(R)/obj/lib/%.o: $(SRC)/lib/%.c $(CONFIG)
	@mkdir -p $(@D)
	$(Q)$(CC) $(R_CFLAGS) -c -o $@ $<
$(R)/obj/x86/%.o: $(SRC)/x86/%.c $(CONFIG)
	@mkdir -p $(@D)
	$(Q)$(CC) $(R_CFLAGS) -c -o $@ $<
$(R)/obj/lib.a: $(R_OBJ) $(R_LIB)
	$(Q)rm -f $@
	$(Q)$(AR) rcs $@ $^
$(R_IMAGES:%=$(R)/images/%): $(R)/images/%: $(R)/obj/x86/%.o $(B)/images/% $(B)/images/%.tsv $(LIB_ASM_OBJ) $(R)/obj/lib.a
	@mkdir -p $(@D)
	$(Q)$(LD) $(IMAGE_LDFLAGS) $(R_WRAP) -S -T $(LDS) -o $@ $< $(B)/obj/images/$*.sections.o $(LIB_ASM_OBJ) \
		$(R)/obj/lib.a $(LIBFDT_A)
	$(Q)$(OBJCOPY) --strip-all -K __cases_start -K __cases_end $@
-include $(shell find $(R)/obj -name '*.d' 2>/dev/null)
