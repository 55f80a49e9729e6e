/* Words for why a virtual CPU stopped, and for its state. */
#include "report.h"

#include <stdbool.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

typedef unsigned long long u64;

/* UAPI numbers that older headers do not have. */
enum {
	EXIT_NOTIFY = 37,
	EXIT_MEMORY_FAULT = 39,
	RUN_EMULATION_BYTES_VALID = 1,
};

static const char *exit_words(uint32_t reason)
{
	static const struct {
		uint32_t reason;
		const char *words;
	} known[] = {
		{ KVM_EXIT_UNKNOWN, "hardware exit that KVM does not know (KVM_EXIT_UNKNOWN)" },
		{ KVM_EXIT_EXCEPTION, "exception that KVM does not handle (KVM_EXIT_EXCEPTION)" },
		{ KVM_EXIT_DEBUG, "debug event (KVM_EXIT_DEBUG)" },
		{ KVM_EXIT_HLT, "HLT without a local APIC (KVM_EXIT_HLT)" },
		{ KVM_EXIT_HYPERCALL, "hypercall for user space (KVM_EXIT_HYPERCALL)" },
		{ KVM_EXIT_SHUTDOWN, "triple fault (KVM_EXIT_SHUTDOWN)" },
		{ KVM_EXIT_FAIL_ENTRY, "VM entry failed (KVM_EXIT_FAIL_ENTRY)" },
		{ KVM_EXIT_SET_TPR, "TPR write for user space (KVM_EXIT_SET_TPR)" },
		{ KVM_EXIT_TPR_ACCESS, "TPR access for user space (KVM_EXIT_TPR_ACCESS)" },
		{ KVM_EXIT_NMI, "NMI (KVM_EXIT_NMI)" },
		{ KVM_EXIT_INTERNAL_ERROR, "KVM gave up (KVM_EXIT_INTERNAL_ERROR)" },
		{ KVM_EXIT_SYSTEM_EVENT, "system event (KVM_EXIT_SYSTEM_EVENT)" },
		{ KVM_EXIT_X86_RDMSR, "RDMSR for user space (KVM_EXIT_X86_RDMSR)" },
		{ KVM_EXIT_X86_WRMSR, "WRMSR for user space (KVM_EXIT_X86_WRMSR)" },
		{ KVM_EXIT_X86_BUS_LOCK, "bus lock (KVM_EXIT_X86_BUS_LOCK)" },
		{ EXIT_NOTIFY, "no event window for too long (KVM_EXIT_NOTIFY)" },
		{ EXIT_MEMORY_FAULT, "access to memory that is not there (KVM_EXIT_MEMORY_FAULT)" },
	};

	for (size_t i = 0; i < COUNT(known); i++) {
		if (known[i].reason == reason)
			return known[i].words;
	}
	return NULL;
}

static const char *internal_error_words(uint32_t suberror)
{
	switch (suberror) {
	case KVM_INTERNAL_ERROR_EMULATION:
		return "KVM had to emulate an instruction and cannot";
	case KVM_INTERNAL_ERROR_SIMUL_EX:
		return "an exception came while another was delivered";
	case KVM_INTERNAL_ERROR_DELIVERY_EV:
		return "an exit that cannot be handled came while an event was delivered";
	case KVM_INTERNAL_ERROR_UNEXPECTED_EXIT_REASON:
		return "the CPU gave an exit reason that KVM does not know";
	default:
		return "suberror without a word";
	}
}

static void report_internal_error(struct text *text, const struct kvm_run *run)
{
	const uint32_t suberror = run->internal.suberror;
	uint32_t count = run->internal.ndata;

	text_print(text, REPORT_PREFIX "suberror %u: %s\n", suberror,
		   internal_error_words(suberror));
	if (count > COUNT(run->internal.data))
		count = COUNT(run->internal.data);
	if (count) {
		text_print(text, REPORT_PREFIX "data:");
		for (uint32_t i = 0; i < count; i++)
			text_print(text, " 0x%llx", (u64)run->internal.data[i]);
		text_char(text, '\n');
	}
	if (suberror == KVM_INTERNAL_ERROR_EMULATION && count >= 1 &&
	    run->emulation_failure.flags & RUN_EMULATION_BYTES_VALID) {
		uint32_t size = run->emulation_failure.insn_size;

		if (size > sizeof(run->emulation_failure.insn_bytes))
			size = sizeof(run->emulation_failure.insn_bytes);
		text_print(text, REPORT_PREFIX "KVM read these instruction bytes:");
		for (uint32_t i = 0; i < size; i++)
			text_print(text, " %02x", run->emulation_failure.insn_bytes[i]);
		text_print(text, "%s\n", size ? "" : " none");
	}
}

static void report_fail_entry(struct text *text, const struct kvm_run *run)
{
	const u64 reason = run->fail_entry.hardware_entry_failure_reason;

	text_print(text, REPORT_PREFIX "hardware entry failure reason 0x%llx", reason);
	/* The exit reasons of VMX: bit 31 = entry failure. */
	if (reason == 0x80000021)
		text_print(text, " (VMX: invalid guest state)");
	else if (reason == 0x80000022)
		text_print(text, " (VMX: MSR loading)");
	else if (reason == UINT64_MAX)
		text_print(text, " (SVM: invalid guest state)");
	text_print(text, ", host CPU %u\n", run->fail_entry.cpu);
}

