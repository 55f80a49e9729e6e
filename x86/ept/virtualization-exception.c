/*
 * Virtualization exceptions: 28.5.8. With "EPT-violation #VE" an EPT violation becomes an exception
 * in the guest, vector 20, when bit 63 of one entry is 0: of the one that is not present, or of
 * the one that maps the page. What a VM exit would have reported goes to an area in memory, whose
 * second doubleword locks it: until software clears that, violations exit. For double faults #VE
 * counts as a page fault: 28.5.8.3, and 7.15, Table 7-5.
 */
#include "ept/probe.h"
#include "ept/violation.h"
#include "mmu/pages.h"
#include "string.h"
#include "vmx/handlers.h"

BEFORE_EACH_CASE(vmx_start);

#define VE	VMX, EPT, PROC2(EPT_VIOLATION_VE)

#define VIRTUALIZATION_EXCEPTION	OUTCOME_EXCEPTION(VECTOR_VE)
#define HARDWARE_EXCEPTION(vector)	(BIT(31) | 3ull << 8 | (vector))
#define WITH_ERROR_CODE			BIT(11)

/* Table 28-23. */
struct information {
	u32 reason, busy;
	u64 qualification, linear, physical;
	u16 eptp_index;
};

/* A page to violate, with the control on; the area is free. */
static struct information *start(struct ept_probe *probe)
{
	struct information *area = page_alloc();

	ept_probe_start(probe, LEVEL_PTE, 0);
	vmcs_set_control(CONTROL_PROC2_EPT_VIOLATION_VE);
	vmwrite(VIRTUALIZATION_EXCEPTION_INFORMATION_ADDRESS, physical(area));
	vmwrite(EPTP_INDEX, 0x1234);
	return area;
}

/* --- which violations become exceptions ---------------------------------------------- */

struct conversion {
	u64 clear, set;			/* bits of the EPT PTE that maps the page */
	u64 set_pde;			/* bits of the EPT PDE above */
	u32 busy;			/* the second doubleword of the area */
	outcome_t exit;			/* 0: #VE in the guest */
};

static void converts(const struct case_def *this_case)
{
	const struct conversion *row = this_case->row;
	struct ept_probe probe;
	struct information *area = start(&probe);

	area->busy = row->busy;
	*probe.entry[LEVEL_PTE] = (*probe.entry[LEVEL_PTE] & ~row->clear) | row->set;
	*probe.entry[LEVEL_PDE] |= row->set_pde;
	if (row->exit) {
		EXPECT(ept_probe_enter(&probe, ACCESS_WRITE), row->exit);
		EXPECT_EQ(area->reason, 0);
		EXPECT_EQ(area->busy, row->busy);
		return;
	}
	EXPECT(ept_probe_enter(&probe, ACCESS_WRITE), GUEST_DONE);
	EXPECT(guest_outcome(), VIRTUALIZATION_EXCEPTION);
	EXPECT_EQ(area->reason, EXIT_EPT_VIOLATION);
	EXPECT_EQ(area->busy, 0xffffffff);
	EXPECT_EQ(*probe.page, PROBE_CONTENT);
}

