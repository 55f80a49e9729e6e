/* What the files of the core share with each other and with nobody else. */
#ifndef HV_INTERNAL_H
#define HV_INTERNAL_H

#include "cpu/features.h"
#include "hv/hv.h"
#include "mmu/walk.h"

/* Access rights of a guest segment: Table 27-2. */
#define HV_AR_TYPE(rights)	FIELD(rights, 3, 0)
#define HV_AR_S			BIT(4)
#define HV_AR_DPL(rights)	FIELD(rights, 6, 5)
#define HV_AR_P			BIT(7)
#define HV_AR_L			BIT(13)
#define HV_AR_DB			BIT(14)
#define HV_AR_G			BIT(15)
#define HV_AR_UNUSABLE		BIT(16)

/* INJECTED_EVENT_IDENTIFICATION: Table 27-18. */
enum {
	HV_EVENT_EXTERNAL_INTERRUPT = 0,
	HV_EVENT_NMI = 2,
	HV_EVENT_HARDWARE_EXCEPTION,
	HV_EVENT_SOFTWARE_INTERRUPT,
	HV_EVENT_PRIVILEGED_SOFTWARE_EXCEPTION,
	HV_EVENT_SOFTWARE_EXCEPTION,
};
#define HV_EVENT_ERROR_CODE	BIT(11)
#define HV_EVENT_VALID		BIT(31)
#define HV_EVENT(type, vector)	(HV_EVENT_VALID | (u64)(type) << 8 | (vector))

/* GUEST_PENDING_DEBUG_EXCEPTIONS: Table 27-4. */
#define HV_PENDING_BS		BIT(14)

/* --- VMCS fields, of the VMCS that is current: they exist, so nothing can fail ---- */

static inline u64 vmcs_get(u64 field)
{
	u64 value;

	asm volatile("vmread %1, %0" : "=r" (value) : "r" (field) : "cc");
	return value;
}

static inline void vmcs_put(u64 field, u64 value)
{
	asm volatile("vmwrite %0, %1" : : "r" (value), "r" (field) : "cc");
}

/* Makes the vCPU's VMCS the current one. */
void hv_load(struct hv_vcpu *vcpu);

/* --- exits: dispatch.c and the handlers ------------------------------------------- */

/* What a handler returns: go on in the guest, or leave to user space by vcpu->run. */
enum hv_next { HV_GUEST, HV_USER };

typedef enum hv_next hv_handler(struct hv_vcpu *vcpu);

enum hv_next hv_dispatch(struct hv_vcpu *vcpu, u32 reason);

hv_handler hv_exit_cpuid, hv_exit_hlt, hv_exit_triple_fault, hv_exit_io, hv_exit_cr,
	   hv_exit_rdmsr, hv_exit_wrmsr, hv_exit_vmcall, hv_exit_memory, hv_exit_invlpg,
	   hv_exit_invpcid, hv_exit_stepped,
	   hv_exit_interrupt_window, hv_exit_nmi_window, hv_exit_external_interrupt,
	   hv_exit_preemption_timer, hv_exit_xsetbv, hv_exit_mwait,
	     hv_exit_monitor, hv_exit_exception_or_nmi, hv_exit_task_switch, hv_exit_gp, hv_exit_ud, hv_exit_nothing;

/* KVM_EXIT_INTERNAL_ERROR: an instruction that the core does not know, with its bytes ... */
enum hv_next hv_emulation_failure(struct hv_vcpu *vcpu);
/* ... or anything else (KVM_INTERNAL_ERROR_...), with `count` values, at most 16. */
enum hv_next hv_internal_error(struct hv_vcpu *vcpu, u32 suberror, const u64 *values, u32 count);

/* Exit to user space for `reason` (KVM_EXIT_...), and what to do when it runs the vCPU again. */
enum hv_next hv_user(struct hv_vcpu *vcpu, u32 reason, int (*complete)(struct hv_vcpu *vcpu));

