/*
 * The life of a VMCS: clear, active, current, launched, and back; several at a time, and from one
 * processor to another.
 *
 * A processor may have many active VMCSs and at most one of them is current: the one of the last
 * VMPTRLD. The launch state and all the data belong to the VMCS, not to the processor: 27.1
 * Overview, Figure 27-1. Before another processor may make a VMCS active, the first one must have
 * written its data to memory by VMCLEAR, which makes it clear again: 27.11.1 Software Use of
 * Virtual-Machine Control Structures. Each processor has its own current VMCS and its own VMX
 * operation.
 */
#include "cpu/safe.h"
#include "cpu/smp.h"
#include "mmu/pages.h"
#include "string.h"
#include "vmx/vmx.h"

BEFORE_EACH_CASE(vmx_start);

#define NO_VMCS		(~0ull)
#define NOT_CLEAR	OUTCOME_VMFAIL_VALID(VMFAIL_VMLAUNCH_NON_CLEAR_VMCS)
#define NOT_LAUNCHED	OUTCOME_VMFAIL_VALID(VMFAIL_VMRESUME_NON_LAUNCHED_VMCS)

static void guest(void)
{
}

static u64 new_region(void)
{
	u32 *page = page_alloc();

	*page = vmcs_revision();
	return physical(page);
}

static u64 first_region(void)
{
	return (u64)this_vmx()->vmcs_region;
}

static void expect_current(u64 region)
{
	u64 pointer = 0;

	EXPECT(vmptrst(&pointer), OUTCOME_DONE);
	EXPECT_EQ(pointer, region);
}

/* --- several on one processor --------------------------------------------------------- */

#define SEVERAL	8

/* Tells one VMCS from another: entries load GUEST_IA32_SYSENTER_ESP, and exits save it. */
static u64 mark_of(u32 number)
{
	return 0x10000 + number;
}

static void make_several(u64 *regions)
{
	u32 i;

	for (i = 0; i < SEVERAL; i++) {
		regions[i] = new_region();
		REQUIRE(vmclear(regions[i]), OUTCOME_DONE);
		REQUIRE(vmptrld(regions[i]), OUTCOME_DONE);
		vmcs_set_defaults();
		vmwrite(GUEST_IA32_SYSENTER_ESP, mark_of(i));
	}
}

CASE(vmptrst_follows_each_change, PROVES("vmx-instructions:vmptrst.success",
     "vmx-instructions:vmptrld.success", "vmx-instructions:vmclear.success"), NEEDS(VMX))
{
	u64 regions[SEVERAL];
	u32 i;

	make_several(regions);
	for (i = 0; i < SEVERAL; i++) {
		EXPECT(vmptrld(regions[i]), OUTCOME_DONE);
		expect_current(regions[i]);
		/* That of another VMCS leaves the current one alone; its own takes it away. */
		EXPECT(vmclear(regions[(i + 1) % SEVERAL]), OUTCOME_DONE);
		expect_current(regions[i]);
		EXPECT(vmclear(regions[i]), OUTCOME_DONE);
		expect_current(NO_VMCS);
		EXPECT(vmptrld(regions[i]), OUTCOME_DONE);
		expect_current(regions[i]);
	}
}

CASE(several_launched_in_turn, PROVES("vmx-instructions:vmlaunch.success",
     "vmx-instructions:vmptrld.success"), NEEDS(VMX))
{
	u64 regions[SEVERAL];
	u32 i, round;

	make_several(regions);
	for (round = 0; round < 3; round++) {
		for (i = 0; i < SEVERAL; i++) {
			REQUIRE(vmptrld(regions[i]), OUTCOME_DONE);
			EXPECT_EQ(vmread(GUEST_IA32_SYSENTER_ESP), mark_of(i));
			this_vmx()->launched = round > 0;
			EXPECT(enter(guest), GUEST_DONE);
			expect_current(regions[i]);
			EXPECT_EQ(vmread(GUEST_IA32_SYSENTER_ESP), mark_of(i));
		}
	}
}

