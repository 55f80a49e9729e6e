/*
 * Writes to pages that EPT makes read-only: 31.3.4 Sub-Page Write Permissions.
 *
 * With "sub-page write permissions for EPT" a write that only bit 1 of an EPT entry forbids is
 * looked up once more when bit 61 of the EPT PTE is 1: in tables of four levels, by the
 * guest-physical address, down to a vector of 64 bits. Bit 2S of it allows writes to sub-page S,
 * 128 bytes of the page. An entry on the way whose bit 0 is 0 is an SPP miss; reserved bits in one,
 * or odd bits in the vector, are an SPP misconfiguration. Both exit with reason 66.
 */
#include "cpu/features.h"
#include "ept/probe.h"
#include "ept/violation.h"
#include "mmu/pages.h"

BEFORE_EACH_CASE(vmx_start);

#define SPP		EPT, PROC2(SUB_PAGE_WRITE_PERMISSIONS_FOR_EPT)
#define SUB_PAGE	128
#define SUB_PAGES	(PAGE_SIZE / SUB_PAGE)
#define ALL_ALLOWED	0x5555555555555555ull
#define SPP_VALID	BIT(0)
#define SPP_EVENT	OUTCOME_EXIT(EXIT_SPP_RELATED_EVENT)
#define VIOLATION	OUTCOME_EXIT(EXIT_EPT_VIOLATION)

/* Exit qualification, 30.2.1: bits 11, 12 and 16 are defined. */
#define SPP_MISS	BIT(11)
#define SPP_DEFINED	(BIT(11) | BIT(12) | BIT(16))

GUEST_INSTRUCTION(write, "movq guest_value, %rbx; movq guest_value2, %rax", "movq %rax, (%rbx)");
GUEST_INSTRUCTION(read, "movq guest_value, %rbx", "movq (%rbx), %rax");

struct sub_pages {
	struct ept_probe probe;
	u64 *entry[4];		/* the vector; SPPL2E, SPPL3E, SPPL4E */
};

static u64 *pte(const struct sub_pages *sub)
{
	return sub->probe.entry[LEVEL_PTE];
}

/* The probe's page is read-only but for the sub-pages of `vector`. */
static void start(struct sub_pages *sub, u64 vector)
{
	u64 *table = page_alloc();
	u32 level, shift;

	ept_probe_start(&sub->probe, LEVEL_PTE, 0);
	*pte(sub) = (*pte(sub) & ~EPT_WRITE) | EPT_SUB_PAGE_WRITE;
	vmcs_set_control(CONTROL_PROC2_SUB_PAGE_WRITE_PERMISSIONS_FOR_EPT);
	vmwrite(SUB_PAGE_PERMISSION_TABLE_POINTER, physical(table));
	for (level = 3; level > 0; level--) {
		shift = 12 + 9 * level;
		sub->entry[level] = &table[FIELD(sub->probe.gpa, shift + 8, shift)];
		table = page_alloc();
		*sub->entry[level] = physical(table) | SPP_VALID;
	}
	sub->entry[0] = &table[FIELD(sub->probe.gpa, 20, 12)];
	*sub->entry[0] = vector;
	ept_invalidate(&sub->probe.ept);
}

static outcome_t write_to(struct sub_pages *sub, u32 offset)
{
	guest_value = sub->probe.linear + offset;
	guest_value2 = PROBE_WRITTEN;
	return enter(guest_write.run);
}

static bool is_written(const struct sub_pages *sub, u32 offset)
{
	return *(u64 *)((u8 *)sub->probe.page + offset) == PROBE_WRITTEN;
}

/* 31.3.4.2: it is an EPT violation like that of any write. */
static void expect_refused(struct sub_pages *sub, u32 offset)
{
	EXPECT(write_to(sub, offset), VIOLATION);
	EXPECT_EQ(vmread(GUEST_PHYSICAL_ADDRESS), sub->probe.gpa + offset);
	EXPECT_EQ(vmread(EXIT_QUALIFICATION) &
		  (VIOLATION_READ | VIOLATION_WRITE | VIOLATION_FETCH | VIOLATION_READABLE |
		   VIOLATION_WRITABLE), VIOLATION_WRITE | VIOLATION_READABLE);
	EXPECT_FALSE(is_written(sub, offset));
}

