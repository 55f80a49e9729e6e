/*
 * What the addresses and the instruction information of a VM exit must look like, by exit
 * reason: 30.2.1 Basic VM-Exit Information, 30.2.5 Information for VM Exits Due to Instruction
 * Execution.
 */
#include "vmx/entry_rules.h"
#include "vmx/exit_words.h"

/* Bits of VM-exit instruction information, Tables 30-8 to 30-15. */
#define REG1_HIGH	BIT(6)		/* registers from R8 on */
#define REGISTER_FORM	BIT(10)
#define INDEX_HIGH	BIT(21)
#define NO_INDEX	BIT(22)
#define BASE_HIGH	BIT(26)
#define NO_BASE		BIT(27)
#define REG2_HIGH	BIT(31)

/* The guest may have left or entered IA-32e mode since: 30.2. */
bool exit_from_ia32e_mode(const struct exit_input *x)
{
	const struct entry_input *in = x->entry;

	if (!MISC(5))
		return IA32E;
	return NOW(VM_ENTRY_CONTROLS) & control_bit(CONTROL_ENTRY_IA_32E_MODE_GUEST);
}

bool exit_from_64_bit_mode(const struct exit_input *x)
{
	return exit_from_ia32e_mode(x) && NOW(GUEST_CS_ACCESS_RIGHTS) & RIGHTS_L;
}

bool exit_of_register(const struct exit_input *x)
{
	switch (exit_basic_reason(x)) {
	case EXIT_LDTR_TR_ACCESS:
	case EXIT_VMREAD:
	case EXIT_VMWRITE:
		return NOW(VM_EXIT_INSTRUCTION_INFORMATION) & REGISTER_FORM;
	}
	return false;
}

/*
 * An EPT violation says in bit 7 of the qualification whether there is a linear address. Others
 * have one where they have left a shadow stack busy, but for a time-out whose context is invalid.
 */
bool exit_has_translated_address(const struct exit_input *x)
{
	bool busy = NOW(EXIT_REASON) & BIT(25);

	switch (exit_basic_reason(x)) {
	case EXIT_EPT_VIOLATION:
		return NOW(EXIT_QUALIFICATION) & BIT(7);
	case EXIT_SPP_RELATED_EVENT:
		return true;
	case EXIT_EPT_MISCONFIGURATION:
	case EXIT_PAGE_MODIFICATION_LOG_FULL:
		return busy;
	case EXIT_INSTRUCTION_TIMEOUT:
		return busy && !(NOW(EXIT_QUALIFICATION) & BIT(0));
	}
	return false;
}

/* Of INS it is ES; of OUTS the information says which, on processors that report it. */
static bool segment_is_usable(const struct exit_input *x)
{
	const struct entry_input *in = x->entry;
	u64 segment = FIELD(NOW(VM_EXIT_INSTRUCTION_INFORMATION), 17, 15);

	if (NOW(EXIT_QUALIFICATION) & BIT(3))
		segment = 0;
	else if (!BASIC(54) || segment > 5)
		return false;
	return !(x->field[INDEX_GUEST_ES_ACCESS_RIGHTS + segment] & RIGHTS_UNUSABLE);
}

bool exit_has_linear_address(const struct exit_input *x)
{
	u64 q = NOW(EXIT_QUALIFICATION);

	switch (exit_basic_reason(x)) {
	case EXIT_CONTROL_REGISTER_ACCESS:
		return FIELD(q, 5, 4) == 3 && q & BIT(6);	/* LMSW of memory */
	case EXIT_IO_INSTRUCTION:
		return q & BIT(4) && segment_is_usable(x);	/* INS, OUTS */
	}
	return exit_has_translated_address(x);
}

bool exit_has_physical_address(const struct exit_input *x)
{
	switch (exit_basic_reason(x)) {
	case EXIT_EPT_VIOLATION:
	case EXIT_EPT_MISCONFIGURATION:
	case EXIT_SPP_RELATED_EVENT:
		return true;
	}
	return false;
}

