# The core, broken on purpose; the list is core.tsv.
#
# make MUTATE=NAME makes a build folder of its own, $(B)/mutants/NAME, in which lib/x86/hv has that mutant and
# all else is as in $(B); MUTATE=all one that has them all, and exitpath,mutant in /chosen says which one counts.

M        := $(B)/mutants/$(MUTATE)
HV       := $(patsubst $(SRC)/lib/x86/hv/%.c,%,$(wildcard $(SRC)/lib/x86/hv/*.c))
M_IMAGES := $(filter hv/%,$(IMAGES))
M_LIB    := $(filter-out $(B)/obj/lib/x86/hv/%,$(LIB_ASM_OBJ) $(LIB_OBJ)) $(HV:%=$(M)/obj/%.o) \
	    $(if $(filter all,$(MUTATE)),$(M)/obj/mutant.o)
M_CFLAGS := $(IMAGE_CFLAGS) -Os -w -I$(SRC)/tests/mutants $(if $(filter all,$(MUTATE)),-include mutant.h)
M_WRAP   := $(if $(filter all,$(MUTATE)),--wrap=platform_read)

.PHONY: mutants
.DEFAULT_GOAL := mutants
mutants: tools trees $(M_IMAGES:%=$(M)/images/%) $(M)/runners/core/core
	$(Q)cp $(B)/config.mk $(M)/
	$(Q)for dir in boot tools images/guest images/mmu; do ln -sfn $(abspath $(B))/$$dir $(M)/$$dir; done
	$(Q)for tree in $(TREES:$(B)/%=%); do \
		mkdir -p $(M)/$$(dirname $$tree) && cp $(B)/$$tree $(M)/$$tree || exit 1; \
	done
	$(Q)for image in $(M_IMAGES); do cp $(B)/images/$$image.tsv $(M)/images/$$image.tsv || exit 1; done
$(M)/src/stamp: $(SRC)/tests/mutants/core.tsv $(SRC)/scripts/mutate.awk $(wildcard $(SRC)/lib/x86/hv/*.c)
	@mkdir -p $(@D) $(M)/obj
	$(Q)LC_ALL=C awk -v only=$(MUTATE) -v out=$(@D) -f $(SRC)/scripts/mutate.awk \
		$(SRC)/tests/mutants/core.tsv $(wildcard $(SRC)/lib/x86/hv/*.c)
	@touch $@
$(HV:%=$(M)/src/%.c): $(M)/src/stamp ;
$(HV:%=$(M)/obj/%.o): $(M)/obj/%.o: $(M)/src/%.c
	$(Q)$(CC) $(M_CFLAGS) -ffunction-sections -MMD -MP -c -o $@ $<
$(M)/obj/mutant.o: $(SRC)/tests/mutants/mutant.c
	@mkdir -p $(@D)
	$(Q)$(CC) $(M_CFLAGS) -c -o $@ $<
$(M_IMAGES:%=$(M)/images/%): $(M)/images/%: $(B)/images/% $(M_LIB)
	@mkdir -p $(@D)
	$(Q)$(LD) $(IMAGE_LDFLAGS) $(M_WRAP) -T $(LDS) -o $@ $(B)/obj/x86/$*.o $(B)/obj/images/$*.sections.o \
		$(M_LIB) $(LIBFDT_A)
	$(Q)$(OBJCOPY) --strip-all -K __cases_start -K __cases_end $@
$(M)/runners/core/core: $(CORE_OBJ) $(M_LIB)
	@mkdir -p $(@D)
	$(Q)$(LD) $(IMAGE_LDFLAGS) $(M_WRAP) -T $(LDS) -s -o $@ $(CORE_OBJ) $(M_LIB) $(LIBFDT_A)
-include $(wildcard $(M)/obj/*.d)
