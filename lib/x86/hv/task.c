/*
 * Task switches, which VMX leaves to software: 28.4.2 Treatment of Task Switches. The processor has
 * checked the way to the TSS (gates, privilege, present, busy); 10.3 Task Switching is the rest.
 */
#include "hv/internal.h"
#include "string.h"
#include "vmx/guest.h"

enum source { BY_CALL, BY_IRET, BY_JMP, BY_IDT };

/* Number of a segment in the VMCS. */
enum { LDTR = 6, TR = 7 };

#define TYPE_BUSY	2u
#define TYPE_32_BIT	8u
#define TSS_LIMIT(bits)	((bits) == 32 ? 103u : 43u)
#define TSS_MAX		104
#define LINK_SIZE	2
/* Bits 15, 5 and 3 are reserved: a VM entry would refuse them. */
#define EFLAGS_LOADED	(BITS(21, 0) & ~(BIT(15) | BIT(5) | BIT(3)))
#define DR7_LOCAL	(BIT(0) | BIT(2) | BIT(4) | BIT(6) | BIT(8))
#define DR6_BT		BIT(15)
#define FLAT_CODE	0xc09bu		/* access rights: type 11, present, 32 bits */
#define FAULT(v, code)	((struct hv_fault){ .vector = (v), .has_error = true, .error = (code) })

/* The registers of a TSS, both sizes: 10.2.1, Figure 10-2; 10.6, Figure 10-11. */
struct task {
	u64 cr3, eip, eflags;
	u64 gpr[8];		/* as instructions number them */
	u16 segment[6], ldtr;	/* in the order of the VMCS */
	bool has_cr3, trap;	/* a TSS of 16 bits has neither */
};

struct descriptor {
	u64 raw, linear;	/* linear: where it is, to set its busy or accessed flag */
};

/* --- memory: accesses of system structures are made in supervisor mode ------------------------ */

static bool system_access(struct hv_vcpu *vcpu, u64 linear, void *bytes, u32 size, bool write,
			  struct hv_fault *fault)
{
	u8 *at = bytes;
	u32 piece;

	/* There are no task switches in IA-32e mode: linear addresses have 32 bits. */
	for (; size; linear += piece, at += piece, size -= piece) {
		const struct walk_access access = {
			.address = linear & BITS(31, 0),
			.kind = write ? ACCESS_WRITE : ACCESS_READ,
			.implicit = true,
		};
		u32 rest = PAGE_SIZE - (linear & ~PAGE_MASK);
		struct walk_result result;
		struct walk_cpu cpu;
		u8 *memory;

		piece = size < rest ? size : rest;
		hv_walk_cpu(vcpu, &cpu);
		result = walk(&cpu, &access, hv_walk_read, vcpu);
		if (result.kind != WALK_DONE) {
			*fault = (struct hv_fault){ .vector = VECTOR_PF, .has_error = true,
						    .error = result.error_code,
						    .cr2 = access.address };
			return false;
		}
		hv_set_flags(vcpu, &result);
		memory = hv_memory(vcpu->vm, result.physical, piece, write);
		if (memory && write)
			memcpy(memory, at, piece);
		else if (memory)
			memcpy(at, memory, piece);
		else if (!write)
			memset(at, 0xff, piece);	/* a bus without memory */
	}
	return true;
}

static u64 base_of(u64 raw)
{
	return FIELD(raw, 39, 16) | FIELD(raw, 63, 56) << 24;
}

static u32 limit_of(u64 raw)
{
	u32 limit = FIELD(raw, 15, 0) | FIELD(raw, 51, 48) << 16;

	return raw & BIT(55) ? limit << 12 | 0xfff : limit;
}

/* Access rights as the VMCS has them. */
static u64 rights_of(u64 raw)
{
	return FIELD(raw, 47, 40) | FIELD(raw, 55, 52) << 12;
}

static void put_segment(u32 number, u16 selector, u64 base, u64 limit, u64 rights)
{
	vmcs_put(GUEST_ES_SELECTOR + 2 * number, selector);
	vmcs_put(GUEST_ES_BASE + 2 * number, base);
	vmcs_put(GUEST_ES_LIMIT + 2 * number, limit);
	vmcs_put(GUEST_ES_ACCESS_RIGHTS + 2 * number, rights);
}