/* Every second one is cleared; the others stay launched. */
CASE(vmclear_is_for_one_alone, PROVES("vmx-instructions:vmclear.success",
     "vmx-instructions:vmlaunch.not_clear", "vmx-instructions:vmresume.not_launched"), NEEDS(VMX))
{
	u64 regions[SEVERAL];
	u32 i;

	make_several(regions);
	for (i = 0; i < SEVERAL; i++) {
		REQUIRE(vmptrld(regions[i]), OUTCOME_DONE);
		this_vmx()->launched = false;
		REQUIRE(enter(guest), GUEST_DONE);
	}
	for (i = 0; i < SEVERAL; i += 2)
		REQUIRE(vmclear(regions[i]), OUTCOME_DONE);
	for (i = 0; i < SEVERAL; i++) {
		REQUIRE(vmptrld(regions[i]), OUTCOME_DONE);
		EXPECT(i % 2 ? vmlaunch() : vmresume(), i % 2 ? NOT_CLEAR : NOT_LAUNCHED);
		EXPECT(i % 2 ? vmresume() : vmlaunch(), GUEST_DONE);
		EXPECT_EQ(vmread(GUEST_IA32_SYSENTER_ESP), mark_of(i));
	}
}

/* 27.11.3: VMCLEAR is how a VMCS begins, whatever its region held. */
CASE(vmclear_of_what_was_no_vmcs, PROVES("vmx-instructions:vmclear.success"), NEEDS(VMX))
{
	u64 *page = page_alloc_filled(0xa5a5a5a5a5a5a5a5);

	*(u32 *)page = vmcs_revision();
	REQUIRE(vmclear(physical(page)), OUTCOME_DONE);
	REQUIRE(vmptrld(physical(page)), OUTCOME_DONE);
	vmcs_set_defaults();
	EXPECT(vmresume(), NOT_LAUNCHED);
	EXPECT(vmlaunch(), GUEST_DONE);
}

/* --- the other processor -------------------------------------------------------------- */

/* 26.7, 26.8: what VMXON wants. As vmx_prepare() does it, without the boot processor's regions. */
static void enter_vmx_operation_here(u64 vmxon_region)
{
	const struct capabilities *caps = capabilities();
	u64 control;

	if (rdmsr_safe(IA32_FEATURE_CONTROL, &control) == OUTCOME_DONE &&
	    !(control & FEATURE_CONTROL_LOCK))
		wrmsr_safe(IA32_FEATURE_CONTROL,
			   control | FEATURE_CONTROL_LOCK | FEATURE_CONTROL_VMX);
	write_cr0((read_cr0() | caps->cr0_fixed0) & (caps->cr0_fixed1 | ~BITS(31, 0)));
	write_cr4((read_cr4() | caps->cr4_fixed0 | CR4_VMXE) & caps->cr4_fixed1);
	EXPECT(vmxon(vmxon_region), OUTCOME_DONE);
}

/* INIT would wait for the end of VMX operation, so the work on the other processor ends it. */
struct work {
	void (*in_vmx_operation)(u64 region);
	u64 vmxon_region, region;
};

static void work_there(void *argument)
{
	const struct work *work = argument;

	enter_vmx_operation_here(work->vmxon_region);
	work->in_vmx_operation(work->region);
	EXPECT(vmxoff(), OUTCOME_DONE);
}

static void on_the_other_processor(void (*in_vmx_operation)(u64 region), u64 region)
{
	struct work work = { in_vmx_operation, new_region(), region };

	EXPECT(smp_call(1, work_there, &work), OUTCOME_DONE);
}

#define TWO_PROCESSORS	NEEDS(VMX, CPUS(2))

#define MARK_HERE	0x1111000
#define MARK_THERE	0x2222000

