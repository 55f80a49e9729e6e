#include "cpu/cpu.h"
#include "mmu/build.h"
#include "mmu/pages.h"
#include "string.h"
#include "vmx/guest.h"

struct guest_snapshot guest_snapshot __used;
u64 guest_value __used, guest_value2 __used;
u8 guest_memory[PAGE_SIZE] __attribute__((aligned(4096)));

_Static_assert(offsetof(struct guest_snapshot, rsp) == 120, "guest_take_snapshot knows it");
_Static_assert(offsetof(struct guest_snapshot, rflags) == 128, "and this");

/* Changes no register and no flag but what the snapshot is to have: RSP as after the return. */
asm(".text\n"
    ".globl guest_take_snapshot\n"
    "guest_take_snapshot:\n\t"
    "movq %rax, guest_snapshot + 0\n\t"
    "movq %rbx, guest_snapshot + 8\n\t"
    "movq %rcx, guest_snapshot + 16\n\t"
    "movq %rdx, guest_snapshot + 24\n\t"
    "movq %rsi, guest_snapshot + 32\n\t"
    "movq %rdi, guest_snapshot + 40\n\t"
    "movq %rbp, guest_snapshot + 48\n\t"
    "movq %r8, guest_snapshot + 56\n\t"
    "movq %r9, guest_snapshot + 64\n\t"
    "movq %r10, guest_snapshot + 72\n\t"
    "movq %r11, guest_snapshot + 80\n\t"
    "movq %r12, guest_snapshot + 88\n\t"
    "movq %r13, guest_snapshot + 96\n\t"
    "movq %r14, guest_snapshot + 104\n\t"
    "movq %r15, guest_snapshot + 112\n\t"
    "pushfq\n\tpopq guest_snapshot + 128\n\t"
    "leaq 8(%rsp), %rax\n\tmovq %rax, guest_snapshot + 120\n\t"
    "movq guest_snapshot, %rax\n\tret\n");

extern const u8 vmx_guest_done[];

static const char *const gpr_names[] = {
	"RAX", "RCX", "RDX", "RBX", "RSP", "RBP", "RSI", "RDI",
	"R8", "R9", "R10", "R11", "R12", "R13", "R14", "R15",
};

outcome_t enter_at_instruction(const struct guest_code *code)
{
	struct cpu *cpu = this_cpu();
	u64 *top = (u64 *)(cpu->guest_stack + sizeof(cpu->guest_stack)) - 1;

	*top = (u64)vmx_guest_done;
	vmwrite(GUEST_RSP, (u64)top);
	vmwrite(GUEST_RIP, (u64)code->at);
	return resume();
}

/* --- other modes -------------------------------------------------------------- */

void guest_to_user_mode(void)
{
	vmwrite(GUEST_CS_SELECTOR, SELECTOR_USER_CODE64);
	vmwrite(GUEST_CS_ACCESS_RIGHTS, 0xa0fb);
	vmwrite(GUEST_SS_SELECTOR, SELECTOR_USER_DATA);
	vmwrite(GUEST_SS_ACCESS_RIGHTS, 0xc0f3);
	vmwrite(GUEST_DS_SELECTOR, SELECTOR_USER_DATA);
	vmwrite(GUEST_DS_ACCESS_RIGHTS, 0xc0f3);
	vmwrite(GUEST_ES_SELECTOR, SELECTOR_USER_DATA);
	vmwrite(GUEST_ES_ACCESS_RIGHTS, 0xc0f3);
}

static void leave_ia32e_mode(void)
{
	vmcs_clear_control(CONTROL_ENTRY_IA_32E_MODE_GUEST);
	if (control_allowed(CONTROL_ENTRY_LOAD_IA32_EFER))
		vmwrite(GUEST_IA32_EFER, vmread(GUEST_IA32_EFER) & ~(EFER_LMA | EFER_LME));
	vmwrite(GUEST_CR4, vmread(GUEST_CR4) & ~(CR4_PAE | CR4_PCIDE));
}

