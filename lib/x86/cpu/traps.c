#include "cpu/traps.h"
#include "cpu/user.h"
#include "string.h"

struct fixup {
	u64 from, to;
};
extern const struct fixup __fixups_start[], __fixups_end[];

static outcome_t frame_outcome(const struct trap_frame *frame)
{
	switch (frame->vector) {
#define VECTOR(number, name, mnemonic, has_error)					\
	case number:								\
		return has_error ? OUTCOME_FAULT(number, frame->error) : OUTCOME_EXCEPTION(number);
#include "sdm/vectors.def"
#undef VECTOR
	}
	return OUTCOME_EXCEPTION(frame->vector);
}

static bool fix_up(struct cpu *cpu, struct trap_frame *frame)
{
	const struct fixup *fixup;

	for (fixup = __fixups_start; fixup < __fixups_end; fixup++) {
		if (fixup->from != frame->rip)
			continue;
		cpu->caught = frame_outcome(frame);
		frame->rip = fixup->to;
		return true;
	}
	return false;
}

/* Back to the saved context by IRET, which also ends the blocking of NMIs. */
void trap_return_to(struct trap_frame *frame, const struct context *context)
{
	frame->regs.rax = 1;
	frame->regs.rbx = context->rbx;
	frame->regs.rbp = context->rbp;
	frame->regs.r12 = context->r12;
	frame->regs.r13 = context->r13;
	frame->regs.r14 = context->r14;
	frame->regs.r15 = context->r15;
	frame->rsp = context->rsp;
	frame->rip = context->rip;
	frame->cs = SELECTOR_CODE64;
	frame->ss = SELECTOR_DATA;
	frame->rflags = RFLAGS_FIXED;
}

void trap_dispatch(struct trap_frame *frame)
{
	struct cpu *cpu = this_cpu();

	if (frame->vector == VECTOR_UD && user_return(frame))
		return;
	if (cpu->handlers[frame->vector]) {
		cpu->handlers[frame->vector](frame);
		return;
	}
	cpu->last_trap = (struct trap){
		.frame = *frame, .at = frame, .cr2 = read_cr2(), .dr6 = read_dr6(),
		.in_guest = cpu->in_guest,
	};
	if (fix_up(cpu, frame))
		return;
	cpu->caught = frame_outcome(frame);
	if (cpu->catcher) {
		trap_return_to(frame, cpu->catcher);
		return;
	}
	if (cpu->in_guest) {
		cpu->guest_died = true;
		asm volatile("vmcall" : : "a" (GUEST_DIED_RAX));
	}
	/* No case runs: the suite is broken. */
	bail_out("%s at RIP %#lx outside any case, error code %#lx, CR2 %#lx",
		 vector_name(frame->vector), frame->rip, frame->error, read_cr2());
}

const struct trap *last_trap(void)
{
	return &this_cpu()->last_trap;
}

void trap_on(u8 vector, trap_handler *handler)
{
	this_cpu()->handlers[vector] = handler;
}

outcome_t attempt(void (*function)(void *argument), void *argument)
{
	struct cpu *cpu = this_cpu();
	struct context context, *outer = cpu->catcher;

	cpu->caught = OUTCOME_DONE;
	if (!context_save(&context)) {
		cpu->catcher = &context;
		function(argument);
		cpu->caught = OUTCOME_DONE;
	}
	this_cpu()->catcher = outer;
	/* case_end() ends the case, not what is attempted. */
	if (this_cpu()->left && outer)
		trap_leave();
	return this_cpu()->caught;
}

void trap_fail_case(const struct trap *trap)
{
	const struct trap_frame *f = &trap->frame;
	const struct general_registers *r = &f->regs;
	char words[120], at[64];

	outcome_words(words, sizeof(words), frame_outcome(f));
	format(at, sizeof(at), "%s%s, RIP %#lx", trap->in_guest ? "in the guest: " : "", words,
	       f->rip);
	case_fail(NULL, 0, "execution", "no unexpected exception", at);
	case_note("trap",
		  "vector %lu, error code %#lx, CR2 %#lx, RIP %lx:%#lx, RSP %lx:%#lx, RFLAGS %#lx",
		  f->vector, f->error, trap->cr2, f->cs, f->rip, f->ss, f->rsp, f->rflags);
	case_note("registers", "RAX %#lx RBX %#lx RCX %#lx RDX %#lx RSI %#lx RDI %#lx RBP %#lx",
		  r->rax, r->rbx, r->rcx, r->rdx, r->rsi, r->rdi, r->rbp);
	case_note("registers_8_to_15",
		  "R8 %#lx R9 %#lx R10 %#lx R11 %#lx R12 %#lx R13 %#lx R14 %#lx R15 %#lx",
		  r->r8, r->r9, r->r10, r->r11, r->r12, r->r13, r->r14, r->r15);
	case_note("control_registers", "CR0 %#lx CR3 %#lx CR4 %#lx", read_cr0(), read_cr3(),
		  read_cr4());
}

bool trap_guarded(void (*run)(void))
{
	struct context context;

	this_cpu()->left = false;
	if (!context_save(&context)) {
		this_cpu()->catcher = &context;
		run();
		this_cpu()->catcher = NULL;
		return true;
	}
	this_cpu()->catcher = NULL;
	if (!this_cpu()->left)
		trap_fail_case(last_trap());
	return false;
}

void trap_leave(void)
{
	this_cpu()->left = true;
	asm volatile("ud2");
	__builtin_unreachable();
}