/* The descriptor that `selector` names; beyond the table: `fault` with `vector`. */
static bool find_descriptor(struct hv_vcpu *vcpu, u16 selector, u8 vector, struct descriptor *to,
			    struct hv_fault *fault)
{
	bool local = selector & 4;
	u64 base = vmcs_get(local ? GUEST_LDTR_BASE : GUEST_GDTR_BASE);
	u64 limit = vmcs_get(local ? GUEST_LDTR_LIMIT : GUEST_GDTR_LIMIT);

	*fault = FAULT(vector, selector & 0xfffc);
	if (local && vmcs_get(GUEST_LDTR_ACCESS_RIGHTS) & HV_AR_UNUSABLE)
		return false;
	if ((selector | 7u) > limit)
		return false;
	to->linear = base + (selector & 0xfff8);
	return system_access(vcpu, to->linear, &to->raw, sizeof(to->raw), false, fault);
}

/* Sets or clears bits 47:40 of a descriptor in memory. */
static bool change_descriptor(struct hv_vcpu *vcpu, struct descriptor *descriptor, u32 bit, bool on,
			      struct hv_fault *fault)
{
	u8 byte;

	descriptor->raw = on ? descriptor->raw | BIT(bit) : descriptor->raw & ~BIT(bit);
	byte = FIELD(descriptor->raw, 47, 40);
	return system_access(vcpu, descriptor->linear + 5, &byte, 1, true, fault);
}

/* --- the TSS ---------------------------------------------------------------------------------- */

static u64 word(const u8 *tss, u32 offset, u32 size)
{
	u64 value = 0;

	memcpy(&value, tss + offset, size);
	return value;
}

/* Both have IP, FLAGS, eight registers and the segments in a row, as wide as the TSS is. */
static void read_task(const u8 *tss, u32 bits, struct task *task)
{
	u32 size = bits / 8, start = bits == 32 ? 32 : 14, i;

	*task = (struct task){ 0 };
	task->eip = word(tss, start, size);
	task->eflags = word(tss, start + size, size);
	for (i = 0; i < 8; i++)
		task->gpr[i] = word(tss, start + (2 + i) * size, size);
	for (i = 0; i < (bits == 32 ? 6 : 4); i++)
		task->segment[i] = word(tss, start + (10 + i) * size, 2);
	task->ldtr = word(tss, bits == 32 ? 96 : 42, 2);
	if (bits == 32) {
		task->has_cr3 = true;
		task->cr3 = word(tss, 28, 4);
		task->trap = tss[100] & 1;
	}
}

static void write_task(u8 *tss, u32 bits, const struct task *task)
{
	u32 size = bits / 8, start = bits == 32 ? 32 : 14, i;

	memcpy(tss + start, &task->eip, size);
	memcpy(tss + start + size, &task->eflags, size);
	for (i = 0; i < 8; i++)
		memcpy(tss + start + (2 + i) * size, &task->gpr[i], size);
	for (i = 0; i < (bits == 32 ? 6 : 4); i++)
		memcpy(tss + start + (10 + i) * size, &task->segment[i], 2);
}

static void take_registers(struct hv_vcpu *vcpu, struct task *task)
{
	u32 i;

	for (i = 0; i < 8; i++)
		task->gpr[i] = hv_gpr(vcpu, i);
	for (i = 0; i < 6; i++)
		task->segment[i] = vmcs_get(GUEST_ES_SELECTOR + 2 * i);
	task->eflags = vmcs_get(GUEST_RFLAGS);
}

/* --- the new task's segments: Table 10-1, Exception Conditions Checked During a Task Switch --- */

/* What is wrong with it; 0: nothing. */
static u8 check_segment(u32 number, u16 selector, u64 raw, u32 cpl)
{
	u64 rights = rights_of(raw);
	u32 dpl = HV_AR_DPL(rights), rpl = selector & 3, type = HV_AR_TYPE(rights);
	bool code = type & 8, conforming = code && type & 4;

	if (!(rights & HV_AR_S))
		return VECTOR_TS;
	if (number == SEGMENT_CS) {
		if (!code || (conforming ? dpl > rpl : dpl != rpl))
			return VECTOR_TS;
	} else if (number == SEGMENT_SS) {
		if (code || !(type & 2) || dpl != cpl || rpl != cpl)
			return VECTOR_TS;
	} else if ((code && !(type & 2)) || (!conforming && (dpl < cpl || dpl < rpl))) {
		return VECTOR_TS;
	}
	if (rights & HV_AR_P)
		return 0;
	return number == SEGMENT_SS ? VECTOR_SS : VECTOR_NP;
}

static bool load_segment(struct hv_vcpu *vcpu, u32 number, u16 selector, u32 cpl,
			 struct hv_fault *fault)
{
	struct descriptor descriptor;
	u8 vector;