static void report_system_event(struct text *text, const struct kvm_run *run)
{
	const uint32_t type = run->system_event.type;

	text_print(text, REPORT_PREFIX "type %u: %s\n", type,
		   type == KVM_SYSTEM_EVENT_SHUTDOWN ? "shutdown"
		   : type == KVM_SYSTEM_EVENT_RESET  ? "reset"
		   : type == KVM_SYSTEM_EVENT_CRASH  ? "crash"
						     : "no word for it");
}

/*
 * Says why `run` came back, decoded: the end of a line that the caller has begun, then
 * perhaps more lines, each with REPORT_PREFIX.
 */
void report_exit(struct text *text, const struct kvm_run *run)
{
	const char *words = exit_words(run->exit_reason);

	if (words)
		text_print(text, "%s\n", words);
	else
		text_print(text, "exit reason %u, for which there is no word here\n",
			   run->exit_reason);
	switch (run->exit_reason) {
	case KVM_EXIT_UNKNOWN:
		text_print(text, REPORT_PREFIX "hardware exit reason 0x%llx\n",
			   (u64)run->hw.hardware_exit_reason);
		break;
	case KVM_EXIT_EXCEPTION:
		text_print(text, REPORT_PREFIX "vector %u, error code 0x%x\n", run->ex.exception,
			   run->ex.error_code);
		break;
	case KVM_EXIT_FAIL_ENTRY:
		report_fail_entry(text, run);
		break;
	case KVM_EXIT_INTERNAL_ERROR:
		report_internal_error(text, run);
		break;
	case KVM_EXIT_SYSTEM_EVENT:
		report_system_event(text, run);
		break;
	}
}

static void report_general(struct text *text, const struct kvm_regs *regs)
{
	const struct {
		const char *name;
		u64 value;
	} all[] = {
		{ "RAX", regs->rax }, { "RBX", regs->rbx }, { "RCX", regs->rcx },
		{ "RDX", regs->rdx }, { "RSI", regs->rsi }, { "RDI", regs->rdi },
		{ "RBP", regs->rbp }, { "RSP", regs->rsp }, { "R8 ", regs->r8 },
		{ "R9 ", regs->r9 },  { "R10", regs->r10 }, { "R11", regs->r11 },
		{ "R12", regs->r12 }, { "R13", regs->r13 }, { "R14", regs->r14 },
		{ "R15", regs->r15 },
	};

	for (size_t i = 0; i < COUNT(all); i++)
		text_print(text, "%s%s %016llx%s", i % 4 ? " " : REPORT_PREFIX, all[i].name,
			   all[i].value, i % 4 == 3 ? "\n" : "");
}

/* Where a CPU is: RIP, RFLAGS in words; one line with REPORT_PREFIX. */
void report_place(struct text *text, const struct kvm_regs *regs)
{
	static const struct text_bit rflags[] = {
		{ 1u << 0, "CF" },      { 1u << 1, "1" },       { 1u << 2, "PF" },
		{ 1u << 4, "AF" },      { 1u << 6, "ZF" },      { 1u << 7, "SF" },
		{ 1u << 8, "TF" },      { 1u << 9, "IF" },      { 1u << 10, "DF" },
		{ 1u << 11, "OF" },     { 3u << 12, "IOPL=3" }, { 2u << 12, "IOPL=2" },
		{ 1u << 12, "IOPL=1" }, { 1u << 14, "NT" },     { 1u << 16, "RF" },
		{ 1u << 17, "VM" },     { 1u << 18, "AC" },     { 1u << 19, "VIF" },
		{ 1u << 20, "VIP" },    { 1u << 21, "ID" },
	};

	text_print(text, REPORT_PREFIX "RIP %016llx RFLAGS %08llx (", (u64)regs->rip,
		   (u64)regs->rflags);
	text_bits(text, regs->rflags, rflags, COUNT(rflags));
	text_print(text, ")\n");
}

static bool same_segment(const struct kvm_segment *a, const struct kvm_segment *b)
{
	return a->selector == b->selector && a->base == b->base && a->limit == b->limit &&
	       a->type == b->type && a->dpl == b->dpl && a->present == b->present && a->s == b->s &&
	       a->db == b->db && a->l == b->l && a->unusable == b->unusable;
}

static void report_segment(struct text *text, const struct kvm_segment *segment)
{
	text_print(text, " %04x base %016llx limit %08x ", segment->selector, (u64)segment->base,
		   segment->limit);
	if (segment->unusable) {
		text_print(text, "unusable\n");
		return;
	}
	if (!segment->s)
		text_print(text, "system, type %u", segment->type);
	else if (segment->type & 8)
		text_print(text, "%s-bit code%s",
			   segment->l    ? "64"
			   : segment->db ? "32"
					 : "16",
			   segment->type & 4 ? ", conforming" : "");
	else
		text_print(text, "data%s%s", segment->type & 2 ? "" : ", read-only",
			   segment->type & 4 ? ", expand-down" : "");
	text_print(text, ", DPL %u%s\n", segment->dpl, segment->present ? "" : ", not present");
}