/* VMLAUNCH, not VMRESUME: the VMCLEAR there has made it clear. The host is this processor now. */
static void take_over(u64 region)
{
	EXPECT(vmptrld(region), OUTCOME_DONE);
	expect_current(region);
	EXPECT_EQ(vmread(GUEST_IA32_SYSENTER_ESP), MARK_HERE);
	vmcs_set_host_defaults();
	vmcs_set_guest_defaults();
	this_vmx()->launched = false;
	EXPECT(vmresume(), NOT_LAUNCHED);
	EXPECT(enter(guest), GUEST_DONE);
	vmwrite(GUEST_IA32_SYSENTER_ESP, MARK_THERE);
	EXPECT(vmclear(region), OUTCOME_DONE);
	expect_current(NO_VMCS);
}

CASE(vmcs_migrates_and_comes_back, PROVES("vmx-instructions:vmclear.success",
     "vmx-instructions:vmptrld.success", "vmx-instructions:vmresume.not_launched"),
     TWO_PROCESSORS)
{
	vmwrite(GUEST_IA32_SYSENTER_ESP, MARK_HERE);
	REQUIRE(enter(guest), GUEST_DONE);
	REQUIRE(vmclear(first_region()), OUTCOME_DONE);
	on_the_other_processor(take_over, first_region());
	expect_current(NO_VMCS);
	REQUIRE(vmptrld(first_region()), OUTCOME_DONE);
	EXPECT_EQ(vmread(GUEST_IA32_SYSENTER_ESP), MARK_THERE);
	vmcs_set_host_defaults();
	vmcs_set_guest_defaults();
	this_vmx()->launched = false;
	EXPECT(vmresume(), NOT_LAUNCHED);
	EXPECT(enter(guest), GUEST_DONE);
}

/* Every field that exists goes with it. */
static const u32 fields[] = {
#define VMCS_FIELD(encoding, name, lower, width, type, exists) name,
#include "sdm/vmcs_fields.def"
#undef VMCS_FIELD
};

static u64 values[ARRAY_SIZE(fields)];

static bool kept(u32 encoding)
{
	return vmcs_field_exists(encoding) && encoding != VM_INSTRUCTION_ERROR;
}

static void compare_fields(u64 region)
{
	u64 value;
	u32 i;

	EXPECT(vmptrld(region), OUTCOME_DONE);
	for (i = 0; i < ARRAY_SIZE(fields); i++) {
		value = 0;
		if (kept(fields[i]) && vmread_outcome(fields[i], &value) == OUTCOME_DONE &&
		    !EXPECT_EQ(value, values[i]))
			case_note("field", "%s", vmcs_field_name(fields[i]));
	}
	EXPECT(vmclear(region), OUTCOME_DONE);
}

CASE(all_fields_migrate, PROVES("vmx-instructions:vmclear.success",
     "vmx-instructions:vmptrld.success"), TWO_PROCESSORS)
{
	u32 i;

	for (i = 0; i < ARRAY_SIZE(fields); i++) {
		values[i] = 0;
		if (kept(fields[i])) {
			/* Some are read-only. */
			vmwrite_outcome(fields[i], 0x1000 | (i & 0xff));
			vmread_outcome(fields[i], &values[i]);
		}
	}
	REQUIRE(vmclear(first_region()), OUTCOME_DONE);
	on_the_other_processor(compare_fields, first_region());
}

/* --- what each processor has of its own ----------------------------------------------- */

static void use_another_vmcs(u64 region)
{
	expect_current(NO_VMCS);
	EXPECT(vmclear(region), OUTCOME_DONE);
	EXPECT(vmptrld(region), OUTCOME_DONE);
	expect_current(region);
	vmwrite(GUEST_RIP, MARK_THERE);
	EXPECT_EQ(vmread(GUEST_RIP), MARK_THERE);
	EXPECT(vmptrld(1), OUTCOME_VMFAIL_VALID(VMFAIL_VMPTRLD_INVALID_ADDRESS));
	EXPECT(vmclear(region), OUTCOME_DONE);
}

