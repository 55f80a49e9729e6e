/*
 * A small VM to try the core with: 64 KBytes of memory, one vCPU, a guest of a few instructions.
 *
 *	BOX_GUEST_64(guest, "cpuid; hlt");
 *
 *	struct box box;
 *
 *	box_start(&box, &guest);
 *	EXPECT_EXIT(box_run(&box), KVM_EXIT_HLT);
 *	EXPECT_EQ(box_regs(&box).rax, 7);
 *
 * An exception or interrupt in the guest ends in a HLT: EXPECT_VECTOR(&box, VECTOR_GP).
 */
#ifndef HV_BOX_H
#define HV_BOX_H

#include "ept/ept.h"
#include "hv/hv.h"
#include "mmu/pages.h"

/* Guest-physical addresses. */
#define BOX_TABLES	0x1000		/* PML4, page directory pointers, page directory */
#define BOX_IDT		0x4000
#define BOX_GDT		0x5000
#define BOX_HANDLERS	0x6000		/* 8 bytes for each vector */
#define BOX_STACK	0x8000		/* grows down from here */
#define BOX_CODE	0x8000
#define BOX_DATA	0xa000		/* free, up to the end */
#define BOX_SIZE	0x10000
#define BOX_MMIO	0x10000000	/* mapped by the guest's tables, in no slot */
#define BOX_SLOT	0
#define BOX_POOL	32		/* pages */

struct box_guest {
	const u8 *start, *end;
	u32 bits;			/* of the mode in which it starts: 16, 32, 64 */
};

struct box {
	struct hv_pool pool;		/* empty: all of it is the VM's */
	struct hv_vm vm;
	struct hv_vcpu vcpu;
	u8 *memory;
};

/* A guest in assembly; it must not depend on the address it is at. */
#define BOX_GUEST(name, width, text)						\
	extern const u8 box_##name[], box_##name##_end[];			\
	asm(".pushsection .rodata\n\t.code" #width "\nbox_" #name ":\n\t" text	\
	    "\nbox_" #name "_end:\n\t.code64\n\t.popsection");			\
	static const struct box_guest name = { box_##name, box_##name##_end, width }
#define BOX_GUEST_64(name, text)	BOX_GUEST(name, 64, text)
#define BOX_GUEST_32(name, text)	BOX_GUEST(name, 32, text)
#define BOX_GUEST_16(name, text)	BOX_GUEST(name, 16, text)

/* What cases with a box need; those with page-modification logging. */
#define BOX_NEEDS	VMX, EPT, EPT_CAP(INVEPT), ENTRY_CTL(LOAD_IA32_EFER),	\
			ENTRY_CTL(LOAD_IA32_PAT)
#define BOX_NEEDS_PML	BOX_NEEDS, EPT_AD, PROC2(ENABLE_PML)

/*
 * VMX operation, a VM with memory from 0, a vCPU about to execute the first instruction of
 * `guest` at BOX_CODE: in 64-bit mode with the first GByte mapped to itself, in protected mode
 * without paging, or in real mode; CPL 0, IF = 0, all general registers but RSP 0.
 */
void box_start(struct box *box, const struct box_guest *guest);
/* The same on an MMU of choice, with `pages` pages for the VM, in VMX operation: hv_start(). */
void box_start_on(struct box *box, const struct hv_mmu *mmu, u32 pages,
		  const struct box_guest *guest);
/* As box_start(), with local APICs: hv_vm_create_irqchip(). */
void box_start_with_apic(struct box *box, const struct box_guest *guest);
/*
 * The same again and again: with all pages of box->pool, and BOX_SIZE zero bytes at box->memory,
 * both of which the caller has made. hv_vm_destroy(&box->vm) gives the pages back.
 */
void box_make(struct box *box, const struct hv_mmu *mmu, bool apic, const struct box_guest *guest);

/* Runs the vCPU: KVM_EXIT_... An error of the call fails and ends the case. */
u32 box_run(struct box *box);

/* The same, with a local APIC, until a HLT waits: a slice may end before. */
void box_run_to_halt(struct box *box);

/*
 * Another vCPU, with the CPUID table, segments and control registers of the first; the caller's
 * general registers.
 */
void box_add_vcpu(struct box *box, struct hv_vcpu *vcpu, u32 id);

/* Another slot, of `size` bytes of new memory at `gpa`; returns the memory. */
u8 *box_add_memory(struct box *box, u32 slot, u64 gpa, u64 size, u32 flags);

/*
 * In `sregs`, of a guest of 32 bits: 32-bit paging, with the memory from 1000H on and the last 4
 * MBytes of linear addresses mapped to themselves.
 */
void box_start_paging_32(struct box *box, struct kvm_sregs *sregs);

/* KVM_ENABLE_CAP with one argument: what the call returns. */
int box_enable(struct box *box, u32 cap, u64 argument);

struct kvm_regs box_regs(struct box *box);
struct kvm_sregs box_sregs(struct box *box);

/* The exit, in words when it differs. */
#define EXPECT_EXIT(got, want)	box_expect_exit(__FILE__, __LINE__, #got, got, want)
#define REQUIRE_EXIT(got, want) do { if (!EXPECT_EXIT(got, want)) case_end(); } while (0)
bool box_expect_exit(const char *file, u32 line, const char *what, u32 got, u32 want);

/* The guest runs into the handler of `vector`. */
#define EXPECT_VECTOR(box, vector)	box_expect_vector(__FILE__, __LINE__, box, vector)
bool box_expect_vector(const char *file, u32 line, struct box *box, u8 vector);

/* The quadword at guest-physical `gpa` in the first slot. */
static inline u64 *box_at(struct box *box, u64 gpa)
{
	return (u64 *)(box->memory + gpa);
}

/* Replaces or adds an entry of the guest's CPUID table. */
void box_set_cpuid(struct box *box, struct kvm_cpuid_entry2 entry);

#endif