	if (!(selector & 0xfffc)) {
		*fault = FAULT(VECTOR_TS, 0);
		return number != SEGMENT_CS && number != SEGMENT_SS;
	}
	if (!find_descriptor(vcpu, selector, VECTOR_TS, &descriptor, fault))
		return false;
	vector = check_segment(number, selector, descriptor.raw, cpl);
	if (vector) {
		*fault = FAULT(vector, selector & 0xfffc);
		return false;
	}
	if (!(descriptor.raw & BIT(40)) && !change_descriptor(vcpu, &descriptor, 40, true, fault))
		return false;
	put_segment(number, selector, base_of(descriptor.raw), limit_of(descriptor.raw),
		    rights_of(descriptor.raw));
	return true;
}

static bool load_ldtr(struct hv_vcpu *vcpu, u16 selector, struct hv_fault *fault)
{
	struct descriptor descriptor;

	if (!(selector & 0xfffc))
		return true;
	if (selector & 4 ||
	    !find_descriptor(vcpu, selector, VECTOR_TS, &descriptor, fault))
		return false;
	*fault = FAULT(VECTOR_TS, selector & 0xfffc);
	if ((rights_of(descriptor.raw) & 0x9f) != 0x82)
		return false;
	put_segment(LDTR, selector, base_of(descriptor.raw), limit_of(descriptor.raw),
		    rights_of(descriptor.raw));
	return true;
}

/*
 * 10.3: the selectors come first, and what is wrong with a descriptor is an exception of the new
 * task. What is not loaded yet must suit the VM entry that delivers it (29.3.1.2): the privilege is
 * that of the new CS, and SS has it, too; its base and limit stay, for there may be no other stack.
 * Without "unrestricted guest" the RPL of SS has to be right as well.
 *
 * The RPL of CS is CPL before its descriptor is verified: 10.3 lets the new task begin at the
 * privilege level that CS says as it comes from the TSS, and CPL is bits 1:0 of CS (6.5 Privilege
 * Levels). The checks of Table 10-1 come behind the selectors, and what they find is delivered in
 * the new task, so at that level: the level of the old task is gone with its CS, and no text names
 * a third.
 */
static void load_selectors(struct hv_vcpu *vcpu, const struct task *task)
{
	u16 cs = task->segment[SEGMENT_CS], ss = task->segment[SEGMENT_SS];
	u64 dpl = (u64)(cs & 3) << 5;
	u32 i;

	put_segment(LDTR, task->ldtr, 0, 0, HV_AR_UNUSABLE);
	for (i = 0; task->eflags & RFLAGS_VM && i < 6; i++)
		put_segment(i, task->segment[i], (u64)task->segment[i] << 4, 0xffff, 0xf3);
	if (task->eflags & RFLAGS_VM)
		return;
	for (i = 0; i < 6; i++)
		if (i != SEGMENT_CS && i != SEGMENT_SS)
			put_segment(i, task->segment[i], 0, 0, HV_AR_UNUSABLE);
	put_segment(SEGMENT_CS, cs, 0, 0xffffffff, FLAT_CODE | dpl);
	vmcs_put(GUEST_SS_SELECTOR, vcpu->vm->mmu->cr0_always ? (ss & ~3u) | (cs & 3) : ss);
	if (vmcs_get(GUEST_SS_ACCESS_RIGHTS) & HV_AR_UNUSABLE)
		vmcs_put(GUEST_SS_ACCESS_RIGHTS, HV_AR_UNUSABLE | dpl);
	else
		vmcs_put(GUEST_SS_ACCESS_RIGHTS,
			 (vmcs_get(GUEST_SS_ACCESS_RIGHTS) & ~(u64)BITS(6, 5)) | dpl);
}

static bool load_segments(struct hv_vcpu *vcpu, const struct task *task, struct hv_fault *fault)
{
	static const u8 order[] = { SEGMENT_SS, SEGMENT_DS, SEGMENT_ES, SEGMENT_FS, SEGMENT_GS };
	u32 cpl = task->segment[SEGMENT_CS] & 3, i;

	if (!load_ldtr(vcpu, task->ldtr, fault))
		return false;
	if (task->eflags & RFLAGS_VM)
		return true;
	if (!load_segment(vcpu, SEGMENT_CS, task->segment[SEGMENT_CS], cpl, fault))
		return false;
	for (i = 0; i < ARRAY_SIZE(order); i++)
		if (!load_segment(vcpu, order[i], task->segment[order[i]], cpl, fault))
			return false;
	return true;
}

