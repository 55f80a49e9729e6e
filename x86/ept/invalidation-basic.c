/*
 * What the processor may still know of EPT entries after they changed, and what makes it forget.
 *
 * Translations are cached as guest-physical mappings (of EPT alone) and as combined mappings (of
 * the guest's tables and EPT): 31.4.1. Both belong to the EPT root table in use, combined ones
 * also to the VPID. Software that takes a right away, changes an address or the size of a page,
 * has to execute INVEPT before it can rely on that: 31.4.3.4. One that adds rights need not: a
 * stale mapping may cause one violation, which drops it (31.4.3.1). VM entries and exits drop the
 * combined mappings of VPID 0, all that there is without "enable VPID"; with it, INVVPID does.
 *
 * No case here fails because a processor has forgotten more than it had to: it may, at any time.
 */
#include "ept/probe.h"
#include "ept/violation.h"
#include "mmu/pages.h"

BEFORE_EACH_CASE(vmx_start);

#define OTHER_CONTENT	0x0123456789abcdefull

enum { INVEPT_SINGLE = 1, INVEPT_ALL = 2 };

/* --- INVEPT ---------------------------------------------------------------- */

struct narrowing {
	u64 clear;			/* bits of the EPT PTE */
	enum access access;		/* that was made and is not allowed any more */
	u64 invept_type;
	bool vpid;			/* combined mappings outlive VM exits */
};

#define WHEN(...)	ROW((&(const struct narrowing){ __VA_ARGS__ }))

static void use_vpid(u16 vpid)
{
	vmcs_set_control(CONTROL_PROC2_ENABLE_VPID);
	vmwrite(VIRTUAL_PROCESSOR_IDENTIFIER, vpid);
}

/* INVEPT of one type; single-context for the tables of the probe. */
static void invept_for(const struct ept_probe *probe, u64 type)
{
	struct invept_descriptor descriptor = {
		.eptp = type == INVEPT_SINGLE ? probe->ept.pointer : 0,
	};

	REQUIRE(invept(type, descriptor), OUTCOME_DONE);
}

static void rights_are_gone(const struct case_def *this_case)
{
	const struct narrowing *row = this_case->row;
	struct ept_probe probe;

	ept_probe_start(&probe, LEVEL_PTE, 0);
	if (row->vpid)
		use_vpid(1);
	REQUIRE(ept_probe_enter(&probe, row->access), GUEST_DONE);
	probe.page[0] = PROBE_CONTENT;
	*probe.entry[LEVEL_PTE] &= ~row->clear;
	invept_for(&probe, row->invept_type);
	EXPECT(ept_probe_enter(&probe, row->access), OUTCOME_EXIT(EXIT_EPT_VIOLATION));
	EXPECT_EQ(vmread(GUEST_PHYSICAL_ADDRESS), probe.gpa);
	EXPECT_NOT_DONE(&probe);
}

#define SINGLE	EPT_CAP(INVEPT), EPT_CAP(INVEPT_SINGLE)
#define ALL	EPT_CAP(INVEPT), EPT_CAP(INVEPT_ALL)

CASE_RUN(page_is_gone, rights_are_gone,
	 PROVES("ept:inv.invept_single", "vmx-capabilities:ept.invept_single"),
	 NEEDS(VMX, EPT, SINGLE),
	 WHEN(.clear = ~0ull, .access = ACCESS_READ, .invept_type = INVEPT_SINGLE));
CASE_RUN(write_right_is_gone, rights_are_gone, PROVES("ept:inv.invept_single"),
	 NEEDS(VMX, EPT, SINGLE),
	 WHEN(.clear = EPT_WRITE, .access = ACCESS_WRITE, .invept_type = INVEPT_SINGLE));
CASE_RUN(execute_right_is_gone, rights_are_gone, PROVES("ept:inv.invept_single"),
	 NEEDS(VMX, EPT, SINGLE),
	 WHEN(.clear = EPT_EXECUTE, .access = ACCESS_FETCH, .invept_type = INVEPT_SINGLE));
