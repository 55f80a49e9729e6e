/*
 * EPT under guests without 4-level paging: with PAE paging, and with none.
 *
 * With PAE paging the four page-directory-pointer-table entries are in registers of the
 * processor. MOV to CR3 loads them from memory, by guest-physical addresses that are the
 * translation of no linear address: the exit qualification of a violation has bit 7 clear, and
 * bit 8 with it. These loads are reads, also with accessed and dirty flags for EPT: 31.3.3.2,
 * 31.3.5. VM entry takes the entries from the VMCS.
 *
 * With CR0.PG = 0, which takes "unrestricted guest", a linear address is the guest-physical one
 * (28.6). For EPT it is a user-mode address, and one that guest paging lets be written to and
 * fetched from.
 */
#include "cpu/features.h"
#include "cpu/user.h"
#include "ept/probe.h"
#include "ept/violation.h"
#include "mmu/pages.h"

BEFORE_EACH_CASE(vmx_start);

#define RIGHTS_CODE32	0xc09b

/* A guest in protected mode, with 32-bit code at `code` and flat segments. */
static void start_32_bit(struct ept *ept, const u8 *code, u64 eptp_flags)
{
	ept_start(ept, eptp_flags);
	vmcs_clear_control(CONTROL_ENTRY_IA_32E_MODE_GUEST);
	if (vmcs_has_control(CONTROL_ENTRY_LOAD_IA32_EFER))
		vmwrite(GUEST_IA32_EFER, 0);
	vmwrite(GUEST_CS_SELECTOR, SELECTOR_CODE32);
	vmwrite(GUEST_CS_ACCESS_RIGHTS, RIGHTS_CODE32);
	vmwrite(GUEST_RIP, (u64)code);
}

/* EPT maps the page at `gpa` to itself, with `rights`, by a PTE of its own. */
static u64 *map_page(struct ept *ept, u64 gpa, u64 rights)
{
	return ept_map(ept, gpa, gpa, rights | EPT_MEMORY_TYPE(EPT_WB), LEVEL_PTE);
}

/* --- PAE paging ------------------------------------------------------------------ */

struct pae_guest {
	struct ept ept;
	u64 *pdpt, *directory;		/* in use: the first GByte, by pages of 2 MBytes */
	u64 *next;			/* another such table for CR3 */
};

/* MOV to CR3, then the end: VMCALL. */
CODE32(load_cr3, "movl %eax, %cr3\n\tvmcall");

static void start_pae(struct pae_guest *guest, u64 eptp_flags)
{
	u32 i;

	if (vmcs_has_control(CONTROL_PROC1_CR3_LOAD_EXITING))
		case_skip("the 0-setting of \"CR3-load exiting\"");
	*guest = (struct pae_guest){
		.pdpt = page_alloc(), .directory = page_alloc(), .next = page_alloc(),
	};
	for (i = 0; i < 512; i++)
		guest->directory[i] = i * level_size(LEVEL_PDE) | PTE_P | PTE_RW | PTE_PS;
	guest->pdpt[0] = guest->next[0] = physical(guest->directory) | PTE_P;
	audit_guest_changes(GUEST_PDPTE1);
	start_32_bit(&guest->ept, load_cr3, eptp_flags);
	vmwrite(GUEST_CR3, physical(guest->pdpt));
	vmwrite(GUEST_PDPTE0, guest->pdpt[0]);
	vmwrite(GUEST_PDPTE1, 0);
	vmwrite(GUEST_PDPTE2, 0);
	vmwrite(GUEST_PDPTE3, 0);
	guest_regs()->rax = physical(guest->next);
	audit_guest_changes(GUEST_CR3);
}

/* The table behind CR3 has no translation; it is loaded when it has one. */
static void load_refused(const struct case_def *this_case)
{
	const u64 *eptp_flags = this_case->row;
	struct pae_guest guest;
	u64 *entry;

	start_pae(&guest, *eptp_flags);
	entry = map_page(&guest.ept, physical(guest.next), 0);
	REQUIRE(resume(), OUTCOME_EXIT(EXIT_EPT_VIOLATION));
	EXPECT_VIOLATION(VIOLATION_READ, vmread(GUEST_PHYSICAL_ADDRESS), 0);
	EXPECT_EQ(vmread(GUEST_PHYSICAL_ADDRESS) & PAGE_MASK, physical(guest.next));
	EXPECT_EQ(vmread(GUEST_RIP), (u64)load_cr3);
	EXPECT_EQ(vmread(GUEST_CR3), physical(guest.pdpt));
	*entry |= EPT_RWX;
	EXPECT(resume(), GUEST_DONE);
	EXPECT_EQ(vmread(GUEST_CR3), physical(guest.next));
}