void guest_to_real_mode(void)
{
	leave_ia32e_mode();
	vmcs_set_control(CONTROL_PROC2_UNRESTRICTED_GUEST);
	vmwrite(GUEST_CR0, vmread(GUEST_CR0) & ~(CR0_PE | CR0_PG));
}

u32 *guest_to_32_bit_mode(void)
{
	u32 *directory = page_alloc(), i;

	for (i = 0; i < 1024; i++)
		directory[i] = i << 22 | PTE_P | PTE_RW | PTE_PS;
	leave_ia32e_mode();
	vmwrite(GUEST_CR3, physical(directory));
	vmwrite(GUEST_CR4, vmread(GUEST_CR4) | CR4_PSE);
	vmwrite(GUEST_CS_SELECTOR, SELECTOR_CODE32);
	vmwrite(GUEST_CS_ACCESS_RIGHTS, 0xc09b);
	return directory;
}

/* --- what holds for every exit by an instruction --------------------------------- */

static void expect_untouched(const char *file, u32 line, const char *name, u64 got, u64 want)
{
	char what[64], words[2][48];

	if (got == want)
		return;
	format(what, sizeof(what), "%s at a fault-like exit: as before the instruction", name);
	case_fail(file, line, what, format_number(words[0], sizeof(words[0]), want),
		  format_number(words[1], sizeof(words[1]), got));
}

void guest_expect_exit(const char *file, u32 line, const struct guest_code *code)
{
	/* In the order of struct general_registers. */
	static const char *const names[] = {
		"RAX", "RBX", "RCX", "RDX", "RSI", "RDI", "RBP",
		"R8", "R9", "R10", "R11", "R12", "R13", "R14", "R15",
	};
	const u64 *want = &guest_snapshot.regs.rax, *got = &guest_regs()->rax;
	u32 i;

	case_expect_equal(file, line, "vmread(GUEST_RIP)", vmread(GUEST_RIP), (u64)code->at);
	case_expect_equal(file, line, "vmread(VM_EXIT_INSTRUCTION_LENGTH)",
			  vmread(VM_EXIT_INSTRUCTION_LENGTH), code->end - code->at);
	for (i = 0; i < ARRAY_SIZE(names); i++)
		expect_untouched(file, line, names[i], got[i], want[i]);
	expect_untouched(file, line, "RSP", vmread(GUEST_RSP), guest_snapshot.rsp);
	expect_untouched(file, line, "RFLAGS", vmread(GUEST_RFLAGS), guest_snapshot.rflags);
}

/* --- exit qualification ---------------------------------------------------------- */

/* The bits that Tables 30-3 to 30-5 define. */
static u64 qualification_defined(u16 reason)
{
	switch (reason) {
	case EXIT_CONTROL_REGISTER_ACCESS:
		return BITS(6, 0) | BITS(11, 8) | BITS(31, 16);
	case EXIT_MOV_DR:
		return BITS(2, 0) | BIT(4) | BITS(11, 8);
	case EXIT_IO_INSTRUCTION:
		return BITS(6, 0) | BITS(31, 16);
	}
	return ~0ull;
}

static void control_register_words(char *to, size_t size, u64 q)
{
	const char *gpr = gpr_names[FIELD(q, 11, 8)];
	u32 cr = FIELD(q, 3, 0);

	switch (FIELD(q, 5, 4)) {
	case 0:
		format(to, size, "MOV to CR%u from %s (%#lx)", cr, gpr, q);
		break;
	case 1:
		format(to, size, "MOV from CR%u to %s (%#lx)", cr, gpr, q);
		break;
	case 2:
		format(to, size, "CLTS (%#lx)", q);
		break;
	default:
		format(to, size, "LMSW %s, source %#x (%#lx)", q & BIT(6) ? "memory" : "register",
		       (u32)FIELD(q, 31, 16), q);
	}
}