/* --- the switch ------------------------------------------------------------------------------- */

static bool load_registers(struct hv_vcpu *vcpu, const struct task *task, struct hv_fault *fault)
{
	bool legal;
	u32 i;

	vmcs_put(GUEST_DR7, vmcs_get(GUEST_DR7) & ~DR7_LOCAL);
	hv_put_cr0(vcpu, hv_cr0() | CR0_TS);
	if (hv_cr0() & CR0_PG && task->has_cr3)
		hv_put_cr3(vcpu, task->cr3);
	vmcs_put(GUEST_RIP, task->eip);
	vmcs_put(GUEST_RFLAGS, (task->eflags & EFLAGS_LOADED) | RFLAGS_FIXED);
	for (i = 0; i < 8; i++)
		hv_set_gpr(vcpu, i, task->gpr[i]);
	load_selectors(vcpu, task);
	/* 5.4.1: illegal ones are not loaded; those of before translate on. */
	legal = !task->has_cr3 || hv_load_pdptes(vcpu, hv_cr0(), hv_cr4());
	/* In either case: CR0 and what goes with it have been written. */
	hv_registers_changed(vcpu);
	if (!legal) {
		*fault = HV_FAULT_GP;
		return false;
	}
	return load_segments(vcpu, task, fault);
}

/*
 * 7.12.2: the error code of an exception goes to the stack of its handler; to no memory, it is
 * lost.
 */
static bool push_error(struct hv_vcpu *vcpu, u32 error, u32 bits, struct hv_fault *fault)
{
	u64 mask = vmcs_get(GUEST_SS_ACCESS_RIGHTS) & HV_AR_DB ? BITS(31, 0) : BITS(15, 0), linear;
	const struct hv_memory_operand top = {
		SEGMENT_SS, (hv_gpr(vcpu, GPR_RSP) - bits / 8) & mask, bits / 8
	};

	if (!hv_operand_address(vcpu, &top, true, &linear, fault) ||
	    hv_copy(vcpu, linear, &error, top.size, ACCESS_WRITE, fault) == HV_COPY_FAULT)
		return false;
	hv_set_gpr(vcpu, GPR_RSP, (hv_gpr(vcpu, GPR_RSP) & ~mask) | top.offset);
	return true;
}

struct change {
	enum source source;
	u16 selector;
	struct descriptor from, to;	/* of the TSSs */
	u32 from_bits, to_bits;
	u8 tss[TSS_MAX];		/* the new one */
};

/* The new task has a link to the old one, which stays busy: 10.4 Task Linking. */
static bool is_nested(const struct change *change)
{
	return change->source == BY_CALL || change->source == BY_IDT;
}

/* Finds both tasks and saves the old one; nothing else is changed yet. */
static bool leave_task(struct hv_vcpu *vcpu, struct change *change, u64 next,
		       struct hv_fault *fault)
{
	u64 old_base = vmcs_get(GUEST_TR_BASE);
	u8 old[TSS_MAX];
	struct task task;

	change->from_bits = vmcs_get(GUEST_TR_ACCESS_RIGHTS) & TYPE_32_BIT ? 32 : 16;
	if ((!is_nested(change) && !find_descriptor(vcpu, vmcs_get(GUEST_TR_SELECTOR), VECTOR_TS,
						    &change->from, fault)) ||
	    !find_descriptor(vcpu, change->selector, VECTOR_TS, &change->to, fault))
		return false;
	change->to_bits = change->to.raw & BIT(43) ? 32 : 16;
	if (limit_of(change->to.raw) < TSS_LIMIT(change->to_bits)) {
		*fault = FAULT(VECTOR_TS, change->selector & 0xfffc);
		return false;
	}
	if (!system_access(vcpu, base_of(change->to.raw), change->tss,
			   TSS_LIMIT(change->to_bits) + 1, false, fault) ||
	    !system_access(vcpu, old_base, old, TSS_LIMIT(change->from_bits) + 1, false, fault))
		return false;
	take_registers(vcpu, &task);
	task.eip = next;
	if (change->source == BY_IRET)
		task.eflags &= ~(u64)RFLAGS_NT;
	write_task(old, change->from_bits, &task);
	/* From EIP on: what lies before is not saved. */
	return system_access(vcpu, old_base + (change->from_bits == 32 ? 32 : 14),
			     old + (change->from_bits == 32 ? 32 : 14),
			     change->from_bits == 32 ? 64 : 28, true, fault);
}