/* --- vectors ---------------------------------------------------------------------------------- */

CASE(each_sub_page_by_itself, PROVES("ept:spp.vector", "ept:spp.deny", "ept:spp.eligible",
     "ept:spp.walk", "ept:entry.pte.bit61", "field-formats:spptp.root"), NEEDS(VMX, SPP))
{
	struct sub_pages sub;
	u32 allowed, i;

	for (allowed = 0; allowed < SUB_PAGES && !case_failed(); allowed += 5) {
		start(&sub, BIT(2 * allowed));
		for (i = 0; i < SUB_PAGES && !case_failed(); i++) {
			if (i == allowed)
				EXPECT(write_to(&sub, i * SUB_PAGE), GUEST_DONE);
			else
				expect_refused(&sub, i * SUB_PAGE + SUB_PAGE - 8);
			if (case_failed())
				case_note("sub-page", "%u, where %u may be written", i, allowed);
		}
		EXPECT_TRUE(is_written(&sub, allowed * SUB_PAGE));
	}
}

CASE(all_sub_pages, PROVES("ept:spp.vector"), NEEDS(VMX, SPP))
{
	struct sub_pages sub;
	u32 i;

	start(&sub, ALL_ALLOWED);
	for (i = 0; i < SUB_PAGES && !case_failed(); i++) {
		EXPECT(write_to(&sub, i * SUB_PAGE), GUEST_DONE);
		EXPECT_TRUE(is_written(&sub, i * SUB_PAGE));
	}
}

CASE(write_to_two_sub_pages, PROVES("ept:spp.vector"), NEEDS(VMX, SPP))
{
	struct sub_pages sub;

	start(&sub, BIT(2 * 3));
	EXPECT(write_to(&sub, 4 * SUB_PAGE - 4), VIOLATION);
	start(&sub, BIT(2 * 4));
	EXPECT(write_to(&sub, 4 * SUB_PAGE - 4), VIOLATION);
	start(&sub, BIT(2 * 3) | BIT(2 * 4));
	EXPECT(write_to(&sub, 4 * SUB_PAGE - 4), GUEST_DONE);
}

/* --- where they do not apply ------------------------------------------------------------------ */

CASE(without_bit_61, PROVES("ept:spp.eligible", "ept:entry.pte.bit61"), NEEDS(VMX, SPP))
{
	struct sub_pages sub;

	start(&sub, ALL_ALLOWED);
	*pte(&sub) &= ~EPT_SUB_PAGE_WRITE;
	expect_refused(&sub, 0);
}

CASE(without_the_control, PROVES("ept:spp.eligible", "ept:entry.pte.bit61"), NEEDS(VMX, SPP))
{
	struct sub_pages sub;

	start(&sub, ALL_ALLOWED);
	vmcs_clear_control(CONTROL_PROC2_SUB_PAGE_WRITE_PERMISSIONS_FOR_EPT);
	expect_refused(&sub, 0);
}

/* The page can be written as a whole, so no vector is looked up. */
CASE(writable_page, PROVES("ept:spp.eligible"), NEEDS(VMX, SPP))
{
	struct sub_pages sub;

	start(&sub, 0);
	*pte(&sub) |= EPT_WRITE;
	EXPECT(write_to(&sub, 0), GUEST_DONE);
}

CASE(page_not_present, PROVES("ept:spp.eligible"), NEEDS(VMX, SPP))
{
	struct sub_pages sub;

	start(&sub, ALL_ALLOWED);
	*pte(&sub) &= ~EPT_RWX & ~EPT_USER_EXECUTE;
	EXPECT(write_to(&sub, 0), VIOLATION);
}

/* A page table whose accessed flag the processor has to set: never by sub-page permissions. */
CASE(guest_accessed_flag, PROVES("ept:spp.not_eligible"), NEEDS(VMX, SPP))
{
	struct sub_pages sub;
	u64 *table;

	start(&sub, ALL_ALLOWED);
	table = sub.probe.page;
	table[0] = physical(page_alloc()) | PTE_P | PTE_RW;
	*sub.probe.guest_entry[LEVEL_PDE] = sub.probe.gpa | PTE_P | PTE_RW;
	guest_value = sub.probe.linear & ~(level_size(LEVEL_PDE) - 1);
	EXPECT(enter(guest_read.run), VIOLATION);
	EXPECT_EQ(table[0] & PTE_A, 0);
}