static void io_words(char *to, size_t size, u64 q)
{
	format(to, size, "%s%s%s of %u bytes, port %#x%s (%#lx)", q & BIT(5) ? "REP " : "",
	       q & BIT(3) ? "IN" : "OUT", q & BIT(4) ? "S" : "", (u32)FIELD(q, 2, 0) + 1,
	       (u32)FIELD(q, 31, 16), q & BIT(6) ? " by immediate" : " by DX", q);
}

static const char *qualification_words(char *to, size_t size, u16 reason, u64 q)
{
	switch (reason) {
	case EXIT_CONTROL_REGISTER_ACCESS:
		control_register_words(to, size, q);
		break;
	case EXIT_MOV_DR:
		format(to, size, "MOV %s DR%u, %s (%#lx)", q & BIT(4) ? "from" : "to",
		       (u32)FIELD(q, 2, 0), gpr_names[FIELD(q, 11, 8)], q);
		break;
	case EXIT_IO_INSTRUCTION:
		io_words(to, size, q);
		break;
	default:
		format_number(to, size, q);
	}
	return to;
}

void guest_expect_qualification(const char *file, u32 line, u64 want)
{
	u16 reason = vmread(EXIT_REASON);
	u64 got = vmread(EXIT_QUALIFICATION), defined = qualification_defined(reason);
	char words[2][100];

	if ((got & defined) == (want & defined))
		return;
	case_fail(file, line, "vmread(EXIT_QUALIFICATION)",
		  qualification_words(words[0], sizeof(words[0]), reason, want & defined),
		  qualification_words(words[1], sizeof(words[1]), reason, got & defined));
}

/* --- instruction information ------------------------------------------------------- */

static const char *const address_sizes[] = { "16-bit", "32-bit", "64-bit" };
static const char *const segments[] = { "ES", "CS", "SS", "DS", "FS", "GS" };
static const char *const forms[] = { "memory", "register" };
static const char *const validity[] = { "valid", "invalid" };

static const struct information_field {
	const char *name;
	u8 high, low;
	const char *const *words;
	u32 word_count;
} information_fields[] = {
	{ "scale", 1, 0, NULL, 0 },
	{ "Reg1", 6, 3, gpr_names, ARRAY_SIZE(gpr_names) },
	{ "address size", 9, 7, address_sizes, ARRAY_SIZE(address_sizes) },
	{ "Mem/Reg", 10, 10, forms, ARRAY_SIZE(forms) },
	{ "operand size", 12, 11, NULL, 0 },
	{ "segment register", 17, 15, segments, ARRAY_SIZE(segments) },
	{ "IndexReg", 21, 18, gpr_names, ARRAY_SIZE(gpr_names) },
	{ "IndexReg invalid", 22, 22, validity, ARRAY_SIZE(validity) },
	{ "BaseReg", 26, 23, gpr_names, ARRAY_SIZE(gpr_names) },
	{ "BaseReg invalid", 27, 27, validity, ARRAY_SIZE(validity) },
	{ "Reg2 or instruction identity", 31, 28, NULL, 0 },
};

static const char *field_words(char *to, size_t size, const struct information_field *field,
			       u64 value)
{
	if (value < field->word_count)
		return field->words[value];
	return format_number(to, size, value);
}

void guest_expect_information(const char *file, u32 line, u64 want)
{
	u64 got = vmread(VM_EXIT_INSTRUCTION_INFORMATION), defined = want >> 32;
	const struct information_field *field;
	char what[80], words[2][48];
	u32 i;

	for (i = 0; i < ARRAY_SIZE(information_fields); i++) {
		field = &information_fields[i];
		if (!FIELD((got ^ want) & defined, field->high, field->low))
			continue;
		format(what, sizeof(what), "vmread(VM_EXIT_INSTRUCTION_INFORMATION): %s",
		       field->name);
		case_fail(file, line, what,
			  field_words(words[0], sizeof(words[0]), field,
				      FIELD(want & defined, field->high, field->low)),
			  field_words(words[1], sizeof(words[1]), field,
				      FIELD(got & defined, field->high, field->low)));
	}
}