static bool enter_task(struct hv_vcpu *vcpu, struct change *change, struct hv_fault *fault)
{
	bool nested = is_nested(change);
	u16 link = vmcs_get(GUEST_TR_SELECTOR);
	struct task task;

	if (!nested && !change_descriptor(vcpu, &change->from, 41, false, fault))
		return false;
	if (change->source != BY_IRET && !change_descriptor(vcpu, &change->to, 41, true, fault))
		return false;
	if (nested && !system_access(vcpu, base_of(change->to.raw), &link, LINK_SIZE, true, fault))
		return false;
	put_segment(TR, change->selector, base_of(change->to.raw), limit_of(change->to.raw),
		    rights_of(change->to.raw) | TYPE_BUSY);
	read_task(change->tss, change->to_bits, &task);
	if (nested)
		task.eflags |= RFLAGS_NT;
	if (!load_registers(vcpu, &task, fault))
		return false;
	/* 20.3.1.5: a trap before the first instruction of the new task. */
	if (task.trap) {
		write_dr6(read_dr6() | DR6_BT);
		hv_inject(vcpu, (struct hv_fault){ .vector = VECTOR_DB });
		vmcs_put(GUEST_RFLAGS, vmcs_get(GUEST_RFLAGS) & ~(u64)RFLAGS_RF);
	}
	return true;
}

/*
 * Nothing is blocked in the new task but NMIs in the handler of one, which IRET ends: 7.7.1, 7.8.3.
 */
static void set_blocking(enum source source, const struct hv_event *event)
{
	u64 state = vmcs_get(GUEST_INTERRUPTIBILITY_STATE) &
		    ~(u64)(BLOCKING_BY_STI | BLOCKING_BY_MOV_SS);

	if (source == BY_IRET)
		state &= ~(u64)BLOCKING_BY_NMI;
	if (source == BY_IDT && FIELD(event->id, 10, 8) == HV_EVENT_NMI)
		state |= BLOCKING_BY_NMI;
	vmcs_put(GUEST_INTERRUPTIBILITY_STATE, state);
}

static bool switch_task(struct hv_vcpu *vcpu, struct change *change, u64 next,
			struct hv_fault *fault)
{
	const struct hv_event event = vcpu->event;

	if (!leave_task(vcpu, change, next, fault))
		return false;
	/* The switch is the delivery of the event. */
	vcpu->event = (struct hv_event){ 0 };
	set_blocking(change->source, &event);
	if (enter_task(vcpu, change, fault) &&
	    (change->source != BY_IDT || !(event.id & HV_EVENT_ERROR_CODE) ||
	     push_error(vcpu, event.error, change->to_bits, fault)))
		return true;
	/* Table 7-5: what goes wrong on the way of an exception is the second one. */
	if (event.id && FIELD(event.id, 10, 8) == HV_EVENT_HARDWARE_EXCEPTION)
		vcpu->event = event;
	return false;
}

/*
 * 10.2.1: the SSP of a 32-bit TSS, and the token where it points. They are not emulated, nor what
 * waits for ENDBRANCH: the run ends, as on KVM of Linux 6.18, the first one with CET.
 */
static bool uses_cet(struct hv_vcpu *vcpu)
{
	u64 user = 0, supervisor = 0;

	if (!(hv_cr4() & CR4_CET))
		return false;
	hv_msr_get(vcpu, IA32_U_CET, &user);
	hv_msr_get(vcpu, IA32_S_CET, &supervisor);
	return (user | supervisor) & (CET_SH_STK_EN | CET_ENDBR_EN);
}

enum hv_next hv_exit_task_switch(struct hv_vcpu *vcpu)
{
	u64 qualification = vmcs_get(EXIT_QUALIFICATION), next = vmcs_get(GUEST_RIP);
	struct change change = { .source = FIELD(qualification, 31, 30),
				 .selector = FIELD(qualification, 15, 0) };
	bool external = change.source == BY_IDT && !hv_is_software_event(&vcpu->event);
	struct hv_fault fault;

	if (uses_cet(vcpu))
		return hv_emulation_failure(vcpu);
	/* Of an exception that is a fault, or an interrupt, the instruction is still to come. */
	if (!external)
		next += vmcs_get(VM_EXIT_INSTRUCTION_LENGTH);
	if (switch_task(vcpu, &change, next, &fault))
		return HV_GUEST;
	/* 7.13: the bit EXT of the error code. */
	if (external && fault.vector != VECTOR_PF)
		fault.error |= 1;
	hv_inject(vcpu, fault);
	return HV_GUEST;
}
