/*
 * VM exits to a host in 32-bit mode: the VM-exit control "host address-space size" is 0.
 *
 * Such a host enters from 32-bit code, and its guests begin outside IA-32e mode (29.2.2). The exit
 * makes CS a 32-bit segment, leaves IA-32e mode off (30.5.1, 30.5.2), and with PAE paging loads the
 * PDPTE registers through the CR3 of the host (30.5.4). Two things can go wrong on the way: a PDPTE
 * that cannot be loaded, and a guest that has gone into IA-32e mode by itself. Both are VMX aborts
 * (30.7), which shut the processor down; a second processor is the subject then, and the first one
 * watches.
 *
 * Rules of VM entry that compare the host of the VMCS with the mode in which VMLAUNCH executes, or
 * hold for a 32-bit host alone (29.2.3, 29.2.4), show here, where nothing else refuses the entry.
 *
 * The VMCS is made in 64-bit mode and cleared; a script in 32-bit code (mmu/legacy.h) makes it
 * current again and enters.
 */
#include "cpu/features.h"
#include "cpu/safe.h"
#include "cpu/smp.h"
#include "ept/ept.h"
#include "mmu/legacy.h"
#include "mmu/legacy_tables.h"
#include "mmu/pages.h"
#include "vmx/guest.h"

GUEST_CODE(cpuid, "", "cpuid");

/* --- VMX instructions in 32-bit code: EAX is 1 after an exit, RFLAGS after VMfail -------- */

#define EXITED		1u
#define ENTRY_32(name, before)							\
	CODE32(name, "movl $0x6c14, %eax; vmwrite %esp, %eax; pushfl; orl $0x8d5, (%esp); popfl;" \
		     before "vmlaunch; pushfl; popl %eax")
ENTRY_32(vmlaunch_32, "");
ENTRY_32(vmlaunch_behind_pop_ss_32, "pushl %ss; popl %ss;");
CODE32(host_rip_32, "movl $1, %eax");
CODE32(vmxon_32, "vmxon (%eax)");
CODE32(vmptrld_32, "vmptrld (%eax)");
CODE32(vmread_32, "vmread %eax, %eax");
CODE32(vmxoff_32, "vmxoff");
CODE32(get_cs_32, "movl %cs, %eax");

/*
 * Bits 63:32 of CR4, which 32-bit code cannot read: out of PAE paging into IA-32e mode and back,
 * with no load of CR4, which would clear them. The code is where it is without paging.
 */
u32 ia32e_tables __used;
u32 cr4_high __used;
CODE32(get_cr4_high_32,
       "movl %cr3, %esi; movl %cr0, %ebp; andl $0x7fffffff, %ebp; movl %ebp, %cr0;"
       "movl $0xc0000080, %ecx; rdmsr; movl %eax, %edi; orl $0x100, %eax; wrmsr;"
       "movl ia32e_tables, %eax; movl %eax, %cr3;"
       "orl $0x80000000, %ebp; movl %ebp, %cr0; ljmp $0x08, $1f\n"
       "\t.code64\n1:\tmovq %cr4, %rax; shrq $32, %rax; movl %eax, cr4_high;"
       "pushq $0x18; pushq $2f; lretq\n"
       "\t.code32\n2:\tandl $0x7fffffff, %ebp; movl %ebp, %cr0;"
       "movl $0xc0000080, %ecx; rdmsr; movl %edi, %eax; wrmsr; movl %esi, %cr3;"
       "orl $0x80000000, %ebp; movl %ebp, %cr0; movl cr4_high, %eax");
_Static_assert(SELECTOR_CODE64 == 0x08 && SELECTOR_CODE32 == 0x18, "get_cr4_high_32 goes there");

_Static_assert(HOST_RSP == 0x6c14, "vmlaunch_32 writes it");

static u64 vmxon_pointer, vmcs_pointer;

#define BEGIN								\
	{ LEGACY_STEP("VMXON by", vmxon_32, (u32)(u64)&vmxon_pointer, 0) },	\
	{ LEGACY_STEP("VMPTRLD by", vmptrld_32, (u32)(u64)&vmcs_pointer, 0) }
