#include "mmu/legacy.h"
#include "cpu/safe.h"
#include "fmt.h"
#include "mmu/pages.h"

#define VECTORS		32
#define STUB_SIZE	16		/* bytes, of mmu/legacy_entry.S */
#define NO_VECTOR	~0u

/* What mmu/legacy_entry.S sees of a step: in step with it. */
struct legacy_job {
	u32 code, a, b;
	u32 value;
	u32 vector, error, cr2;
};
_Static_assert(sizeof(struct legacy_job) == 28, "JOB_SIZE in mmu/legacy_entry.S");

/* 32-bit code has no place to keep a pointer to these while a fault is on its way. */
static struct legacy_job jobs[LEGACY_MAX_STEPS];
u32 legacy_job, legacy_jobs_end;
u32 legacy_required;	/* a fault before this job ends it all */
u32 legacy_cr0, legacy_cr3, legacy_cr4, legacy_efer;
u64 legacy_stack;
struct table_pointer legacy_idt_32, legacy_idt_64;
static u64 idt_32[VECTORS];

extern const u8 legacy_stubs[], legacy_next[];
void legacy_enter(void);

/* 32-bit interrupt gates: 7.11 IDT Descriptors. */
static void make_idt(void)
{
	u64 offset;
	u32 i;

	for (i = 0; i < VECTORS; i++) {
		offset = (u64)legacy_stubs + i * STUB_SIZE;
		idt_32[i] = FIELD(offset, 15, 0) | (u64)SELECTOR_CODE32 << 16 | 0x8eull << 40 |
			    FIELD(offset, 31, 16) << 48;
	}
	legacy_idt_32 = (struct table_pointer){ sizeof(idt_32) - 1, (u64)idt_32 };
}

/* A fault in compatibility mode comes by the 64-bit IDT; the script goes on with the next step. */
static void fault_in_compatibility_mode(struct trap_frame *frame)
{
	struct legacy_job *job = (struct legacy_job *)(u64)legacy_job;

	if (frame->cs != SELECTOR_CODE32)
		bail_out("vector %lu at RIP %#lx while a script runs", frame->vector, frame->rip);
	job->vector = frame->vector;
	job->error = frame->error;
	job->cr2 = read_cr2();
	legacy_job = legacy_job < legacy_required ? legacy_jobs_end : legacy_job + sizeof(*job);
	frame->rip = (u64)legacy_next;
}

static outcome_t job_outcome(const struct legacy_job *job)
{
	switch (job->vector) {
	case NO_VECTOR:
		return OUTCOME_DONE;
#define VECTOR(number, name, mnemonic, has_error)				\
	case number:								\
		return has_error ? OUTCOME_FAULT(number, job->error) : OUTCOME_EXCEPTION(number);
#include "sdm/vectors.def"
#undef VECTOR
	}
	return OUTCOME_EXCEPTION(job->vector);
}

/* The steps that lead from compatibility mode to where the script begins. */
static u32 steps_to(const struct legacy_start *start, struct legacy_step *steps)
{
	u32 cr0 = (legacy_cr0 & ~(u32)CR0_PG) | start->cr0;
	u32 cr4 = (legacy_cr4 & ~(u32)CR4_PAE) | start->cr4, n = 0;

	if (start->mode == PAGING_4_LEVEL)
		return 0;
	if (start->mode == PAGING_PAE)
		cr4 |= CR4_PAE;
	steps[n++] = (struct legacy_step){ SET_CR0(cr0) };
	steps[n++] = (struct legacy_step){ SET_EFER(start->efer) };
	steps[n++] = (struct legacy_step){ SET_CR4(cr4) };
	steps[n++] = (struct legacy_step){ SET_CR3(start->cr3) };
	if (start->mode != PAGING_OFF)
		steps[n++] = (struct legacy_step){ SET_CR0(cr0 | (u32)CR0_PG) };
	return n;
}

static bool is_page_fault(outcome_t outcome)
{
	return (outcome & ~0xffffffffull) == PAGE_FAULT(0);
}

static bool as_it_must(const struct legacy_step *step)
{
	u32 mask = step->mask ? step->mask : ~0u, value = step->value & mask;
	outcome_t want = step->ends ? step->ends : OUTCOME_DONE;

	if (step->outcome != want && (!step->or_ends || step->outcome != step->or_ends))
		return false;
	if (step->outcome != OUTCOME_DONE)
		return !is_page_fault(step->outcome) || step->cr2 == step->a;
	return (!step->gives && !step->or_gives) || value == (step->gives & mask) ||
	       (step->or_gives && value == (step->or_gives & mask));
}

