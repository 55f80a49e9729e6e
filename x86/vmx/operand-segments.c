/*
 * Memory operands of the VMX instructions where segmentation counts: protected mode outside IA-32e
 * mode, with 32-bit paging, in VMX root operation (VMXON: outside of it).
 *
 * 33.3 VMX Instructions, for each instruction that has a memory operand: #GP(0) when the operand
 * lies beyond the limit of CS, DS, ES, FS or GS, when that segment is unusable or, if it is CS, an
 * execute-only code segment; #SS(0) when it lies beyond the limit of SS. An instruction that
 * stores, VMPTRST or VMREAD, is #GP(0) for a read-only data segment and for any code segment.
 *
 * Each case also uses the same instruction with an operand that is good, so that nothing but the
 * segment can be what it faults for. VMX operation has to begin there: it fixes CR0.PG to 1, and so
 * IA-32e mode cannot be left in it. 64-bit mode is the subject of operand-faults; compatibility
 * mode has no VMX instructions.
 */
#include "mmu/build.h"
#include "mmu/legacy.h"
#include "mmu/pages.h"
#include "string.h"
#include "vmx/vmx.h"

BEFORE_EACH_CASE(vmx_prepare);

#define STACK_FAULT	OUTCOME_FAULT(VECTOR_SS, 0)
#define SUCCEEDED	0x10000u	/* with all six status flags 0 */
#define ALL_CONTEXTS	2

/* --- segments ---------------------------------------------------------------------------- */

enum {
	SELECTOR_PAGE		= SELECTOR_SPARE,		/* data: the 4 KBytes of the case */
	SELECTOR_PAGE_READ_ONLY	= SELECTOR_SPARE + 0x08,
	SELECTOR_4_MBYTES	= SELECTOR_SPARE + 0x10,	/* data from 0: for SS */
	SELECTOR_EXECUTE_ONLY	= SELECTOR_SPARE + 0x18,	/* code, 4 GBytes from 0 */
	SELECTOR_READABLE_CODE	= SELECTOR_SPARE + 0x20,
};
_Static_assert(SELECTOR_SPARE == 0x68, "the far jumps of by_cs");

#define TYPE_DATA_READ_ONLY	1	/* 3.4.5.1, accessed */
#define TYPE_DATA		3
#define TYPE_EXECUTE_ONLY	9
#define TYPE_CODE		11

/* Present, code or data, DPL 0, 32 bits; `limit` in units of 4 KBytes where `pages`. */
static u64 descriptor(u32 base, u32 limit, bool pages, u32 type)
{
	return FIELD(limit, 15, 0) | FIELD((u64)base, 23, 0) << 16 | (u64)type << 40 |
	       1ull << 44 | 1ull << 47 | FIELD((u64)limit, 19, 16) << 48 | 1ull << 54 |
	       (u64)pages << 55 | FIELD((u64)base, 31, 24) << 56;
}

static void set_segments(const u8 *page)
{
	u32 base = physical(page);

	cpu_set_descriptor(SELECTOR_PAGE, descriptor(base, PAGE_SIZE - 1, false, TYPE_DATA));
	cpu_set_descriptor(SELECTOR_PAGE_READ_ONLY,
			   descriptor(base, PAGE_SIZE - 1, false, TYPE_DATA_READ_ONLY));
	cpu_set_descriptor(SELECTOR_4_MBYTES,
			   descriptor(0, LEGACY_MEMORY / PAGE_SIZE - 1, true, TYPE_DATA));
	cpu_set_descriptor(SELECTOR_EXECUTE_ONLY, descriptor(0, 0xfffff, true, TYPE_EXECUTE_ONLY));
	cpu_set_descriptor(SELECTOR_READABLE_CODE, descriptor(0, 0xfffff, true, TYPE_CODE));
}