#define EPTP(flags)	ROW((&(const u64){ flags }))

CASE_RUN(pdpte_load_from_page_not_present, load_refused,
	 PROVES("ept:violation.pdpte_load", "exit-qualifications:ept.linear_valid"),
	 NEEDS(VMX, EPT), EPTP(0));
CASE_RUN(pdpte_load_from_page_not_present_with_ad, load_refused,
	 PROVES("ept:violation.pdpte_load", "exit-qualifications:ept.linear_valid"),
	 NEEDS(VMX, EPT, EPT_AD), EPTP(EPTP_ACCESSED_DIRTY));

/* A page that EPT does not let be written is good enough, and does not become dirty. */
CASE(pdpte_load_is_a_read, PROVES("ept:violation.pdpte_load", "ept:ad.dirty_for_paging"),
     NEEDS(VMX, EPT, EPT_AD))
{
	struct pae_guest guest;
	u64 *entry;

	start_pae(&guest, EPTP_ACCESSED_DIRTY);
	entry = map_page(&guest.ept, physical(guest.next), EPT_READ);
	EXPECT(resume(), GUEST_DONE);
	EXPECT_EQ(vmread(GUEST_CR3), physical(guest.next));
	EXPECT_EQ(*entry & (EPT_ACCESSED | EPT_DIRTY), EPT_ACCESSED);
}

/* VM entry takes the entries from the VMCS; nobody looks at the table. VM exit saves them. */
CASE(pdptes_are_those_of_the_vmcs, PROVES("host-and-exit:entry.load.pdpte_ept",
					  "host-and-exit:save.pdpte"),
     NEEDS(VMX, EPT))
{
	struct pae_guest guest;

	start_pae(&guest, 0);
	map_page(&guest.ept, physical(guest.pdpt), 0);
	guest.next[1] = physical(guest.directory) | PTE_P;
	EXPECT(resume(), GUEST_DONE);
	EXPECT_EQ(vmread(GUEST_PDPTE0), guest.next[0]);
	EXPECT_EQ(vmread(GUEST_PDPTE1), guest.next[1]);
}

/*
 * 28.5.7.3: EPTP switching loads no PDPTE. The new tables have no translation for the table of
 * those, and the two that are in registers go on being used.
 */
CODE32(switch_eptp, "xorl %eax, %eax; movl $1, %ecx; vmfunc; movl (%ebx), %eax; vmcall");
#define SECOND_GBYTE	0x40000000ull

CASE(eptp_switching_loads_no_pdpte, PROVES("ept:vmfunc.switch.pdpte"),
     NEEDS(VMX, EPT, PROC2(ENABLE_VM_FUNCTIONS), { "VM function EPTP switching", need_control,
						   CONTROL_VMFUNC_EPTP_SWITCHING, 0 }))
{
	u64 *list = page_alloc(), *page = page_alloc_filled(0x1122334455667788);
	struct pae_guest guest;
	struct ept other;

	start_pae(&guest, 0);
	ept_build(&other);
	list[1] = ept_pointer(&other, 0);
	map_page(&other, physical(guest.pdpt), 0);
	vmcs_set_control(CONTROL_PROC2_ENABLE_VM_FUNCTIONS);
	vmwrite(VM_FUNCTION_CONTROLS, BIT(0));
	vmwrite(EPTP_LIST_ADDRESS, physical(list));
	vmwrite(GUEST_PDPTE1, guest.pdpt[0]);
	vmwrite(GUEST_RIP, (u64)switch_eptp);
	guest_regs()->rbx = SECOND_GBYTE + physical(page);
	REQUIRE(resume(), GUEST_DONE);
	EXPECT_EQ(vmread(EPT_POINTER), list[1]);
	EXPECT_EQ(guest_regs()->rax, 0x55667788);
	EXPECT_EQ(vmread(GUEST_PDPTE1), guest.pdpt[0]);
}

/* The page directory is an ordinary paging structure: it translates the address of the code. */
CASE(page_directory_of_pae, PROVES("ept:violation.paging_read",
				   "exit-qualifications:ept.translated"),
     NEEDS(VMX, EPT))
{
	struct pae_guest guest;
	u64 *entry;

	start_pae(&guest, 0);
	entry = map_page(&guest.ept, physical(guest.directory), 0);
	REQUIRE(resume(), OUTCOME_EXIT(EXIT_EPT_VIOLATION));
	EXPECT_VIOLATION(VIOLATION_READ | VIOLATION_LINEAR_VALID,
			 physical(&guest.directory[(u64)load_cr3 / level_size(LEVEL_PDE)]),
			 (u64)load_cr3);
	*entry |= EPT_RWX;
	EXPECT(resume(), GUEST_DONE);
}