/* "done, 0x11223344" or "#PF(P), CR2 0x40000000". */
static void words_for(char *to, size_t size, outcome_t outcome, u32 number)
{
	bool page_fault = is_page_fault(outcome);
	char words[80];

	outcome_words(words, sizeof(words), outcome);
	if (outcome == OUTCOME_DONE || page_fault)
		format(to, size, "%s, %s %#x", words, page_fault ? "CR2" : "EAX", number);
	else
		format(to, size, "%s", words);
}

static bool judge(const char *file, u32 line, u32 number, const struct legacy_step *step)
{
	outcome_t want = step->ends ? step->ends : OUTCOME_DONE;
	char what[80], expected[160], got[120];

	if (as_it_must(step))
		return true;
	format(what, sizeof(what), "step %u: %s %#x", number, step->words, step->a);
	words_for(got, sizeof(got), step->outcome,
		  step->outcome == OUTCOME_DONE ? step->value : step->cr2);
	if (want != OUTCOME_DONE)
		words_for(expected, sizeof(expected), want, step->a);
	else
		format(expected, sizeof(expected),
		       step->gives ? "done, EAX %#x" : "done", step->gives);
	case_fail(file, line, what, expected, got);
	return false;
}

static bool take_result(const char *file, u32 line, u32 number, const struct legacy_job *job,
			struct legacy_step *step)
{
	step->value = job->value;
	step->cr2 = job->cr2;
	step->outcome = job_outcome(job);
	return judge(file, line, number, step);
}

static void run_jobs(void)
{
	u64 cr0 = read_cr0(), cr3 = read_cr3(), cr4 = read_cr4();
	u32 i;

	make_idt();
	for (i = 0; i < VECTORS; i++)
		trap_on(i, fault_in_compatibility_mode);
	legacy_enter();
	for (i = 0; i < VECTORS; i++)
		trap_on(i, NULL);
	write_cr0(cr0);
	write_cr4(cr4);
	write_cr3(cr3);
}

/* The words of a step, its code and its operands are in the image or given by value. */
static void add_job(u32 n, const struct legacy_step *step)
{
	jobs[n] = (struct legacy_job){
		.code = (u64)step->code, .a = step->a, .b = step->b, .vector = NO_VECTOR,
	};
}

void legacy_run(const char *file, u32 line, const struct legacy_start *start,
		struct legacy_step *script, u32 count)
{
	struct legacy_step first[5];
	u32 before, i;

	legacy_cr0 = read_cr0();
	legacy_cr3 = read_cr3();
	legacy_cr4 = read_cr4();
	legacy_efer = rdmsr(IA32_EFER);
	before = steps_to(start, first);
	if (before + count > LEGACY_MAX_STEPS)
		bail_out("a script of %u steps", count);
	for (i = 0; i < before; i++)
		add_job(i, &first[i]);
	for (i = 0; i < count; i++)
		add_job(before + i, &script[i]);
	legacy_job = (u64)jobs;
	legacy_required = (u64)&jobs[before];
	legacy_jobs_end = (u64)&jobs[before + count];
	run_jobs();
	for (i = 0; i < before; i++)
		if (!take_result(file, line, 0, &jobs[i], &first[i]))
			return;
	for (i = 0; i < count; i++)
		take_result(file, line, i + 1, &jobs[before + i], &script[i]);
}

/*
 * 5.1.2: only outside IA-32e mode may CR4.LA57 change. A script with no steps goes there and back.
 */
static void change_levels(u64 cr3, u64 cr4)
{
	legacy_cr0 = read_cr0();
	legacy_cr3 = cr3;
	legacy_cr4 = cr4;
	legacy_efer = rdmsr(IA32_EFER);
	legacy_job = legacy_jobs_end = 0;
	legacy_enter();
}

outcome_t legacy_run_with_5_levels(const u64 *pml5, void (*function)(void *argument),
				   void *argument)
{
	struct cpu *cpu = this_cpu();
	struct context *outer = cpu->catcher;
	u64 cr3 = read_cr3(), cr4 = read_cr4();
	outcome_t outcome;

	change_levels(physical(pml5), cr4 | CR4_LA57);
	/* Without an outer catcher case_end() comes back to here, too. */
	cpu->catcher = NULL;
	outcome = attempt(function, argument);
	cpu->catcher = outer;
	change_levels(cr3, cr4);
	if (cpu->left && outer)
		trap_leave();
	return outcome;
}