CASE_RUN(read_right_is_gone, rights_are_gone, PROVES("ept:inv.invept_single"),
	 NEEDS(VMX, EPT, SINGLE, EPT_CAP(EXECUTE_ONLY)),
	 WHEN(.clear = EPT_READ | EPT_WRITE, .access = ACCESS_READ, .invept_type = INVEPT_SINGLE));
CASE_RUN(page_is_gone_for_all, rights_are_gone,
	 PROVES("ept:inv.invept_all", "vmx-capabilities:ept.invept_all"),
	 NEEDS(VMX, EPT, ALL),
	 WHEN(.clear = ~0ull, .access = ACCESS_READ, .invept_type = INVEPT_ALL));
CASE_RUN(write_right_is_gone_for_all, rights_are_gone, PROVES("ept:inv.invept_all"),
	 NEEDS(VMX, EPT, ALL),
	 WHEN(.clear = EPT_WRITE, .access = ACCESS_WRITE, .invept_type = INVEPT_ALL));
CASE_RUN(write_right_is_gone_with_vpid, rights_are_gone, PROVES("ept:inv.invept_single"),
	 NEEDS(VMX, EPT, SINGLE, PROC2(ENABLE_VPID)),
	 WHEN(.clear = EPT_WRITE, .access = ACCESS_WRITE, .invept_type = INVEPT_SINGLE,
	      .vpid = true));
CASE_RUN(execute_right_is_gone_for_all_with_vpid, rights_are_gone, PROVES("ept:inv.invept_all"),
	 NEEDS(VMX, EPT, ALL, PROC2(ENABLE_VPID)),
	 WHEN(.clear = EPT_EXECUTE, .access = ACCESS_FETCH, .invept_type = INVEPT_ALL,
	      .vpid = true));

/* The guest is to find `content`, by a read that is not made elsewhere. */
static void expect_read(struct ept_probe *probe, u64 content)
{
	REQUIRE(ept_probe_enter(probe, ACCESS_READ), GUEST_DONE);
	EXPECT_EQ(guest_regs()->rax, content);
}

static u64 *other_page(void)
{
	return page_alloc_filled(OTHER_CONTENT);
}

CASE(another_page_after_invept, PROVES("ept:inv.invept_single"), NEEDS(VMX, EPT, SINGLE))
{
	u64 *other = other_page();
	struct ept_probe probe;

	ept_probe_start(&probe, LEVEL_PTE, 0);
	expect_read(&probe, PROBE_CONTENT);
	*probe.entry[LEVEL_PTE] = (*probe.entry[LEVEL_PTE] & ~EPT_ADDRESS) | physical(other);
	invept_for(&probe, INVEPT_SINGLE);
	expect_read(&probe, OTHER_CONTENT);
}

/* A page of 2 MBytes becomes 512 of 4 KBytes, one of which is another. */
CASE(smaller_pages_after_invept, PROVES("ept:inv.invept_single", "ept:walk.2m"),
     NEEDS(VMX, EPT, SINGLE, EPT_CAP(2M)))
{
	u64 *other = other_page();
	struct ept_probe probe;

	ept_probe_start(&probe, LEVEL_PDE, 0);
	expect_read(&probe, PROBE_CONTENT);
	ept_map(&probe.ept, probe.gpa, physical(other),
		probe.ept.all_rights | EPT_MEMORY_TYPE(EPT_WB), LEVEL_PTE);
	invept_for(&probe, INVEPT_SINGLE);
	expect_read(&probe, OTHER_CONTENT);
}

/* --- without INVEPT -------------------------------------------------------- */