#define ENTER		LEGACY_STEP("VMLAUNCH,", vmlaunch_32, 0, 0), .gives = EXITED
#define VMREAD_32(field) LEGACY_STEP("VMREAD of", vmread_32, field, 0)
#define VMXOFF_32	LEGACY_STEP("VMXOFF,", vmxoff_32, 0, 0)

/* --- the VMCS ---------------------------------------------------------------------------- */

/* A guest with 32-bit paging that executes CPUID. */
static void make_guest(void)
{
	guest_to_32_bit_mode();
	vmwrite(GUEST_RIP, (u64)guest_cpuid.at);
}

static void make_host(u32 cr3, u32 cr4)
{
	vmcs_clear_control(CONTROL_EXIT_HOST_ADDRESS_SPACE_SIZE);
	if (vmcs_has_control(CONTROL_EXIT_HOST_ADDRESS_SPACE_SIZE))
		case_skip("the 0-setting of \"host address-space size\"");
	vmwrite(HOST_CR0, read_cr0() & BITS(31, 0));
	vmwrite(HOST_CR3, cr3);
	vmwrite(HOST_CR4, cr4);
	vmwrite(HOST_CS_SELECTOR, SELECTOR_CODE32);
	vmwrite(HOST_RIP, (u64)host_rip_32);
	if (control_allowed(CONTROL_EXIT_LOAD_IA32_EFER))
		vmwrite(HOST_IA32_EFER, 0);
}

/* What the VMCS has is in memory then, and the processor is free to leave 64-bit mode. */
static void put_away(void)
{
	vmxon_pointer = (u64)this_vmx()->vmxon_region;
	vmcs_pointer = (u64)this_vmx()->vmcs_region;
	REQUIRE(vmclear(vmcs_pointer), OUTCOME_DONE);
	REQUIRE(vmxoff(), OUTCOME_DONE);
}

/* CR4 of a 32-bit host; PCIDE must be 0 there: 29.2.2. */
static u32 host_cr4(bool pae)
{
	return (read_cr4() & ~(CR4_PCIDE | CR4_PAE)) | CR4_PSE | (pae ? CR4_PAE : 0);
}

/* --- what is loaded ---------------------------------------------------------------------- */

CASE(host_with_32_bit_paging, PROVES("host-and-exit:host.cr4.pcide", "host-and-exit:host.efer",
     "host-and-exit:host.cs"), NEEDS(VMX))
{
	u32 *directory = tables_32_bit(), cr4;
	struct legacy_start start = { .mode = PAGING_32_BIT,
				      .cr3 = physical(directory),
				      .cr4 = CR4_PSE };

	vmx_start();
	cr4 = host_cr4(false);
	make_guest();
	make_host(physical(directory), cr4 ^ CR4_TSD);
	put_away();
	LEGACY_RUN(&start, ((struct legacy_step[]){
		BEGIN,
		{ ENTER },
		{ GET_CR4, .gives = cr4 ^ (u32)CR4_TSD },
		{ GET_EFER, .gives = 0, .mask = EFER_LMA | EFER_LME },
		{ LEGACY_STEP("MOV from CS,", get_cs_32, 0, 0), .gives = SELECTOR_CODE32 },
		{ VMREAD_32(EXIT_REASON), .gives = EXIT_CPUID },
		{ VMREAD_32(GUEST_RIP), .gives = (u32)(u64)guest_cpuid.at },
		{ VMXOFF_32 },
	}));
}

#define PAGE	0x40000000u	/* linear, under the second PDPTE */

