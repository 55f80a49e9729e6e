/*
 * The log of pages that a guest modifies: 31.3.6 Page-Modification Logging.
 *
 * With "enable PML" the processor, when it sets the dirty flag of an EPT entry, writes the
 * guest-physical address to the entry of the log that the PML index selects, and decrements the
 * index: from 511 to 0. Before it sets an accessed or dirty flag it looks at the index: where that
 * is no index of the log, VM exit 62 comes instead, no flag is set, and the access is not made.
 */
#include "ept/probe.h"
#include "mmu/pages.h"
#include "string.h"
#include "vmx/guest.h"

BEFORE_EACH_CASE(vmx_start);

#define ENTRIES		512
#define PML		EPT, EPT_AD, PROC2(ENABLE_PML)
#define LOG_FULL	OUTCOME_EXIT(EXIT_PAGE_MODIFICATION_LOG_FULL)
#define FLAGS		(EPT_ACCESSED | EPT_DIRTY)
#define UNUSED		0x5555555555555555ull

struct log {
	struct ept_probe probe;
	u64 *entries;
};

static u64 *pte(const struct log *log)
{
	return log->probe.entry[LEVEL_PTE];
}

static u64 aligned_gpa(const struct log *log)
{
	return log->probe.gpa & ~(u64)(PAGE_SIZE - 1);
}

/*
 * Only the page has flags to set: all other entries have them already, so nothing else is logged or
 * makes the processor look at the index.
 */
static void set_all_flags(u64 *table, u32 level)
{
	u32 i;

	for (i = 0; i < 512; i++) {
		if (!(table[i] & EPT_RWX))
			continue;
		table[i] |= FLAGS;
		if (level > LEVEL_PTE && !(table[i] & EPT_PAGE))
			set_all_flags((u64 *)(table[i] & EPT_ADDRESS), level - 1);
	}
}

static void start(struct log *log, u16 index)
{
	ept_probe_start(&log->probe, LEVEL_PTE, EPTP_ACCESSED_DIRTY);
	set_all_flags(log->probe.ept.root, LEVEL_PML4E);
	*pte(log) &= ~FLAGS;
	log->entries = page_alloc_filled(UNUSED);
	vmcs_set_control(CONTROL_PROC2_ENABLE_PML);
	vmwrite(PML_ADDRESS, physical(log->entries));
	vmwrite(PML_INDEX, index);
	ept_invalidate(&log->probe.ept);
}

static void expect_flags(const struct log *log, u64 flags)
{
	EXPECT_EQ(*pte(log) & FLAGS, flags);
}

/* The log holds the page's address at `index`, or nothing where that is ENTRIES. */
static void expect_logged(const struct log *log, u32 index)
{
	u32 i;

	for (i = 0; i < ENTRIES && !case_failed(); i++)
		if (!EXPECT_EQ(log->entries[i], i == index ? aligned_gpa(log) : UNUSED))
			case_note("entry", "%u", i);
}

static void check_write(const struct case_def *this_case)
{
	u32 index = *(const u32 *)this_case->row;
	struct log log;

	start(&log, index);
	/* An address inside of the page: bits 11:0 are logged as 0. */
	log.probe.linear += 0xff8;
	EXPECT(ept_probe_enter(&log.probe, ACCESS_WRITE), GUEST_DONE);
	expect_flags(&log, FLAGS);
	expect_logged(&log, index);
	EXPECT_EQ(vmread(PML_INDEX), (index - 1) & 0xffff);
}