/* A processor does not cache what is not present: 31.4.2. */
CASE(page_is_there_without_invept, PROVES("ept:inv.not_cached"), NEEDS(VMX, EPT))
{
	struct ept_probe probe;
	u64 entry;

	ept_probe_start(&probe, LEVEL_PTE, 0);
	entry = *probe.entry[LEVEL_PTE];
	*probe.entry[LEVEL_PTE] = 0;
	EXPECT(ept_probe_enter(&probe, ACCESS_READ), OUTCOME_EXIT(EXIT_EPT_VIOLATION));
	*probe.entry[LEVEL_PTE] = entry;
	/* Another access than the one that was refused. */
	EXPECT(ept_probe_enter(&probe, ACCESS_WRITE), GUEST_DONE);
	EXPECT_MADE(&probe);
}

/*
 * The mapping that the read has left may be one without the right to write: one violation is the
 * price, and no more than one.
 */
CASE(right_is_there_without_invept, PROVES("ept:inv.violation"), NEEDS(VMX, EPT))
{
	struct ept_probe probe;
	outcome_t outcome;

	ept_probe_start(&probe, LEVEL_PTE, 0);
	ept_change(&probe.ept, probe.gpa, LEVEL_PTE, EPT_WRITE, 0);
	REQUIRE(ept_probe_enter(&probe, ACCESS_READ), GUEST_DONE);
	*probe.entry[LEVEL_PTE] |= EPT_WRITE;
	outcome = ept_probe_enter(&probe, ACCESS_WRITE);
	EXPECT(outcome, GUEST_DONE, OUTCOME_EXIT(EXIT_EPT_VIOLATION));
	if (outcome != GUEST_DONE)
		EXPECT(resume(), GUEST_DONE);
	EXPECT_MADE(&probe);
}

/* The violation itself drops the mapping by which it came about. */
CASE(violation_drops_the_mapping, PROVES("ept:inv.violation"), NEEDS(VMX, EPT, PROC2(ENABLE_VPID)))
{
	struct ept_probe probe;

	ept_probe_start(&probe, LEVEL_PTE, 0);
	use_vpid(1);
	ept_change(&probe.ept, probe.gpa, LEVEL_PTE, EPT_WRITE, 0);
	REQUIRE(ept_probe_enter(&probe, ACCESS_READ), GUEST_DONE);
	REQUIRE(ept_probe_enter(&probe, ACCESS_WRITE), OUTCOME_EXIT(EXIT_EPT_VIOLATION));
	*probe.entry[LEVEL_PTE] |= EPT_WRITE;
	EXPECT(resume(), GUEST_DONE);
	EXPECT_MADE(&probe);
}

/* Mappings belong to EPTP bits 51:12: two sets of tables do not see each other's. */
CASE(mappings_of_two_root_tables, PROVES("ept:inv.invept_single", "ept:walk.pml4.select",
     "field-formats:eptp.root"),
     NEEDS(VMX, EPT))
{
	struct ept_probe probe;
	u64 *other = other_page(), second;
	struct ept ept;

	ept_probe_start(&probe, LEVEL_PTE, 0);
	ept_build(&ept);
	ept_map(&ept, probe.gpa, physical(other), ept.all_rights | EPT_MEMORY_TYPE(EPT_WB),
		LEVEL_PTE);
	second = ept_pointer(&ept, 0);
	ept.pointer = second;
	ept_invalidate(&ept);

	expect_read(&probe, PROBE_CONTENT);
	vmwrite(EPT_POINTER, second);
	expect_read(&probe, OTHER_CONTENT);
	vmwrite(EPT_POINTER, probe.ept.pointer);
	expect_read(&probe, PROBE_CONTENT);
}

/* --- the guest's tables: VM transitions and INVVPID ------------------------ */

/* The guest's PTE comes to refer to another guest-physical address. */
static void move_in_guest(struct ept_probe *probe)
{
	u64 *pte = probe->guest_entry[LEVEL_PTE];

	ept_map(&probe->ept, probe->gpa + PAGE_SIZE, physical(other_page()),
		probe->ept.all_rights | EPT_MEMORY_TYPE(EPT_WB), LEVEL_PTE);
	*pte = (*pte & ~PTE_ADDRESS) | (probe->gpa + PAGE_SIZE);
}