/* Breakpoints of DR7 that an access meets, bits 3:0; and what waits to be a debug exception. */
enum hv_break { HV_BREAK_READ, HV_BREAK_WRITE, HV_BREAK_IO, HV_BREAK_EXECUTE };
u64 hv_breakpoints(const struct hv_vcpu *vcpu, enum hv_break kind, u64 address, u32 size);
void hv_add_pending_debug(u64 hits);

/* The instruction that exited, or was emulated, is done: RIP, interrupt shadow, single step. */
void hv_skip(struct hv_vcpu *vcpu, u64 length);
void hv_skip_exiting(struct hv_vcpu *vcpu);

/* --- FPU, SSE and XSAVE: fpu.c ------------------------------------------------------------- */

/* Components whose state can be switched: x87, SSE, AVX, MPX, AVX-512, PKRU; CET. */
#define HV_XCR0_KNOWN	(BITS(7, 5) | BITS(2, 0) | BIT(9))
#define HV_XSS_KNOWN	BITS(12, 11)

/* Around a run: the registers are this vCPU's. */
void hv_fpu_load(struct hv_vcpu *vcpu);
void hv_fpu_leave(struct hv_vcpu *vcpu);
void hv_fpu_reset(struct hv_vcpu *vcpu);
/*
 * Bytes of the XSAVE area for `components`, as the guest's CPUID describes it: of those that are
 * enabled, of those that can be, and of those that XSAVEC and XSAVES would save.
 */
enum hv_xsave_area { HV_XSAVE_ENABLED, HV_XSAVE_POSSIBLE, HV_XSAVE_COMPACTED };
u32 hv_xsave_size(struct hv_vcpu *vcpu, enum hv_xsave_area area, u64 components);
/* The guest's CPUID is another one: sizes that have been found out do not count any more. */
void hv_xsave_sizes_changed(struct hv_vcpu *vcpu);

/* --- events: inject.c --------------------------------------------------------------- */

struct hv_fault {
	u8 vector;
	bool has_error;
	u32 error;
	u64 cr2;			/* of a page fault */
};

#define HV_FAULT_GP	((struct hv_fault){ .vector = VECTOR_GP, .has_error = true })
#define HV_FAULT_UD	((struct hv_fault){ .vector = VECTOR_UD })

/* The guest gets `fault` instead of the instruction that it is at. */
void hv_inject(struct hv_vcpu *vcpu, struct hv_fault fault);

/* Before an entry: the event to deliver, the windows to watch. After an exit: what it broke off. */
void hv_events_before_entry(struct hv_vcpu *vcpu);
void hv_events_after_exit(struct hv_vcpu *vcpu);

/* INT n, INT3, INTO, INT1: the instruction that raised it is over. */
bool hv_is_software_event(const struct hv_event *event);

/* The vector of the interrupt that comes next, from user space or the local APIC; -1: none. */
int hv_next_interrupt(const struct hv_vcpu *vcpu);

/* Whether an interrupt would be taken at once. */
bool hv_interrupts_open(struct hv_vcpu *vcpu);

/* --- more than one vCPU: mp.c ------------------------------------------------------------ */

/* INIT, start-up IPIs and what wakes from HLT; false when there is nothing to run. */
bool hv_ready(struct hv_vcpu *vcpu);
/* Before an entry: how long until it must end. */
void hv_set_timer(struct hv_vcpu *vcpu);

/* --- registers: vcpu.c, cr.c, msr.c ---------------------------------------------------- */

/* General register 0 to 15 as instructions number them. */
u64 hv_gpr(struct hv_vcpu *vcpu, u32 number);
void hv_set_gpr(struct hv_vcpu *vcpu, u32 number, u64 value);

/* Table 11-1: all registers as after a reset, or as after INIT, which keeps some of them. */
void hv_vcpu_reset(struct hv_vcpu *vcpu, bool init);

u32 hv_cpl(void);