CODE32(load_fs, "movl %eax, %fs");
CODE32(load_ss, "movl %eax, %ss");
#define LOAD_FS(selector)	LEGACY_STEP("MOV to FS of", load_fs, selector, 0)
#define LOAD_SS(selector)	LEGACY_STEP("MOV to SS of", load_ss, selector, 0)

/* --- the instructions --------------------------------------------------------------------- */

struct instruction {
	const char *name;
	/* The operand at EAX in the segment FS, SS, or CS: execute-only, or readable code. */
	const u8 *by_fs, *by_ss, *by_execute_only, *by_readable_code;
	u32 edx;		/* field or type */
	u32 bytes;		/* of the operand */
	bool stores;		/* to the operand */
	bool outside;		/* VMX operation */
};

/* All six flags are 1 before; they and SUCCEEDED are in EAX after it. */
#define FLAGS_AROUND(text)							\
	"pushl $0x8d7\n\tpopfl\n\t" text "\n\t"				\
	"pushfl\n\tpopl %eax\n\tandl $0x8d5, %eax\n\torl $0x10000, %eax"
/* A far jump of this selector makes it CS; the fault handler has a CS of its own. */
#define WITH_CS(selector, text)							\
	"ljmp $" selector ", $1f\n1:\t" text "\n\tljmp $0x18, $2f\n2:"
_Static_assert(SELECTOR_CODE32 == 0x18, "the way back from another CS");