CASE(vm_exit_drops_combined_mappings, PROVES("ept:inv.transition_novpid"), NEEDS(VMX, EPT))
{
	struct ept_probe probe;

	ept_probe_start(&probe, LEVEL_PTE, 0);
	expect_read(&probe, PROBE_CONTENT);
	move_in_guest(&probe);
	expect_read(&probe, OTHER_CONTENT);
}

enum { INVVPID_ADDRESS, INVVPID_SINGLE, INVVPID_ALL, INVVPID_SINGLE_GLOBAL };

static void invvpid_drops(const struct case_def *this_case)
{
	const u64 *type = this_case->row;
	struct invvpid_descriptor descriptor = { .vpid = 1 };
	struct ept_probe probe;

	ept_probe_start(&probe, LEVEL_PTE, 0);
	use_vpid(1);
	expect_read(&probe, PROBE_CONTENT);
	move_in_guest(&probe);
	if (*type == INVVPID_ADDRESS)
		descriptor.address = probe.linear;
	REQUIRE(invvpid(*type, descriptor), OUTCOME_DONE);
	expect_read(&probe, OTHER_CONTENT);
}

#define TYPE(type)	ROW((&(const u64){ INVVPID_##type }))

CASE_RUN(invvpid_of_address, invvpid_drops,
	 PROVES("ept:inv.invvpid_addr", "vmx-capabilities:vpid.invvpid_address"),
	 NEEDS(VMX, EPT, PROC2(ENABLE_VPID), VPID_CAP(INVVPID), VPID_CAP(INVVPID_ADDRESS)),
	 TYPE(ADDRESS));
CASE_RUN(invvpid_of_vpid, invvpid_drops,
	 PROVES("ept:inv.invvpid_single", "vmx-capabilities:vpid.invvpid_single"),
	 NEEDS(VMX, EPT, PROC2(ENABLE_VPID), VPID_CAP(INVVPID), VPID_CAP(INVVPID_SINGLE)),
	 TYPE(SINGLE));
CASE_RUN(invvpid_of_all, invvpid_drops,
	 PROVES("ept:inv.invvpid_all", "vmx-capabilities:vpid.invvpid_all"),
	 NEEDS(VMX, EPT, PROC2(ENABLE_VPID), VPID_CAP(INVVPID), VPID_CAP(INVVPID_ALL)),
	 TYPE(ALL));
CASE_RUN(invvpid_of_vpid_without_globals, invvpid_drops, PROVES("ept:inv.invvpid_retain",
		"vmx-capabilities:vpid.invvpid_single_retaining_globals"),
	 NEEDS(VMX, EPT, PROC2(ENABLE_VPID), VPID_CAP(INVVPID), VPID_CAP(INVVPID_SINGLE_GLOBAL)),
	 TYPE(SINGLE_GLOBAL));

/* --- the guest itself ------------------------------------------------------------------------ */

/*
 * Reads at RBX, makes RCX the PTE at RDX, executes an instruction that invalidates, reads again.
 * The instruction does in a guest what it does elsewhere, for the current VPID: 31.4.3.1.
 */
#define MOVING_GUEST(name, invalidate)					\
	GUEST_CODE(name, "", "movq (%rbx), %rax; movq %rcx, (%rdx); " invalidate	\
		   "; movq (%rbx), %rax")

MOVING_GUEST(move_and_invlpg, "invlpg (%rbx)");
MOVING_GUEST(move_and_load_cr3, "movq %cr3, %rax; movq %rax, %cr3");

struct own_invalidation {
	const struct guest_code *code;
	bool vpid;
};