#define WRITE(name, index, ...)							\
	CASE_RUN(name, check_write, PROVES("ept:pml.log", ##__VA_ARGS__), NEEDS(VMX, PML), \
		 ROW((&(const u32){ index })))
WRITE(write_is_logged_at_511, 511);
WRITE(write_is_logged_at_300, 300);
WRITE(write_is_logged_at_0, 0, "ept:pml.wrap");

CASE(dirty_page_is_not_logged, PROVES("ept:pml.no_log_if_dirty"), NEEDS(VMX, PML))
{
	struct log log;

	start(&log, 511);
	*pte(&log) |= FLAGS;
	EXPECT(ept_probe_enter(&log.probe, ACCESS_WRITE), GUEST_DONE);
	expect_logged(&log, ENTRIES);
	EXPECT_EQ(vmread(PML_INDEX), 511);
}

CASE(read_is_not_logged, PROVES("ept:pml.log"), NEEDS(VMX, PML))
{
	struct log log;

	start(&log, 511);
	EXPECT(ept_probe_enter(&log.probe, ACCESS_READ), GUEST_DONE);
	expect_flags(&log, EPT_ACCESSED);
	expect_logged(&log, ENTRIES);
	EXPECT_EQ(vmread(PML_INDEX), 511);
}

CASE(second_write_is_not_logged, PROVES("ept:pml.no_log_if_dirty"), NEEDS(VMX, PML))
{
	struct log log;

	start(&log, 511);
	EXPECT(ept_probe_enter(&log.probe, ACCESS_WRITE), GUEST_DONE);
	EXPECT(ept_probe_enter(&log.probe, ACCESS_WRITE), GUEST_DONE);
	expect_logged(&log, 511);
	EXPECT_EQ(vmread(PML_INDEX), 510);
}

/* What the log is full for is not done; with room in the log it is done then. */
static void expect_full(struct log *log, enum access access, u64 flags)
{
	EXPECT(ept_probe_enter(&log->probe, access), LOG_FULL);
	/* Bits 12 and 16: no IRET, and nothing asynchronous. The others are undefined. */
	EXPECT_EQ(vmread(EXIT_QUALIFICATION) & (BIT(12) | BIT(16)), 0);
	EXPECT_NOT_DONE(&log->probe);
	expect_flags(log, flags);
	expect_logged(log, ENTRIES);
	vmwrite(PML_INDEX, 511);
	EXPECT(resume(), GUEST_DONE);
	EXPECT_MADE(&log->probe);
}

static void check_full(const struct case_def *this_case)
{
	struct log log;

	start(&log, *(const u32 *)this_case->row);
	expect_full(&log, ACCESS_WRITE, 0);
	expect_logged(&log, 511);
}

#define FULL(name, index, ...)							\
	CASE_RUN(name, check_full, PROVES("ept:pml.full", "exit-reasons:62", ##__VA_ARGS__), \
		 NEEDS(VMX, PML), ROW((&(const u32){ index })))
FULL(index_ffffh_exits, 0xffff, "ept:pml.wrap", "exit-qualifications:pml_full.nmi_unblocking");
FULL(index_512_exits, 512);
FULL(index_8000h_exits, 0x8000);

CASE(full_log_for_a_dirty_flag_alone, PROVES("ept:pml.full"), NEEDS(VMX, PML))
{
	struct log log;

	start(&log, 0xffff);
	*pte(&log) |= EPT_ACCESSED;
	expect_full(&log, ACCESS_WRITE, EPT_ACCESSED);
}

CASE(full_log_for_an_accessed_flag, PROVES("ept:pml.accessed_only_full"), NEEDS(VMX, PML))
{
	struct log log;

	start(&log, 0xffff);
	expect_full(&log, ACCESS_READ, 0);
	expect_logged(&log, ENTRIES);
	expect_flags(&log, EPT_ACCESSED);
}

CASE(full_log_with_no_flag_to_set, PROVES("ept:pml.no_log_if_dirty"), NEEDS(VMX, PML))
{
	struct log log;

	start(&log, 0xffff);
	*pte(&log) |= FLAGS;
	EXPECT(ept_probe_enter(&log.probe, ACCESS_WRITE), GUEST_DONE);
	EXPECT_EQ(vmread(PML_INDEX), 0xffff);
}

CASE(no_log_without_the_control, PROVES("exit-reasons:62"), NEEDS(VMX, PML))
{
	struct log log;

	start(&log, 0xffff);
	vmcs_clear_control(CONTROL_PROC2_ENABLE_PML);
	EXPECT(ept_probe_enter(&log.probe, ACCESS_WRITE), GUEST_DONE);
	expect_flags(&log, FLAGS);
	expect_logged(&log, ENTRIES);
}

/* --- IRET ---------------------------------------------------------------------------------- */

/* IRET by a frame at the page's address. */
GUEST_CODE(iret_there, "", "movq %rdi, %rsp; iretq");

/* Where GUEST_DONE comes from. */
extern const u8 vmx_guest_done[];

/* 30.2.3: the IRET has ended the blocking of NMIs before it met the full log. Then it is done. */
static void check_iret(u32 blocking)
{
	struct log log;

	start(&log, 0xffff);
	vmcs_set_control(CONTROL_PIN_NMI_EXITING);
	vmcs_set_control(CONTROL_PIN_VIRTUAL_NMIS);
	vmwrite(GUEST_INTERRUPTIBILITY_STATE, blocking);
	guest_regs()->rdi = log.probe.linear;
	memcpy(log.probe.page, (const u64[]){ (u64)vmx_guest_done, SELECTOR_CODE64, RFLAGS_FIXED,
					      vmread(GUEST_RSP), SELECTOR_DATA }, 5 * sizeof(u64));
	EXPECT(enter_at_instruction(&guest_iret_there), LOG_FULL);
	EXPECT_EQ(vmread(EXIT_QUALIFICATION) & BIT(12), blocking ? BIT(12) : 0);
	EXPECT_EQ(vmread(GUEST_INTERRUPTIBILITY_STATE), 0);
	vmwrite(PML_INDEX, 511);
	vmwrite(GUEST_INTERRUPTIBILITY_STATE, blocking);
	EXPECT(resume(), GUEST_DONE);
	EXPECT_EQ(vmread(GUEST_INTERRUPTIBILITY_STATE), 0);
}

#define VNMIS	PIN(NMI_EXITING), PIN(VIRTUAL_NMIS)

CASE(iret_while_nmis_are_blocked, PROVES("exit-qualifications:pml_full.nmi_unblocking"),
     NEEDS(VMX, PML, VNMIS))
{
	check_iret(BLOCKING_BY_NMI);
}

CASE(iret_while_nmis_are_not_blocked, PROVES("exit-qualifications:pml_full.nmi_unblocking"),
     NEEDS(VMX, PML, VNMIS))
{
	check_iret(0);
}
