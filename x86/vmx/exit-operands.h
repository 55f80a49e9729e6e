/*
 * Exits of instructions with operands: what they must save of them. For exit-operands.c,
 * exit-descriptor-tables.c and exit-extensions.c.
 */
#ifndef VMX_EXIT_OPERANDS_H
#define VMX_EXIT_OPERANDS_H

#include "vmx/guest.h"

struct operands {
	const struct guest_code *code;
	enum exit_reason reason;
	u64 qualification, information;
	enum control control;		/* makes it exit; 0: nothing must */
	enum control enable;		/* without it the instruction is #UD; 0: nothing */
	bool rip_relative;		/* the qualification counts from the next instruction */
	u64 qualification_mask;		/* 0: all bits are defined */
};

static void describes_operands(const struct case_def *this_case)
{
	const struct operands *operands = this_case->row;
	u64 want = operands->qualification;
	u64 mask = operands->qualification_mask ? operands->qualification_mask : ~0ull;

	if (operands->enable)
		vmcs_set_control(operands->enable);
	if (operands->control)
		vmcs_set_control(operands->control);
	REQUIRE(enter(operands->code->run), OUTCOME_EXIT(operands->reason));
	EXPECT_FAULT_LIKE_EXIT(*operands->code);
	if (operands->rip_relative)
		want += (u64)operands->code->end;
	/* That of registers is looked at by has_no_displacement(). */
	if (!(operands->information & INFORMATION_REGISTER))
		EXPECT_EQ(vmread(EXIT_QUALIFICATION) & mask, want & mask);
	EXPECT_INFORMATION(operands->information);
	skip_instruction();
	EXPECT(resume(), GUEST_DONE);
	EXPECT(guest_outcome(), OUTCOME_DONE);
}

#define DS64	(INFORMATION_ADDRESS_64 | INFORMATION_SEGMENT(SEGMENT_DS) | INFORMATION_MEMORY)

/* One case: the instruction `insn` must exit and describe itself so. */
#define DESCRIBES(name, insn, reason_, displacement, information_, proves, needs, ...)	\
	GUEST_INSTRUCTION(name, "", insn);						\
	static const struct operands row_##name = {					\
		.code = &guest_##name, .reason = EXIT_##reason_,			\
		.qualification = (displacement), .information = (information_), __VA_ARGS__ };	\
	CASE_RUN(name, describes_operands, proves, needs, ROW(&row_##name))

#endif
