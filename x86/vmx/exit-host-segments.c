/*
 * What a VM exit loads into segment and descriptor-table registers: 30.5.2 Loading Host Segment and
 * Descriptor-Table Registers.
 *
 * The VMCS has selectors, and the bases of GDTR, IDTR, FS, GS and TR (vmx/exit-host-state). All
 * else is the same at every exit, whatever the descriptor says: compatibility mode is where it can
 * be seen, because no descriptor is read on the way there but that of CS. The guest does nothing
 * but exit.
 */
#include "cpu/safe.h"
#include "cpu/user.h"
#include "mmu/pages.h"
#include "string.h"
#include "vmx/guest.h"

BEFORE_EACH_CASE(vmx_start);

GUEST_CODE(cpuid, "", "cpuid");

static void leave_guest(void)
{
	REQUIRE(enter_at_instruction(&guest_cpuid), OUTCOME_EXIT(EXIT_CPUID));
}

static u32 word_in_memory __used, read_in_compatibility_mode __used;

/*
 * Reads word_in_memory through a segment register in compatibility mode: CS is the only one that is
 * loaded on the way. A fault ends at the way back.
 */
#define COMPATIBILITY_READ(reg)							\
	({									\
		read_in_compatibility_mode = 0;					\
		trap_expect();							\
		asm volatile("pushq $0x18; pushq $1f; lretq\n\t.code32\n"	\
			     "1: .Lread%=: movl %%" #reg ":word_in_memory, %%eax\n\t" \
			     "movl %%eax, %%" #reg ":word_in_memory\n"		\
			     "2: ljmp $8, $3f\n\t.code64\n"			\
			     "3: movl %%eax, read_in_compatibility_mode\n\t"	\
			     FIXUP(".Lread%=", "2b")				\
			     : : "a" (0) : "memory", "cc");			\
		trap_outcome();							\
	})

/* A descriptor that would not do: not present, base 12345000H, limit 0. */
#define NO_DESCRIPTOR	0x1200133450000000ull