static inline bool hv_in_64_bit_mode(const struct hv_vcpu *vcpu)
{
	return vcpu->efer & EFER_LMA && vmcs_get(GUEST_CS_ACCESS_RIGHTS) & HV_AR_L;
}


/* The registers as the guest sees them. */
u64 hv_cr0(void);
u64 hv_cr3(const struct hv_vcpu *vcpu);
u64 hv_cr4(void);
u64 hv_cr8(const struct hv_vcpu *vcpu);
u64 hv_pdpte(const struct hv_vcpu *vcpu, u32 number);

static inline u64 hv_efer(const struct hv_vcpu *vcpu)
{
	return vcpu->efer;
}

/* Puts values into the VMCS; they have been found legal. hv_registers_changed() follows. */
void hv_put_cr0(struct hv_vcpu *vcpu, u64 cr0);
void hv_put_cr3(struct hv_vcpu *vcpu, u64 cr3);
void hv_put_cr4(struct hv_vcpu *vcpu, u64 cr4);
void hv_put_efer(struct hv_vcpu *vcpu, u64 efer);
void hv_registers_changed(struct hv_vcpu *vcpu);
/* Bits of CR4 that this guest may set. */
u64 hv_cr4_allowed(const struct hv_vcpu *vcpu);
/* PAE paging: the PDPTE registers from memory; false when they are illegal, and not loaded. */
bool hv_load_pdptes(struct hv_vcpu *vcpu, u64 cr0, u64 cr4);

enum hv_msr_result { HV_MSR_DONE, HV_MSR_UNKNOWN, HV_MSR_INVALID };
enum hv_msr_result hv_msr_get(struct hv_vcpu *vcpu, u32 index, u64 *value);
enum hv_msr_result hv_msr_set(struct hv_vcpu *vcpu, u32 index, u64 value, bool by_user_space);
/* At the start and end of a run: swaps the guest's with the host's. */
void hv_msrs_swap(struct hv_vcpu *vcpu);

/* Whether the guest's CPUID reports a feature. */
bool hv_guest_has(const struct hv_vcpu *vcpu, enum feature feature);

/* Memory-type range registers; false from hv_mtrr_set(): #GP(0). */
bool hv_is_mtrr(const struct hv_vcpu *vcpu, u32 msr);
u64 hv_mtrr_get(const struct hv_vcpu *vcpu, u32 msr);
bool hv_mtrr_set(struct hv_vcpu *vcpu, u32 msr, u64 value);

/* Takes from an entry what the core cannot do. */
void hv_cpuid_restrict(struct kvm_cpuid_entry2 *entry);
/* The entry of the guest's CPUID table, NULL when there is none. */
const struct kvm_cpuid_entry2 *hv_cpuid_entry(const struct hv_vcpu *vcpu, u32 leaf, u32 subleaf);

static inline bool hv_is_canonical(u64 address)
{
	return (u64)((s64)(address << 16) >> 16) == address;
}

/* --- guest memory: vm.c, translate.c, and the MMUs ------------------------------------------ */

struct hv_slot *hv_slot_at(struct hv_vm *vm, u64 gpa);

/*
 * Where `size` bytes at guest-physical `gpa`, within one page, are; NULL outside the slots and for
 * a write to a read-only one. A write is noted in the dirty log.
 */
u8 *hv_memory(struct hv_vm *vm, u64 gpa, u32 size, bool write);
void hv_mark_dirty(struct hv_slot *slot, u64 gpa);

/* For walk(): the guest's registers; its memory, where what is no memory reads as 0. */
void hv_walk_cpu(const struct hv_vcpu *vcpu, struct walk_cpu *cpu);
walk_read hv_walk_read;
/* Sets the accessed and dirty flags of a translation (5.8); false: an entry has changed, walk again. */
bool hv_set_flags(struct hv_vcpu *vcpu, const struct walk_result *result);

