#include "cpu/user.h"
#include "sdm/bits.h"

/* Where lower privilege begins; loaded by one IRET: cpu/user_entry.S. */
struct user_start {
	u64 rip, cs, rflags, rsp, ss;	/* as IRET pops them */
	u64 function, argument;		/* in RSI and RDI */
};

__noreturn void user_iret(const struct user_start *start, u64 data_selector);
extern const u8 user_call_64[], user_call_32[], user_return_64[], user_return_32[];

bool user_return(struct trap_frame *frame)
{
	struct cpu *cpu = this_cpu();

	if (frame->rip != (u64)user_return_64 && frame->rip != (u64)user_return_32)
		return false;
	cpu->caught = OUTCOME_DONE;
	trap_return_to(frame, cpu->catcher);
	return true;
}

/* Like attempt(): the catcher is where both the return and an exception end. */
static outcome_t run(const struct user_start *start, u64 data_selector)
{
	struct cpu *cpu = this_cpu();
	struct context context, *outer = cpu->catcher;

	if (!context_save(&context)) {
		cpu->catcher = &context;
		user_iret(start, data_selector);
	}
	this_cpu()->catcher = outer;
	/* An IRET to outer privilege, or the code itself, has left others there. */
	write_ds(SELECTOR_DATA);
	write_es(SELECTOR_DATA);
	if (this_cpu()->left && outer)
		trap_leave();	/* case_end() in the code */
	return this_cpu()->caught;
}

static u64 user_stack_end(void)
{
	struct cpu *cpu = this_cpu();

	return (u64)cpu->user_stack + sizeof(cpu->user_stack);
}

outcome_t run_at_cpl_with_flags(u32 cpl, u64 rflags, void (*function)(void *), void *argument)
{
	static const struct {
		u16 code, data;
	} selectors[4] = {
		[1] = { SELECTOR_CODE64_CPL1, SELECTOR_DATA_CPL1 },
		[2] = { SELECTOR_CODE64_CPL2, SELECTOR_DATA_CPL2 },
		[3] = { SELECTOR_USER_CODE64, SELECTOR_USER_DATA },
	};
	const struct user_start start = {
		.rip = (u64)user_call_64, .cs = selectors[cpl & 3].code,
		.rflags = rflags | RFLAGS_FIXED,
		.rsp = user_stack_end(), .ss = selectors[cpl & 3].data,
		.function = (u64)function, .argument = (u64)argument,
	};

	return run(&start, start.ss);
}

outcome_t run_at_cpl(u32 cpl, void (*function)(void *), void *argument)
{
	return run_at_cpl_with_flags(cpl, 0, function, argument);
}

outcome_t run_in_compatibility_mode(u32 cpl, const u8 *code, u32 argument)
{
	const struct user_start start = {
		.rip = (u64)user_call_32, .cs = cpl ? SELECTOR_USER_CODE32 : SELECTOR_CODE32,
		.rflags = RFLAGS_FIXED,
		.rsp = user_stack_end(), .ss = cpl ? SELECTOR_USER_DATA : SELECTOR_DATA,
		.function = (u64)code, .argument = argument,
	};

	return run(&start, start.ss);
}