/* --- tables ----------------------------------------------------------------------------------- */

static void expect_event(struct sub_pages *sub, u64 qualification)
{
	if (!EXPECT(write_to(sub, 0x80), SPP_EVENT))
		return;
	EXPECT_EQ(vmread(EXIT_QUALIFICATION) & SPP_DEFINED, qualification);
	EXPECT_EQ(vmread(GUEST_PHYSICAL_ADDRESS), sub->probe.gpa + 0x80);
	EXPECT_EQ(vmread(GUEST_LINEAR_ADDRESS), sub->probe.linear + 0x80);
	EXPECT_FALSE(is_written(sub, 0x80));
}

static void check_miss(const struct case_def *this_case)
{
	u32 level = *(const u32 *)this_case->row;
	struct sub_pages sub;

	start(&sub, ALL_ALLOWED);
	/* Reserved bits mean nothing then. */
	*sub.entry[level] = (*sub.entry[level] & ~SPP_VALID) | BIT(1);
	expect_event(&sub, SPP_MISS);
	*sub.entry[level] = (*sub.entry[level] | SPP_VALID) & ~BIT(1);
	EXPECT(resume(), GUEST_DONE);
	EXPECT_TRUE(is_written(&sub, 0x80));
}

static void check_misconfiguration(const struct case_def *this_case)
{
	u32 level = *(const u32 *)this_case->row;
	u64 reserved = BITS(11, 1) | ~BITS(maxphyaddr() - 1, 0), bit, good;
	struct sub_pages sub;

	start(&sub, ALL_ALLOWED);
	good = *sub.entry[level];
	for (; reserved && !case_failed(); reserved &= ~bit) {
		bit = reserved & -reserved;
		*sub.entry[level] = good | bit;
		expect_event(&sub, 0);
		if (case_failed())
			case_note("entry", "%#lx", good | bit);
	}
}

#define LEVEL_CASES(name, number)						\
	CASE_RUN(miss_in_##name, check_miss,					\
		 PROVES("exit-reasons:66", "ept:spp.miss", "ept:spp.walk",	\
			"exit-qualifications:spp.miss"), NEEDS(VMX, SPP),	\
		 ROW((&(const u32){ number })));				\
	CASE_RUN(reserved_bits_of_##name, check_misconfiguration,		\
		 PROVES("exit-reasons:66", "ept:spp.misconfig",		\
			"exit-qualifications:spp.miss"), NEEDS(VMX, SPP),	\
		 ROW((&(const u32){ number })))
LEVEL_CASES(sppl2e, 1);
LEVEL_CASES(sppl3e, 2);
LEVEL_CASES(sppl4e, 3);

CASE(odd_bits_of_the_vector, PROVES("ept:spp.misconfig", "exit-qualifications:spp.nmi_unblocking"),
     NEEDS(VMX, SPP))
{
	struct sub_pages sub;
	u32 bit;

	for (bit = 1; bit < 64 && !case_failed(); bit += 2) {
		start(&sub, ALL_ALLOWED | BIT(bit));
		expect_event(&sub, 0);
	}
}

/* 29.2.1.1: bits 11:0 of the pointer, and those above MAXPHYADDR, are 0. */
CASE(reserved_bits_of_the_pointer, PROVES("field-formats:spptp.reserved"), NEEDS(VMX, SPP))
{
	struct sub_pages sub;
	u64 good;
	u32 bit;

	start(&sub, ALL_ALLOWED);
	good = vmread(SUB_PAGE_PERMISSION_TABLE_POINTER);
	for (bit = 0; bit < 64; bit++) {
		if (bit >= 12 && bit < maxphyaddr())
			continue;
		vmwrite(SUB_PAGE_PERMISSION_TABLE_POINTER, good | BIT(bit));
		EXPECT_FOR_BIT(bit, write_to(&sub, 0),
			       OUTCOME_VMFAIL_VALID(VMFAIL_ENTRY_INVALID_CONTROL_FIELDS));
	}
}