/* What an instruction's table has. */
enum { ADDRESS = 1, SEGMENTED = 2, INDEXED = 4, REG1 = 8, REG2 = 16, MEMORY_ONLY = 32, SIZED = 64 };
#define OPERAND		(ADDRESS | SEGMENTED | INDEXED)

static u32 information_parts(const struct exit_input *x)
{
	const struct entry_input *in = x->entry;
	u64 information = NOW(VM_EXIT_INSTRUCTION_INFORMATION), q = NOW(EXIT_QUALIFICATION);
	u32 either = information & REGISTER_FORM ? REG1 : OPERAND;

	switch (exit_basic_reason(x)) {
	case EXIT_IO_INSTRUCTION:	/* not on the first processors: A.1 */
		return !(q & BIT(4)) || !BASIC(54) ? 0 : q & BIT(3) ? ADDRESS : ADDRESS | SEGMENTED;
	case EXIT_INVEPT:
	case EXIT_INVVPID:
	case EXIT_INVPCID:
		return OPERAND | REG2 | MEMORY_ONLY;
	case EXIT_GDTR_IDTR_ACCESS:
	case EXIT_VMCLEAR:
	case EXIT_VMPTRLD:
	case EXIT_VMPTRST:
	case EXIT_VMXON:
	case EXIT_XSAVES:
	case EXIT_XRSTORS:
		return OPERAND | MEMORY_ONLY;
	case EXIT_LDTR_TR_ACCESS:
		return either;
	case EXIT_VMREAD:
	case EXIT_VMWRITE:
		return either | REG2;
	case EXIT_RDRAND:
	case EXIT_RDSEED:
		return REG1 | SIZED;
	case EXIT_UMWAIT:
	case EXIT_TPAUSE:
		return REG1;
	case EXIT_LOADIWKEY:
		return REG1 | REG2;
	}
	return 0;
}

/* Outside 64-bit mode there are no registers from R8 on, and no 64-bit addresses or operands. */
static u64 zero_outside_64_bit_mode(u64 information, u32 parts)
{
	u64 zero = 0;

	if (parts & ADDRESS)
		zero |= BIT(8);
	if (parts & SIZED)
		zero |= BIT(12);
	if (parts & REG1)
		zero |= REG1_HIGH;
	if (parts & REG2)
		zero |= REG2_HIGH;
	if (parts & INDEXED)
		zero |= (information & NO_INDEX ? 0 : INDEX_HIGH) |
			(information & NO_BASE ? 0 : BASE_HIGH);
	return zero;
}

/* Of codes that are not used the highest bits say so: sizes 3 to 7, segments 6 and 7. */
u64 exit_zero_information(const struct exit_input *x)
{
	u64 information = NOW(VM_EXIT_INSTRUCTION_INFORMATION), zero = 0;
	u32 parts = information_parts(x);

	if (!exit_from_64_bit_mode(x))
		zero = zero_outside_64_bit_mode(information, parts);
	if (parts & MEMORY_ONLY)
		zero |= REGISTER_FORM;
	if (parts & ADDRESS)
		zero |= BIT(9) | (information & BIT(8) ? BIT(7) : 0);
	if (parts & SEGMENTED && information & BIT(17))
		zero |= BIT(16);
	if (parts & SIZED && information & BIT(12))
		zero |= BIT(11);
	return zero;
}

/* In 64-bit mode an address has 32 or 64 bits. */
u64 exit_set_information(const struct exit_input *x)
{
	u64 information = NOW(VM_EXIT_INSTRUCTION_INFORMATION);

	return exit_from_64_bit_mode(x) && information_parts(x) & ADDRESS && !(information & BIT(8))
		       ? BIT(7)
		       : 0;
}

bool exit_not_by_threshold(const struct exit_input *x)
{
	return exit_basic_reason(x) == EXIT_TPR_BELOW_THRESHOLD &&
	       entry_below_threshold(x->entry) == KEPT;
}