static void guest_invalidates(const struct case_def *this_case)
{
	const struct own_invalidation *row = this_case->row;
	struct ept_probe probe;
	u64 pte;

	if (vmcs_has_control(CONTROL_PROC1_CR3_LOAD_EXITING) ||
	    vmcs_has_control(CONTROL_PROC1_CR3_STORE_EXITING))
		case_skip("the 0-settings of \"CR3-load exiting\" and \"CR3-store exiting\"");
	ept_probe_start(&probe, LEVEL_PTE, 0);
	if (row->vpid)
		use_vpid(1);
	pte = *probe.guest_entry[LEVEL_PTE];
	move_in_guest(&probe);
	guest_regs()->rbx = probe.linear;
	guest_regs()->rcx = *probe.guest_entry[LEVEL_PTE];
	guest_regs()->rdx = physical(probe.guest_entry[LEVEL_PTE]);
	*probe.guest_entry[LEVEL_PTE] = pte;
	EXPECT(enter_at_instruction(row->code), GUEST_DONE);
	EXPECT_EQ(guest_regs()->rax, OTHER_CONTENT);
}

#define GUEST(code_, vpid_)	ROW((&(const struct own_invalidation){ &guest_##code_, vpid_ }))

CASE_RUN(invlpg_of_guest, guest_invalidates, PROVES("ept:inv.guest_invlpg"), NEEDS(VMX, EPT),
	 GUEST(move_and_invlpg, false));
CASE_RUN(invlpg_of_guest_with_vpid, guest_invalidates, PROVES("ept:inv.guest_invlpg"),
	 NEEDS(VMX, EPT, PROC2(ENABLE_VPID)), GUEST(move_and_invlpg, true));
CASE_RUN(mov_to_cr3_of_guest, guest_invalidates, PROVES("ept:inv.guest_invlpg"), NEEDS(VMX, EPT),
	 GUEST(move_and_load_cr3, false));
CASE_RUN(mov_to_cr3_of_guest_with_vpid, guest_invalidates, PROVES("ept:inv.guest_invlpg"),
	 NEEDS(VMX, EPT, PROC2(ENABLE_VPID)), GUEST(move_and_load_cr3, true));

/* --- which VPID is the current one: 31.1 -------------------------------------------------- */

static u64 *remap(struct ept_probe *probe, u64 content)
{
	u64 *page = page_alloc_filled(content);

	/* The guest's own table: nothing invalidates. */
	*probe->guest_entry[LEVEL_PTE] = (*probe->guest_entry[LEVEL_PTE] & ~PTE_ADDRESS) |
					 physical(page);
	return page;
}

/*
 * What a guest with VPID 1 has left in the TLB is of no use for one without VPIDs, whose
 * translations are of VPID 0, and which the entry has dropped.
 */
CASE(guest_without_vpid_has_vpid_0, PROVES("ept:inv.vpid_root"),
     NEEDS(VMX, EPT, PROC2(ENABLE_VPID)))
{
	struct ept_probe probe;

	ept_probe_start(&probe, LEVEL_PTE, 0);
	use_vpid(1);
	expect_read(&probe, PROBE_CONTENT);
	remap(&probe, OTHER_CONTENT);
	vmcs_clear_control(CONTROL_PROC2_ENABLE_VPID);
	expect_read(&probe, OTHER_CONTENT);
}

/* Nor for the host, which finds another page at that address; nor the host's for the guest. */
CASE(host_has_vpid_0, PROVES("ept:inv.vpid_root"), NEEDS(VMX, EPT, PROC2(ENABLE_VPID)))
{
	struct address_space host;
	struct ept_probe probe;
	volatile u64 *linear;
	u64 *page = page_alloc_filled(OTHER_CONTENT);

	ept_probe_start(&probe, LEVEL_PTE, 0);
	space_copy(&host);
	space_map(&host, probe.linear, physical(page), PTE_P | PTE_RW, LEVEL_PTE);
	space_load(&host);
	vmwrite(HOST_CR3, read_cr3());
	linear = (volatile u64 *)probe.linear;
	EXPECT_EQ(*linear, OTHER_CONTENT);
	use_vpid(1);
	expect_read(&probe, PROBE_CONTENT);
	EXPECT_EQ(*linear, OTHER_CONTENT);
	expect_read(&probe, PROBE_CONTENT);
	space_restore(&host);
}