#define CONVERTS(name, fact, ...)						\
	static const struct conversion conversion_##name = { __VA_ARGS__ };	\
	CASE_RUN(name, converts, PROVES(fact), NEEDS(VE), ROW(&conversion_##name))

#define ALL_ENTRY	(~0ull & ~EPT_SUPPRESS_VE)
#define EXITS		.exit = OUTCOME_EXIT(EXIT_EPT_VIOLATION)

CONVERTS(entry_not_present, "ept:ve.convertible_np", .clear = ALL_ENTRY);
CONVERTS(entry_not_present_suppressed, "ept:ve.convertible_np",
	 .clear = ALL_ENTRY, .set = EPT_SUPPRESS_VE, EXITS);
CONVERTS(page_not_writable, "ept:ve.convertible_leaf", .clear = EPT_WRITE);
CONVERTS(page_not_writable_suppressed, "ept:entry.leaf.bit63",
	 .clear = EPT_WRITE, .set = EPT_SUPPRESS_VE, EXITS);
CONVERTS(bit_63_of_the_table_above, "ept:ve.convertible_leaf",
	 .clear = EPT_WRITE, .set_pde = EPT_SUPPRESS_VE);
CONVERTS(area_is_busy, "ept:ve.busy", .clear = EPT_WRITE, .busy = 1, EXITS);
CONVERTS(misconfiguration_exits, "ept:misconfig.no_ve",
	 .clear = EPT_READ, .exit = OUTCOME_EXIT(EXIT_EPT_MISCONFIGURATION));

/* --- what the guest sees -------------------------------------------------------------- */

CASE(information_of_the_violation,
     PROVES("ept:ve.info", "ept:ve.vector", "exceptions:vector.20",
     "field-formats:ve_information.reason", "field-formats:ve_information.qualification",
     "field-formats:ve_information.linear_address",
     "field-formats:ve_information.physical_address",
     "field-formats:ve_information.busy"), NEEDS(VE))
{
	struct ept_probe probe;
	struct information *area = start(&probe), got;
	u64 qualification;

	/* The same violation as an exit tells what must be in the area. */
	area->busy = 1;
	*probe.entry[LEVEL_PTE] = 0;
	REQUIRE(ept_probe_enter(&probe, ACCESS_READ), OUTCOME_EXIT(EXIT_EPT_VIOLATION));
	qualification = vmread(EXIT_QUALIFICATION);
	area->busy = 0;
	EXPECT(resume(), GUEST_DONE);
	EXPECT(guest_outcome(), VIRTUALIZATION_EXCEPTION);
	got = *area;
	EXPECT_EQ(got.reason, EXIT_EPT_VIOLATION);
	EXPECT_EQ(got.busy, 0xffffffff);
	EXPECT_EQ(got.qualification, qualification);
	EXPECT_EQ(got.linear, probe.linear);
	EXPECT_EQ(got.physical, probe.gpa);
}

CASE(information_has_the_eptp_index, PROVES("ept:ve.info",
     "field-formats:ve_information.eptp_index"), NEEDS(VE))
{
	struct ept_probe probe;
	struct information *area = start(&probe);

	*probe.entry[LEVEL_PTE] = 0;
	EXPECT(ept_probe_enter(&probe, ACCESS_READ), GUEST_DONE);
	EXPECT_EQ(area->eptp_index, 0x1234);
}

static void expect_exception_exit(struct ept_probe *probe, u8 bitmap, u64 event)
{
	vmwrite(EXCEPTION_BITMAP, BIT(bitmap));
	*probe->entry[LEVEL_PTE] = 0;
	REQUIRE(ept_probe_enter(probe, ACCESS_READ), OUTCOME_EXIT(EXIT_EXCEPTION_OR_NMI));
	EXPECT_EQ(vmread(EXITING_EVENT_IDENTIFICATION), event);
}

CASE(exception_bitmap, PROVES("ept:ve.bitmap"), NEEDS(VE))
{
	struct ept_probe probe;
	struct information *area = start(&probe);

	expect_exception_exit(&probe, VECTOR_VE, HARDWARE_EXCEPTION(VECTOR_VE));
	EXPECT_EQ(area->busy, 0xffffffff);
}

/* --- during its delivery: a double fault ------------------------------------------------ */

static void check_double_fault(void (*spoil)(struct gate *gate))
{
	struct ept_probe probe;

	start(&probe);
	spoil(&this_cpu()->idt[VECTOR_VE]);
	expect_exception_exit(&probe, VECTOR_DF, HARDWARE_EXCEPTION(VECTOR_DF) | WITH_ERROR_CODE);
	EXPECT_EQ(vmread(EXITING_EVENT_ERROR_CODE), 0);
}

static void absent(struct gate *gate)
{
	gate->type &= ~0x80;
}

static void unmapped_stack(struct gate *gate)
{
	gate->ist = 4;
	this_cpu()->tss.ist[3] = UNMAPPED_ADDRESS;
}

CASE(contributory_during_delivery, PROVES("exceptions:pair.ve", "ept:ve.vector"), NEEDS(VE))
{
	check_double_fault(absent);
}

CASE(page_fault_during_delivery, PROVES("exceptions:pair.ve", "ept:ve.vector"), NEEDS(VE))
{
	check_double_fault(unmapped_stack);
}

/* --- what else it takes: 28.5.8.1 --------------------------------------------------------- */

#define UNRESTRICTED	PROC2(UNRESTRICTED_GUEST)
#define CODE_OFFSET	0x100

/* In real-address mode, CR0.PE = 0: a segment that EPT does not let be read. */
CASE(violation_in_real_mode_exits, PROVES("ept:ve.conditions"), NEEDS(VE, UNRESTRICTED))
{
	/* MOV from 0 to AX */
	static const u8 code[] = { 0xa1, 0x00, 0x00 };
	struct ept_probe probe;
	struct information *area = start(&probe);
	u8 *page = page_alloc();
	u32 i;

	memcpy(page + CODE_OFFSET, code, sizeof(code));
	ept_map(&probe.ept, physical(probe.page), physical(probe.page), 0, LEVEL_PTE);
	ept_invalidate(&probe.ept);
	guest_to_real_mode();
	for (i = 0; i < 6; i++) {	/* ES CS SS DS FS GS */
		vmwrite(GUEST_ES_LIMIT + 2 * i, 0xffff);
		vmwrite(GUEST_ES_ACCESS_RIGHTS + 2 * i, 0x93);
		vmwrite(GUEST_ES_BASE + 2 * i, physical(page));
	}
	vmwrite(GUEST_DS_BASE, physical(probe.page));
	vmwrite(GUEST_RIP, CODE_OFFSET);
	vmwrite(GUEST_RSP, PAGE_SIZE - 2);
	REQUIRE(resume(), OUTCOME_EXIT(EXIT_EPT_VIOLATION));
	EXPECT_EQ(vmread(GUEST_PHYSICAL_ADDRESS), physical(probe.page));
	EXPECT_EQ(area->reason, 0);
	EXPECT_EQ(area->busy, 0);
}

/* The same write is an exception where an instruction makes it. */
CASE(violation_during_delivery_exits, PROVES("ept:ve.conditions"), NEEDS(VE))
{
	struct ept_probe probe;
	struct information *area = start(&probe);

	ept_change(&probe.ept, probe.gpa, LEVEL_PTE, EPT_WRITE, 0);
	guest_handlers_start()[0x51].ist = 4;
	this_cpu()->tss.ist[3] = probe.linear + 0x800;
	vmwrite(INJECTED_EVENT_IDENTIFICATION, INJECTED_EVENT(EVENT_TYPE_EXTERNAL_INTERRUPT, 0x51));
	vmwrite(GUEST_RFLAGS, RFLAGS_FIXED | RFLAGS_IF);
	vmwrite(GUEST_RIP, guest_handler(0));
	REQUIRE(resume(), OUTCOME_EXIT(EXIT_EPT_VIOLATION));
	EXPECT_EQ(vmread(GUEST_LINEAR_ADDRESS) & ~0xfffull, probe.linear);
	EXPECT_EQ(vmread(ORIGINAL_EVENT_IDENTIFICATION) & ~BIT(12),
		  INJECTED_EVENT(EVENT_TYPE_EXTERNAL_INTERRUPT, 0x51));
	EXPECT_EQ(area->reason, 0);
	EXPECT_EQ(area->busy, 0);
	/* Its handler exits. */
	EXPECT(ept_probe_enter(&probe, ACCESS_WRITE), OUTCOME_EXIT(EXIT_CPUID));
	EXPECT_EQ(area->reason, EXIT_EPT_VIOLATION);
}

CASE(first_instruction_of_the_handler_exits, PROVES("host-and-exit:save.rip.instruction",
     "ept:ve.vector"), NEEDS(VE))
{
	struct ept_probe probe;

	start(&probe);
	ept_change(&probe.ept, probe.gpa, LEVEL_PTE, EPT_WRITE, 0);
	guest_handlers_start();
	EXPECT_HANDLER(ept_probe_enter(&probe, ACCESS_WRITE), VECTOR_VE);
}