#define INSTRUCTION(id, before, after, ...)					\
	CODE32(id##_by_fs, FLAGS_AROUND(before "%fs:(%eax)" after));		\
	CODE32(id##_by_ss, FLAGS_AROUND("movl %eax, %ebp\n\t" before "(%ebp)" after)); \
	CODE32(id##_by_execute_only,						\
	       WITH_CS("0x80", FLAGS_AROUND(before "%cs:(%eax)" after)));	\
	CODE32(id##_by_readable_code,						\
	       WITH_CS("0x88", FLAGS_AROUND(before "%cs:(%eax)" after)));	\
	static const struct instruction id##_row = {				\
		#id " at", id##_by_fs, id##_by_ss, id##_by_execute_only,	\
		id##_by_readable_code, __VA_ARGS__ }

INSTRUCTION(vmxon, "vmxon ", "", .bytes = 8, .outside = true);
INSTRUCTION(vmclear, "vmclear ", "", .bytes = 8);
INSTRUCTION(vmptrld, "vmptrld ", "", .bytes = 8);
INSTRUCTION(vmptrst, "vmptrst ", "", .bytes = 8, .stores = true);
INSTRUCTION(vmread, "vmread %edx, ", "", .bytes = 4, .stores = true, .edx = GUEST_RIP);
INSTRUCTION(vmwrite, "vmwrite ", ", %edx", .bytes = 4, .edx = GUEST_RIP);
INSTRUCTION(invept, "invept ", ", %edx", .bytes = 16, .edx = ALL_CONTEXTS);
INSTRUCTION(invvpid, "invvpid ", ", %edx", .bytes = 16, .edx = ALL_CONTEXTS);

CODE32(leave, "vmxoff");
#define VMXOFF_STEP	LEGACY_STEP("VMXOFF,", leave, 0, 0)

/* --- scripts --------------------------------------------------------------------------------- */

/* A script grows step by step; it begins in VMX operation with a current VMCS, or outside. */
struct script {
	const struct instruction *insn;
	u8 *page;		/* the operand, at its start and at its end */
	u64 region;		/* what it points to */
	struct legacy_step steps[24];
	u32 count;
};

static void add(struct script *script, struct legacy_step step)
{
	if (script->count == ARRAY_SIZE(script->steps))
		bail_out("a script that is too long");
	script->steps[script->count++] = step;
}

static void add_success(struct script *script, const struct instruction *insn, const u8 *code,
			u32 address)
{
	add(script, (struct legacy_step){ LEGACY_STEP(insn->name, code, address, insn->edx),
					  .gives = SUCCEEDED, .mask = SUCCEEDED | 0x8d5 });
	if (insn->outside)
		add(script, (struct legacy_step){ VMXOFF_STEP });
}

static void add_fault(struct script *script, const u8 *code, u32 address, outcome_t fault)
{
	add(script, (struct legacy_step){ LEGACY_STEP(script->insn->name, code, address,
						      script->insn->edx), .ends = fault });
}

static void put_operand(struct script *script, u64 region)
{
	u32 bytes = script->insn->bytes, revision = vmcs_revision();

	memcpy((void *)region, &revision, sizeof(revision));
	memcpy(script->page, &region, sizeof(region));
	memcpy(script->page + PAGE_SIZE - bytes, &region, bytes < 8 ? bytes : 8);
}

/* All-contexts invalidation wants a descriptor of zeros; all others take a pointer, or a value. */
static void begin(struct script *script, const struct instruction *insn)
{
	script->insn = insn;
	script->page = page_alloc();
	script->region = (u64)page_alloc();
	if (insn->bytes < 16)
		put_operand(script, script->region);
	set_segments(script->page);
	if (insn->outside)
		return;
	add(script, (struct legacy_step){ LOAD_FS(SELECTOR_DATA) });
	add(script, (struct legacy_step){ LEGACY_STEP("VMXON at", vmxon_by_fs,
						      physical(&this_vmx()->vmxon_region), 0) });
	add(script, (struct legacy_step){ LEGACY_STEP("VMCLEAR at", vmclear_by_fs,
						      physical(&this_vmx()->vmcs_region), 0) });
	add(script, (struct legacy_step){ LEGACY_STEP("VMPTRLD at", vmptrld_by_fs,
						      physical(&this_vmx()->vmcs_region), 0) });
}

/* Runs it with 32-bit paging that maps each address to itself. */
static void run(struct script *script)
{
	u32 *directory = page_alloc(), i;
	struct legacy_start start = {
		.mode = PAGING_32_BIT, .cr3 = physical(directory), .cr4 = CR4_PSE,
	};

	for (i = 0; i < 1024; i++)
		directory[i] = i << 22 | PTE_P | PTE_RW | PTE_PS;
	add(script, (struct legacy_step){ LOAD_FS(0) });
	add(script, (struct legacy_step){ LOAD_SS(SELECTOR_DATA) });
	if (!script->insn->outside)
		add(script, (struct legacy_step){ VMXOFF_STEP });
	legacy_run(__FILE__, __LINE__, &start, script->steps, script->count);
}

/* --- checks ----------------------------------------------------------------------------------- */

static void check_limit(const struct case_def *this_case)
{
	const struct instruction *insn = this_case->row;
	struct script script = { 0 };
	u32 last = PAGE_SIZE - insn->bytes;

	begin(&script, insn);
	add(&script, (struct legacy_step){ LOAD_FS(SELECTOR_PAGE) });
	add_success(&script, insn, insn->by_fs, 0);
	add_success(&script, insn, insn->by_fs, last);
	add_fault(&script, insn->by_fs, last + 1, OUTCOME_GP0);
	add_fault(&script, insn->by_fs, PAGE_SIZE - 1, OUTCOME_GP0);
	add_fault(&script, insn->by_fs, PAGE_SIZE, OUTCOME_GP0);
	add_fault(&script, insn->by_fs, 0xfffff000, OUTCOME_GP0);
	run(&script);
}

/* The stack itself stays below 4 MBytes. */
static void check_stack_limit(const struct case_def *this_case)
{
	const struct instruction *insn = this_case->row;
	struct script script = { 0 };

	begin(&script, insn);
	add(&script, (struct legacy_step){ LOAD_SS(SELECTOR_4_MBYTES) });
	add_success(&script, insn, insn->by_ss, physical(script.page));
	add_fault(&script, insn->by_ss, LEGACY_MEMORY - insn->bytes + 1, STACK_FAULT);
	add_fault(&script, insn->by_ss, LEGACY_MEMORY, STACK_FAULT);
	run(&script);
}

static void check_null(const struct case_def *this_case)
{
	const struct instruction *insn = this_case->row;
	struct script script = { 0 };

	begin(&script, insn);
	add(&script, (struct legacy_step){ LOAD_FS(SELECTOR_DATA) });
	add_success(&script, insn, insn->by_fs, physical(script.page));
	add(&script, (struct legacy_step){ LOAD_FS(0) });
	add_fault(&script, insn->by_fs, physical(script.page), OUTCOME_GP0);
	run(&script);
}

static void check_code(const struct case_def *this_case)
{
	const struct instruction *insn = this_case->row;
	struct script script = { 0 };
	u32 address;

	begin(&script, insn);
	address = physical(script.page);
	if (insn->stores)
		add_fault(&script, insn->by_readable_code, address, OUTCOME_GP0);
	else
		add_success(&script, insn, insn->by_readable_code, address);
	add_fault(&script, insn->by_execute_only, address, OUTCOME_GP0);
	run(&script);
	if (insn->stores)
		EXPECT_EQ(*(u64 *)script.page, script.region);
}

/* To load from such a segment is no fault, to store is one, and nothing is stored. */
static void check_read_only(const struct case_def *this_case)
{
	const struct instruction *insn = this_case->row;
	struct script script = { 0 };

	begin(&script, insn);
	add(&script, (struct legacy_step){ LOAD_FS(SELECTOR_PAGE_READ_ONLY) });
	if (insn->stores)
		add_fault(&script, insn->by_fs, 0, OUTCOME_GP0);
	else
		add_success(&script, insn, insn->by_fs, 0);
	run(&script);
	if (insn->stores)
		EXPECT_EQ(*(u64 *)script.page, script.region);
}

/* --- cases ------------------------------------------------------------------------------------ */

#define EPT_NEEDS	NEEDS(VMX, EPT_CAP(INVEPT), EPT_CAP(INVEPT_ALL))
#define VPID_NEEDS	NEEDS(VMX, VPID_CAP(INVVPID), VPID_CAP(INVVPID_ALL))

#define SEGMENT_CASE(id, words, check, ...)					\
	CASE_RUN(id##_##words, check, PROVES("vmx-instructions:" #id ".operand_fault"), \
		 __VA_ARGS__, ROW(&id##_row))

#define LOAD_CASES(id, ...)							\
	SEGMENT_CASE(id, beyond_the_limit, check_limit, __VA_ARGS__);		\
	SEGMENT_CASE(id, beyond_the_limit_of_ss, check_stack_limit, __VA_ARGS__); \
	SEGMENT_CASE(id, by_a_null_segment, check_null, __VA_ARGS__);		\
	SEGMENT_CASE(id, by_an_execute_only_segment, check_code, __VA_ARGS__);	\
	SEGMENT_CASE(id, from_a_read_only_segment, check_read_only, __VA_ARGS__)

#define STORE_CASES(id, ...)							\
	SEGMENT_CASE(id, beyond_the_limit, check_limit, __VA_ARGS__);		\
	SEGMENT_CASE(id, beyond_the_limit_of_ss, check_stack_limit, __VA_ARGS__); \
	SEGMENT_CASE(id, by_a_null_segment, check_null, __VA_ARGS__);		\
	SEGMENT_CASE(id, to_a_code_segment, check_code, __VA_ARGS__);		\
	SEGMENT_CASE(id, to_a_read_only_segment, check_read_only, __VA_ARGS__)

LOAD_CASES(vmxon, NEEDS(VMX));
LOAD_CASES(vmclear, NEEDS(VMX));
LOAD_CASES(vmptrld, NEEDS(VMX));
STORE_CASES(vmptrst, NEEDS(VMX));
STORE_CASES(vmread, NEEDS(VMX));
LOAD_CASES(vmwrite, NEEDS(VMX));
LOAD_CASES(invept, EPT_NEEDS);
LOAD_CASES(invvpid, VPID_NEEDS);