/* Linear to guest-physical address for an access at the guest's CPL; false: `fault`. */
bool hv_translate(struct hv_vcpu *vcpu, u64 linear, enum access kind, u64 *gpa,
		  struct hv_fault *fault);

enum hv_copy { HV_COPIED, HV_COPY_FAULT, HV_COPY_NO_MEMORY };
/*
 * Copies between `bytes` and guest memory at `linear`, at the guest's CPL; `kind` ACCESS_WRITE
 * copies to the guest. With `bytes` NULL nothing is copied: it is only said what would happen.
 */
enum hv_copy hv_copy(struct hv_vcpu *vcpu, u64 linear, void *bytes, u32 size, enum access kind,
		     struct hv_fault *fault);

/* The bytes of the instruction at RIP, as far as they are memory: at most 15. Returns how many. */
u32 hv_fetch(struct hv_vcpu *vcpu, u8 bytes[15]);

/* --- instructions: decode.c, emulate.c, native.c ------------------------------------------------------ */

struct hv_instruction {
	u8 bytes[15];
	u32 available;		/* bytes that could be read */
	u32 length;
	u32 opcode;		/* 0F xx: 0x0fxx; 0F 38 xx: 0x0f38xx */
	u32 opcode_at, modrm_at;	/* offsets in `bytes` */
	u8 rex, modrm;
	u8 prefix;		/* F2H or F3H, else 66H, else 0 */
	bool vex, wide_vector;	/* wide_vector: VEX.L */
	u8 operand_size, address_size;	/* bytes: 2, 4, 8 */
	u8 segment;		/* of the memory operand: SEGMENT_..., also by default */
	bool rep, lock, has_modrm, is_string;
	u64 offset;		/* of the memory operand in its segment */
	u64 immediate;		/* sign-extended */
	u32 immediate_size;
};

/* Decodes the instruction at RIP; false for one that the core does not know. */
bool hv_decode(struct hv_vcpu *vcpu, struct hv_instruction *instruction);

/*
 * Decodes the instruction at RIP if it is one of those that do something else in real-address mode
 * than in protected mode; else false. `offset` and `immediate` also hold a far pointer.
 */
bool hv_decode_real(struct hv_vcpu *vcpu, struct hv_instruction *instruction);

/* Segment base plus offset, cut to the width of the mode. */
u64 hv_linear(const struct hv_vcpu *vcpu, u8 segment, u64 offset);

/*
 * Volume 1, 3.3, and volume 3, 6.3 Limit Checking, 6.4 Type Checking: whether `size` bytes at
 * `offset` are in the segment and may be accessed so. False: `fault`. 64-bit mode checks nothing here.
 */
bool hv_check_segment(const struct hv_vcpu *vcpu, u8 segment, u64 offset, u32 size, bool write,
		      struct hv_fault *fault);

/* Emulates the instruction at RIP, which accesses MMIO. */
enum hv_next hv_emulate(struct hv_vcpu *vcpu);

/* How an instruction uses its memory operand. */
enum hv_operand { HV_OPERAND_UNKNOWN, HV_OPERAND_READ, HV_OPERAND_WRITE, HV_OPERAND_MODIFY };

/*
 * Executes the instruction itself, on this processor and with the guest's registers, on a copy of
 * its memory operand. hv_native_operand() says whether it can be, and how many bytes (at most
 * HV_NATIVE_SIZE) the operand has. False: `fault`, with registers as they were.
 */
#define HV_NATIVE_SIZE	64
enum hv_operand hv_native_operand(const struct hv_instruction *instruction, u32 *size);
bool hv_native_run(struct hv_vcpu *vcpu, const struct hv_instruction *instruction, u8 *operand,
		   u64 *flags, struct hv_fault *fault);

/* `operation` 0 to 7: ADD OR ADC SBB AND SUB XOR CMP; flags in and out. `size`: bytes. */
u64 hv_alu(u32 operation, u32 size, u64 to, u64 from, u64 *flags);

#endif