/* --- no paging -------------------------------------------------------------------- */

CODE32(read_memory, "movl (%ebx), %eax\n\tvmcall");
CODE32(jump_to_memory, "jmp *%ebx");

/* VMCALL, for the guest to jump to. */
#define VMCALL_BYTES	0xc1010f

struct unpaged {
	const u8 *code;
	u64 clear;			/* of all rights in the entry of the page */
	bool mode_based;
	u64 qualification;		/* 0: allowed */
};

#define WHEN(...)	ROW((&(const struct unpaged){ __VA_ARGS__ }))

#define R	VIOLATION_READABLE
#define W	VIOLATION_WRITABLE
#define X	VIOLATION_EXECUTABLE
/* What paging that is off says of every linear address: Table 30-7. */
#define UNPAGED	(VIOLATION_LINEAR_VALID | VIOLATION_TRANSLATED | VIOLATION_USER_MODE | \
		 VIOLATION_PAGE_WRITABLE)

static void without_paging(const struct case_def *this_case)
{
	const struct unpaged *row = this_case->row;
	u64 *page = page_alloc_filled(VMCALL_BYTES), *entry;
	u64 instruction = row->qualification & VIOLATION_FETCH ? physical(page) : (u64)row->code;
	struct ept ept;

	start_32_bit(&ept, row->code, 0);
	vmcs_set_control(CONTROL_PROC2_UNRESTRICTED_GUEST);
	if (row->mode_based)
		vmcs_set_control(CONTROL_PROC2_MODE_BASED_EXECUTE_CONTROL_FOR_EPT);
	vmwrite(GUEST_CR0, vmread(GUEST_CR0) & ~CR0_PG);
	entry = map_page(&ept, physical(page), ept.all_rights & ~row->clear);
	guest_regs()->rbx = physical(page);
	if (row->qualification) {
		REQUIRE(resume(), OUTCOME_EXIT(EXIT_EPT_VIOLATION));
		EXPECT_VIOLATION(row->qualification | UNPAGED, physical(page), physical(page));
		EXPECT_EQ(vmread(GUEST_RIP), instruction);
		*entry |= ept.all_rights;
	}
	EXPECT(resume(), GUEST_DONE);
	if (row->code == read_memory)
		EXPECT_EQ(guest_regs()->rax, VMCALL_BYTES);
}

#define NO_PAGING	VMX, EPT, PROC2(UNRESTRICTED_GUEST)
#define MODE_BASED	PROC2(MODE_BASED_EXECUTE_CONTROL_FOR_EPT)

CASE_RUN(read_without_paging, without_paging, PROVES("ept:unrestricted.pg0"), NEEDS(NO_PAGING),
	 WHEN(.code = read_memory));
CASE_RUN(read_of_page_not_present_without_paging, without_paging,
	 PROVES("ept:unrestricted.pg0", "exit-qualifications:ept.user_mode",
		"exit-qualifications:ept.page_writable", "ept:violation.gla"),
	 NEEDS(NO_PAGING),
	 WHEN(.code = read_memory, .clear = ~0ull, .qualification = VIOLATION_READ));
CASE_RUN(fetch_from_no_execute_page_without_paging, without_paging,
	 PROVES("ept:unrestricted.pg0", "ept:violation.fetch"), NEEDS(NO_PAGING),
	 WHEN(.code = jump_to_memory, .clear = EPT_EXECUTE,
	      .qualification = VIOLATION_FETCH | R | W));
CASE_RUN(fetch_without_bit_10_without_paging, without_paging,
	 PROVES("ept:violation.pg0_is_user", "ept:violation.fetch_user"),
	 NEEDS(NO_PAGING, MODE_BASED),
	 WHEN(.code = jump_to_memory, .clear = EPT_USER_EXECUTE, .mode_based = true,
	      .qualification = VIOLATION_FETCH | R | W | X));
CASE_RUN(fetch_without_bit_2_without_paging, without_paging,
	 PROVES("ept:violation.pg0_is_user"), NEEDS(NO_PAGING, MODE_BASED),
	 WHEN(.code = jump_to_memory, .clear = EPT_EXECUTE, .mode_based = true));