CASE(each_processor_has_its_current_vmcs, PROVES("vmx-instructions:vmptrst.success",
     "vmx-instructions:vmxoff.success", "vmx-instructions:vmxon.success"), TWO_PROCESSORS)
{
	vmwrite(GUEST_RIP, MARK_HERE);
	EXPECT(vmclear(1), OUTCOME_VMFAIL_VALID(VMFAIL_VMCLEAR_INVALID_ADDRESS));
	on_the_other_processor(use_another_vmcs, new_region());
	expect_current(first_region());
	EXPECT_EQ(vmread(GUEST_RIP), MARK_HERE);
	EXPECT_EQ(vmread(VM_INSTRUCTION_ERROR), VMFAIL_VMCLEAR_INVALID_ADDRESS);
	/* The VMXOFF there was for that processor. */
	vmcs_set_guest_defaults();
	EXPECT(enter(guest), GUEST_DONE);
}

static void check_outside(void *unused __maybe_unused)
{
	u64 pointer = 0;

	write_cr4(read_cr4() | CR4_VMXE);
	EXPECT(vmptrst(&pointer), OUTCOME_UD);
	EXPECT(vmclear(first_region()), OUTCOME_UD);
}

CASE(vmxon_is_for_one_processor, PROVES("vmx-instructions:vmxon.success",
     "vmx-instructions:vmptrst.ud"), TWO_PROCESSORS)
{
	EXPECT(smp_call(1, check_outside, NULL), OUTCOME_DONE);
	expect_current(first_region());
}

/* --- INIT and the end of VMX operation ------------------------------------------------ */

/* How far the other processor has come. */
static volatile u32 in_vmx_operation, init_sent, still_in_vmx_operation, behind_vmxoff;

static void pause_for_a_while(void)
{
	u32 i;

	for (i = 0; i < 100000; i++)
		pause();
}

static void leave_vmx_operation_after_init(void *vmxon_region)
{
	enter_vmx_operation_here((u64)vmxon_region);
	in_vmx_operation = 1;
	smp_wait_for(&init_sent);
	pause_for_a_while();
	still_in_vmx_operation = 1;
	vmxoff();
	pause_for_a_while();
	behind_vmxoff = 1;
}

/* 26.8: VMX operation blocks INIT. It is not lost: VMXOFF lets it through. */
CASE(vmxoff_unblocks_init, PROVES("vmx-instructions:vmxoff.success",
     "vmx-instructions:vmxon.success"), TWO_PROCESSORS)
{
	in_vmx_operation = init_sent = still_in_vmx_operation = behind_vmxoff = 0;
	smp_begin(1, leave_vmx_operation_after_init, (void *)new_region());
	REQUIRE_TRUE(smp_wait_for(&in_vmx_operation));
	smp_init(1);
	init_sent = 1;
	EXPECT_TRUE(smp_wait_for(&still_in_vmx_operation));
	EXPECT_FALSE(smp_wait_for(&behind_vmxoff));
}

/* 27.2: software may write the VMX-abort indicator, and no processor asks it. */
CASE(abort_indicator_controls_nothing, PROVES("field-formats:vmcs_region.abort_ignored"),
     NEEDS(VMX))
{
	volatile u32 *region = (volatile u32 *)this_vmx()->vmcs_region;

	REQUIRE(vmclear(first_region()), OUTCOME_DONE);
	region[1] = 4;
	REQUIRE(vmptrld(first_region()), OUTCOME_DONE);
	EXPECT(enter(guest), GUEST_DONE);
	REQUIRE(vmclear(first_region()), OUTCOME_DONE);
	EXPECT_EQ(region[1], 4);
	region[1] = 0;
	REQUIRE(vmptrld(first_region()), OUTCOME_DONE);
}