/* One line for all that are alike: the reader sees but the end of a long report. */
static void report_segments(struct text *text, const struct kvm_sregs *sregs)
{
	const struct {
		const char *name;
		const struct kvm_segment *segment;
	} all[] = {
		{ "CS", &sregs->cs }, { "DS", &sregs->ds },    { "ES", &sregs->es },
		{ "FS", &sregs->fs }, { "GS", &sregs->gs },    { "SS", &sregs->ss },
		{ "TR", &sregs->tr }, { "LDTR", &sregs->ldt },
	};

	for (size_t i = 0; i < COUNT(all); i++) {
		text_print(text, REPORT_PREFIX "%s", all[i].name);
		while (i + 1 < COUNT(all) && same_segment(all[i].segment, all[i + 1].segment))
			text_print(text, " %s", all[++i].name);
		report_segment(text, all[i].segment);
	}
}

static void report_control(struct text *text, const struct kvm_sregs *sregs)
{
	static const struct text_bit cr0[] = {
		{ 1u << 0, "PE" },  { 1u << 1, "MP" },  { 1u << 2, "EM" },  { 1u << 3, "TS" },
		{ 1u << 4, "ET" },  { 1u << 5, "NE" },  { 1u << 16, "WP" }, { 1u << 18, "AM" },
		{ 1u << 29, "NW" }, { 1u << 30, "CD" }, { 1u << 31, "PG" },
	};
	static const struct text_bit cr4[] = {
		{ 1u << 0, "VME" },       { 1u << 1, "PVI" },         { 1u << 2, "TSD" },
		{ 1u << 3, "DE" },        { 1u << 4, "PSE" },         { 1u << 5, "PAE" },
		{ 1u << 6, "MCE" },       { 1u << 7, "PGE" },         { 1u << 8, "PCE" },
		{ 1u << 9, "OSFXSR" },    { 1u << 10, "OSXMMEXCPT" }, { 1u << 11, "UMIP" },
		{ 1u << 12, "LA57" },     { 1u << 13, "VMXE" },       { 1u << 14, "SMXE" },
		{ 1u << 16, "FSGSBASE" }, { 1u << 17, "PCIDE" },      { 1u << 18, "OSXSAVE" },
		{ 1u << 19, "KL" },       { 1u << 20, "SMEP" },       { 1u << 21, "SMAP" },
		{ 1u << 22, "PKE" },      { 1u << 23, "CET" },        { 1u << 24, "PKS" },
		{ 1u << 25, "UINTR" },    { 1u << 28, "LAM_SUP" },
	};
	static const struct text_bit efer[] = {
		{ 1u << 0, "SCE" },  { 1u << 8, "LME" },   { 1u << 10, "LMA" },
		{ 1u << 11, "NXE" }, { 1u << 12, "SVME" }, { 1u << 14, "FFXSR" },
	};
	const struct {
		const char *name;
		u64 value;
		const struct text_bit *bits;
		size_t count;
	} all[] = {
		{ "CR0 ", sregs->cr0, cr0, COUNT(cr0) },
		{ "CR4 ", sregs->cr4, cr4, COUNT(cr4) },
		{ "EFER", sregs->efer, efer, COUNT(efer) },
	};

	for (size_t i = 0; i < COUNT(all); i++) {
		text_print(text, REPORT_PREFIX "%s %016llx (", all[i].name, all[i].value);
		text_bits(text, all[i].value, all[i].bits, all[i].count);
		text_print(text, ")\n");
	}
	text_print(text, REPORT_PREFIX "CR2 %016llx CR3 %016llx CR8 %llx APIC base %llx\n",
		   (u64)sregs->cr2, (u64)sregs->cr3, (u64)sregs->cr8, (u64)sregs->apic_base);
}

/* All registers, with their bits in words, each line with REPORT_PREFIX. */
void report_state(struct text *text, const struct kvm_regs *regs, const struct kvm_sregs *sregs)
{
	report_general(text, regs);
	report_place(text, regs);
	report_segments(text, sregs);
	text_print(text,
		   REPORT_PREFIX "GDTR base %016llx limit %04x IDTR base %016llx limit %04x\n",
		   (u64)sregs->gdt.base, sregs->gdt.limit, (u64)sregs->idt.base, sregs->idt.limit);
	report_control(text, sregs);
}

/* The instruction bytes at linear `address`; `count` 0 says that there is no memory there. */
void report_bytes(struct text *text, uint64_t address, const uint8_t *bytes, unsigned int count)
{
	text_print(text, REPORT_PREFIX "bytes at CS:RIP, linear %016llx:", (u64)address);
	for (unsigned int i = 0; i < count; i++)
		text_print(text, " %02x", bytes[i]);
	text_print(text, "%s\n", count ? "" : " none, not mapped to memory");
}