/* The PDPTE registers are those of the host's CR3, which is another one than before the entry. */
CASE(host_with_pae_paging, PROVES("host-and-exit:host.pdpte"), NEEDS(VMX))
{
	u64 *before = tables_pae(), *after = tables_pae();
	struct legacy_start start = { .mode = PAGING_PAE, .cr3 = physical(before) };

	vmx_start();
	map_pae(before, PAGE, physical(page_alloc_filled(0x100000001)), PTE_P);
	map_pae(after, PAGE, physical(page_alloc_filled(0x200000002)), PTE_P);
	make_guest();
	make_host(physical(after), host_cr4(true));
	put_away();
	LEGACY_RUN(&start, ((struct legacy_step[]){
		BEGIN,
		{ READ(PAGE), .gives = 1 },
		{ ENTER },
		{ READ(PAGE), .gives = 2 },
		{ GET_CR3, .gives = (u32)physical(after) },
		/* Registers: what is in memory does not matter any more. */
		{ WRITE((u32)physical(&after[2]), 0) },
		{ READ(PAGE), .gives = 2 },
		{ VMREAD_32(EXIT_REASON), .gives = EXIT_CPUID },
		{ VMXOFF_32 },
	}));
}

/*
 * The exit clears the bit, but no state that it can be reached from has it set. The field has 0, or
 * the entry fails (29.2.4: case fred). The guest begins with 0 (29.3.1.1: the bit needs an IA-32e
 * mode guest, and a host that enters from 32-bit code can have none, 29.2.4), may set it in IA-32e
 * mode alone, and then never leaves that mode: with FRED code at CPL 0 is 64-bit code (29.3.1.2),
 * which cannot clear CR0.PG; so its exit is the VMX abort of 30.7. What the case can find is a bit
 * that comes from elsewhere, as from a hypervisor below, whose own CR4 has it.
 */
CASE(host_without_fred, PROVES("host-and-exit:host.cr4.fred"), NEEDS(VMX, CPU(FRED)))
{
	u64 *tables = tables_pae();
	struct legacy_start start = { .mode = PAGING_PAE, .cr3 = physical(tables) };

	vmx_start();
	ia32e_tables = read_cr3();
	cr4_high = ~0u;
	make_guest();
	make_host(physical(tables), host_cr4(true));
	put_away();
	LEGACY_RUN(&start, ((struct legacy_step[]){
		BEGIN,
		{ ENTER },
		{ VMREAD_32(EXIT_REASON), .gives = EXIT_CPUID },
		{ VMXOFF_32 },
		{ LEGACY_STEP("MOV from CR4, bits 63:32,", get_cr4_high_32, 0, 0) },
	}));
	EXPECT_EQ(cr4_high, 0);
}

/* --- POP SS, which is no instruction of 64-bit mode -------------------------------------- */

#define ONLY_ZF		RFLAGS_ZF

CASE(entry_behind_pop_ss, PROVES("vm-entry-checks:basic.pop_ss_blocking"), NEEDS(VMX))
{
	u32 *directory = tables_32_bit();
	struct legacy_start start = { .mode = PAGING_32_BIT,
				      .cr3 = physical(directory),
				      .cr4 = CR4_PSE };

	vmx_start();
	make_guest();
	make_host(physical(directory), host_cr4(false));
	put_away();
	LEGACY_RUN(&start, ((struct legacy_step[]){
		BEGIN,
		{ LEGACY_STEP("VMLAUNCH behind POP SS,", vmlaunch_behind_pop_ss_32, 0, 0),
		  .gives = ONLY_ZF, .mask = RFLAGS_STATUS },
		{ VMREAD_32(VM_INSTRUCTION_ERROR), .gives = VMFAIL_ENTRY_BLOCKED_BY_MOV_SS },
		{ ENTER },
		{ VMXOFF_32 },
	}));
}

/* --- rules of such an entry: 29.2.3, 29.2.4 ------------------------------------------------ */

struct host_rule {
	void (*broken)(void);	/* changes the VMCS */
	bool or_control;	/* refused as a wrong host, or as a wrong control as well */
};

static void enter_once(void (*change)(void), struct legacy_step launch, struct legacy_step error)
{
	u64 *tables = tables_pae();
	struct legacy_start start = { .mode = PAGING_PAE, .cr3 = physical(tables) };

	vmx_start();
	make_guest();
	make_host(physical(tables), host_cr4(true));
	if (change)
		change();
	put_away();
	LEGACY_RUN(&start, ((struct legacy_step[]){ BEGIN, launch, error, { VMXOFF_32 } }));
}