#define SEGMENT(name, reg, NAME)								\
	CASE(name##_is_flat, PROVES("host-and-exit:host.data"), NEEDS(VMX))			\
	{											\
		cpu_set_descriptor(SELECTOR_SPARE, NO_DESCRIPTOR);				\
		vmwrite(HOST_##NAME##_SELECTOR, SELECTOR_SPARE);				\
		leave_guest();									\
		EXPECT_EQ(read_##reg(), SELECTOR_SPARE);					\
		word_in_memory = 0x12345678;							\
		EXPECT(COMPATIBILITY_READ(reg), OUTCOME_DONE);					\
		EXPECT_EQ(read_in_compatibility_mode, 0x12345678);				\
	}
SEGMENT(ds, ds, DS)
SEGMENT(es, es, ES)
SEGMENT(fs, fs, FS)
SEGMENT(gs, gs, GS)
/* No exception may come while SS has such a selector. */
SEGMENT(ss, ss, SS)

#define NULL_SEGMENT(name, reg, NAME)								\
	CASE(name##_null_is_unusable, PROVES("host-and-exit:host.data_null"), NEEDS(VMX))	\
	{											\
		vmwrite(HOST_##NAME##_SELECTOR, 0);						\
		leave_guest();									\
		EXPECT_EQ(read_##reg(), 0);							\
		EXPECT(COMPATIBILITY_READ(reg), OUTCOME_GP0);					\
	}
NULL_SEGMENT(ds, ds, DS)
NULL_SEGMENT(es, es, ES)
NULL_SEGMENT(fs, fs, FS)
NULL_SEGMENT(gs, gs, GS)

static u64 stack_fault_error;

/* IRET to compatibility mode wants a stack segment. */
static void mend_ss(struct trap_frame *frame)
{
	stack_fault_error = frame->error;
	frame->ss = SELECTOR_DATA;
	asm("" : : : "memory");
	frame->rip += 7;	/* over one of the two accesses of COMPATIBILITY_READ() */
}

/* SS can be null only in 64-bit mode. CPL is 0 all the same: SS.DPL is. */
CASE(ss_null, PROVES("host-and-exit:host.ss_null", "host-and-exit:host.cpl"), NEEDS(VMX))
{
	vmwrite(HOST_SS_SELECTOR, 0);
	leave_guest();
	EXPECT_EQ(read_ss(), 0);
	write_dr7(read_dr7());
	stack_fault_error = ~0ull;
	trap_on(VECTOR_SS, mend_ss);
	COMPATIBILITY_READ(ss);
	EXPECT_EQ(stack_fault_error, 0);
}

/* A guest at CPL 3; MOV to CR3 needs CPL 0. */
CASE(cpl_0, PROVES("host-and-exit:host.cpl"), NEEDS(VMX))
{
	guest_to_user_mode();
	leave_guest();
	EXPECT_EQ(read_cs() & 3, 0);
	EXPECT(write_cr3_safe(read_cr3()), OUTCOME_DONE);
}

/* CS.L = 1: 64-bit mode, so an instruction with REX.W works; no descriptor is read. */
CASE(cs, PROVES("host-and-exit:host.cs"), NEEDS(VMX))
{
	u64 value = 0;

	cpu_set_descriptor(SELECTOR_SPARE, NO_DESCRIPTOR);
	vmwrite(HOST_CS_SELECTOR, SELECTOR_SPARE);
	leave_guest();
	EXPECT_EQ(read_cs(), SELECTOR_SPARE);
	asm volatile("movabsq $0x123456789abcdef0, %0" : "=r" (value));
	EXPECT_EQ(value, 0x123456789abcdef0);
	asm volatile("pushq $8; pushq $1f; lretq; 1:" : : : "memory");
}

static struct {
	struct tss tss;
	u8 behind[2];
} __attribute__((packed)) other_tss;

static void read_port_48(void *outcome)
{
	u8 value;

	*(outcome_t *)outcome = ATTEMPT("inb $48, %0", "=a" (value) :);
}

static void read_port_56(void *outcome)
{
	u8 value;

	*(outcome_t *)outcome = ATTEMPT("inb $56, %0", "=a" (value) :);
}

/*
 * With its base at 60H, the permission map of port 48 is in bytes 66H and 67H of the TSS, that of
 * port 56 in bytes 67H and 68H; the limit is 67H. The stack for CPL 0 in it is used on the way
 * back.
 */
CASE(tr, PROVES("host-and-exit:host.tr"), NEEDS(VMX))
{
	struct cpu *cpu = this_cpu();
	static outcome_t port_48, port_56;

	other_tss.tss = cpu->tss;
	other_tss.tss.io_map_base = 0x60;
	cpu_set_descriptor(SELECTOR_SPARE, NO_DESCRIPTOR);
	vmwrite(HOST_TR_SELECTOR, SELECTOR_SPARE);
	vmwrite(HOST_TR_BASE, (u64)&other_tss);
	leave_guest();
	EXPECT_EQ(read_tr(), SELECTOR_SPARE);
	EXPECT(run_at_cpl(3, read_port_48, &port_48), OUTCOME_DONE);
	EXPECT(run_at_cpl(3, read_port_56, &port_56), OUTCOME_DONE);
	EXPECT(port_48, OUTCOME_DONE);
	EXPECT(port_56, OUTCOME_GP0);
}

CASE(ldtr, PROVES("host-and-exit:host.ldtr"), NEEDS(VMX))
{
	vmwrite(GUEST_LDTR_SELECTOR, SELECTOR_SPARE);
	vmwrite(GUEST_LDTR_BASE, (u64)this_cpu()->gdt);
	vmwrite(GUEST_LDTR_LIMIT, 0xff);
	vmwrite(GUEST_LDTR_ACCESS_RIGHTS, 0x82);
	leave_guest();
	EXPECT_EQ(read_ldtr(), 0);
	EXPECT(ATTEMPT("movl %0, %%es", : "r" (SELECTOR_DATA | 4)),
	       OUTCOME_FAULT(VECTOR_GP, SELECTOR_DATA | 4));
}

/* resume() gives the limits back; the audit has seen them before. */
static struct table_pointer gdtr_at_exit __used, idtr_at_exit __used;
static u64 rsp_at_exit __used;
void other_host_rip(void);
asm(".text\nother_host_rip:\n\t"
    "sgdt gdtr_at_exit\n\tsidt idtr_at_exit\n\tmovq %rsp, rsp_at_exit\n\tjmp vmx_exit\n");

CASE(gdtr_and_idtr, PROVES("host-and-exit:host.gdtr_idtr", "host-and-exit:host.rip_rsp"),
     NEEDS(VMX))
{
	struct cpu *cpu = this_cpu();
	u8 *gdt = page_alloc_copy((u8 *)((u64)cpu->gdt & PAGE_MASK));
	u8 *idt = page_alloc_copy((u8 *)((u64)cpu->idt & PAGE_MASK));

	/* Tables that are good enough for code without exceptions. */
	memcpy(gdt, cpu->gdt, sizeof(cpu->gdt));
	memcpy(idt, cpu->idt, sizeof(cpu->idt) < PAGE_SIZE ? sizeof(cpu->idt) : PAGE_SIZE);
	vmwrite(HOST_GDTR_BASE, (u64)gdt);
	vmwrite(HOST_IDTR_BASE, (u64)idt);
	vmwrite(HOST_RIP, (u64)other_host_rip);
	leave_guest();
	EXPECT_EQ(gdtr_at_exit.base, (u64)gdt);
	EXPECT_EQ(gdtr_at_exit.limit, 0xffff);
	EXPECT_EQ(idtr_at_exit.base, (u64)idt);
	EXPECT_EQ(idtr_at_exit.limit, 0xffff);
	EXPECT_EQ(rsp_at_exit, vmread(HOST_RSP));
}