/* With the change the entry is refused, and without it it is not. */
static void check_host_rule(const struct case_def *this_case)
{
	const struct host_rule *row = this_case->row;

	enter_once(row->broken,
		   (struct legacy_step){ LEGACY_STEP("VMLAUNCH,", vmlaunch_32, 0, 0),
					 .gives = ONLY_ZF, .mask = RFLAGS_STATUS },
		   (struct legacy_step){ VMREAD_32(VM_INSTRUCTION_ERROR),
					 .gives = VMFAIL_ENTRY_INVALID_HOST_STATE,
					 .or_gives = row->or_control ?
						     VMFAIL_ENTRY_INVALID_CONTROL_FIELDS : 0 });
	enter_once(NULL, (struct legacy_step){ ENTER },
		   (struct legacy_step){ VMREAD_32(EXIT_REASON), .gives = EXIT_CPUID });
}

#define HOST_RULE(name, facts, needs, or_control, ...)				\
	static void broken_##name(void)						\
	{									\
		__VA_ARGS__							\
	}									\
	static const struct host_rule rule_##name = { broken_##name, or_control }; \
	CASE_RUN(name, check_host_rule, facts, needs, ROW(&rule_##name));

HOST_RULE(ss_null, PROVES("vm-entry-checks:host.ss.null"), NEEDS(VMX), false,
	  vmwrite(HOST_SS_SELECTOR, 0);)
/*
 * 29.2.4 does not say whether its checks are of the controls or of the host. Here two rules,
 * neither of which can be broken without the other.
 */
HOST_RULE(ia32e_mode_guest, PROVES("vm-entry-checks:host.space.legacy_guest64",
	  "vm-entry-checks:host.space32.guest64"), NEEDS(VMX), true,
	  vmcs_set_control(CONTROL_ENTRY_IA_32E_MODE_GUEST);)
HOST_RULE(host_in_64_bit_mode, PROVES("vm-entry-checks:host.space.legacy_host64"), NEEDS(VMX), true,
	  vmcs_set_control(CONTROL_EXIT_HOST_ADDRESS_SPACE_SIZE);
	  vmwrite(HOST_CS_SELECTOR, SELECTOR_CODE64);
	  if (control_allowed(CONTROL_EXIT_LOAD_IA32_EFER))
		vmwrite(HOST_IA32_EFER, EFER_LME | EFER_LMA);)
HOST_RULE(pcide, PROVES("vm-entry-checks:host.space32.pcide"), NEEDS(VMX, CPU(PCID)), true,
	  vmwrite(HOST_CR4, vmread(HOST_CR4) | CR4_PCIDE);)
/* A.8: where VMX operation has no CR4.FRED, the bit is refused anyhow. */
HOST_RULE(fred, PROVES("vm-entry-checks:host.space32.fred"), NEEDS(VMX, CPU(FRED)), true,
	  if (!(capabilities()->cr4_fixed1 & CR4_FRED))
		case_skip("CR4.FRED in VMX operation");
	  vmwrite(HOST_CR4, vmread(HOST_CR4) | CR4_FRED);)
HOST_RULE(rip_bit_32, PROVES("vm-entry-checks:host.space32.rip"), NEEDS(VMX), true,
	  vmwrite(HOST_RIP, vmread(HOST_RIP) | BIT(32));)
HOST_RULE(rip_bit_63, PROVES("vm-entry-checks:host.space32.rip"), NEEDS(VMX), true,
	  vmwrite(HOST_RIP, vmread(HOST_RIP) | BIT(63));)
HOST_RULE(s_cet_bit_32, PROVES("vm-entry-checks:host.space32.s_cet"),
	  NEEDS(VMX, EXIT_CTL(LOAD_CET_STATE)), true,
	  vmcs_set_control(CONTROL_EXIT_LOAD_CET_STATE); vmwrite(HOST_IA32_S_CET, BIT(32));)
HOST_RULE(ssp_bit_32, PROVES("vm-entry-checks:host.space32.ssp"),
	  NEEDS(VMX, EXIT_CTL(LOAD_CET_STATE)), true,
	  vmcs_set_control(CONTROL_EXIT_LOAD_CET_STATE); vmwrite(HOST_SSP, BIT(32));)

/* --- VMX aborts: 30.7 ------------------------------------------------------------------- */

enum { HOST_PDPTES = 2, IA32E_MODE_GUEST = 6 };

static struct {
	volatile u32 *indicator;	/* of the VMCS region */
	volatile u32 came_back;
	u64 *entry_tables, *exit_tables;
	struct ept ept;
	bool into_ia32e_mode;
} work;

/* 32-bit code without paging: PAE, LME, the tables that the host has in 64-bit mode, PG. */
extern const u8 into_ia32e_mode_32[];
asm(".pushsection .text\n\t.code32\n"
    "into_ia32e_mode_32:\n\t"
    "movl %cr4, %eax\n\torl $0x20, %eax\n\tmovl %eax, %cr4\n\t"
    "movl $0xc0000080, %ecx\n\trdmsr\n\torl $0x100, %eax\n\twrmsr\n\tmovl ia32e_tables, %eax\n\t"
    "movl %eax, %cr3\n\tmovl %cr0, %eax\n\torl $0x80000000, %eax\n\tmovl %eax, %cr0\n\tcpuid\n\t"
    ".code64\n\t.popsection");

static void make_guest_for_ia32e_mode(void)
{
	vmcs_set_control(CONTROL_PROC1_USE_MSR_BITMAPS);
	vmcs_set_control(CONTROL_PROC2_ENABLE_EPT);
	vmcs_set_control(CONTROL_PROC2_UNRESTRICTED_GUEST);
	vmwrite(EPT_POINTER, ept_pointer(&work.ept, 0));
	vmwrite(GUEST_CR0, vmread(GUEST_CR0) & ~CR0_PG);
	vmwrite(GUEST_RIP, (u64)into_ia32e_mode_32);
	ia32e_tables = read_cr3();
}

/* On the second processor. */
static void enter_guest(void *unused)
{
	struct legacy_start start = { .mode = PAGING_PAE, .cr3 = physical(work.entry_tables) };

	(void)unused;
	vmx_start();
	make_guest();
	if (work.into_ia32e_mode)
		make_guest_for_ia32e_mode();
	make_host(physical(work.exit_tables), host_cr4(true));
	put_away();
	LEGACY_RUN(&start, ((struct legacy_step[]){
		BEGIN,
		{ ENTER },
		{ VMXOFF_32 },
	}));
	work.came_back = 1;
}

static void expect_abort(u32 indicator)
{
	u32 spin;

	work.came_back = 0;
	work.indicator = (volatile u32 *)(this_vmx()->vmcs_region + 4);
	case_boot_again();
	smp_begin(1, enter_guest, NULL);
	for (spin = 0; spin < 1000000 && !*work.indicator && !work.came_back; spin++)
		pause();
	EXPECT_EQ(*work.indicator, indicator);
	/* Were it not shut down, it would go on. */
	for (spin = 0; spin < 100000; spin++)
		pause();
	EXPECT_EQ(work.came_back, 0);
}

static void make_tables(void)
{
	work.entry_tables = tables_pae();
	work.exit_tables = tables_pae();
}

/* 5.4.1: bits 2:1 of a PDPTE are reserved. No check of the entry looks at it. */
CASE(abort_by_a_pdpte, PROVES("host-and-exit:abort.2", "host-and-exit:host.pdpte.check"),
     NEEDS(VMX, CPUS(2)))
{
	make_tables();
	work.into_ia32e_mode = false;
	work.exit_tables[1] |= BIT(1);
	expect_abort(HOST_PDPTES);
}

CASE(abort_by_a_guest_in_ia32e_mode, PROVES("host-and-exit:abort.6"),
     NEEDS(VMX, CPUS(2), EPT, PROC2(UNRESTRICTED_GUEST), PROC1(USE_MSR_BITMAPS)))
{
	make_tables();
	work.into_ia32e_mode = true;
	ept_build(&work.ept);
	expect_abort(IA32E_MODE_GUEST);
}
