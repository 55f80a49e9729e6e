/*
 * Cases: how an image declares them, what they may expect, and the loop that runs them.
 *
 *	CASE(cpuid_is_unconditional, PROVES("exit-reasons:10"), NEEDS(VMX))
 *	{
 *		EXPECT(enter(guest), OUTCOME_EXIT(EXIT_CPUID));
 *		EXPECT_EQ(vmread(VM_EXIT_INSTRUCTION_LENGTH), 2);
 *	}
 *
 * A failed expectation is noted and the case goes on; REQUIRE_* ends the case there.
 */
#ifndef LIB_CASE_H
#define LIB_CASE_H

#include "fmt.h"
#include "types.h"

/* One condition for a case to run; `text` completes "needs ...". */
struct need {
	const char *text;
	bool (*met)(u64 arg);
	u64 arg;
	u64 spare;
};

/* 64 bytes, read by tools/imageinfo from the ELF: keep the order in step with it. */
struct case_def {
	const char *name;
	const char *const *facts;
	const struct need *needs;
	const char *file;
	void (*run)(const struct case_def *this_case);
	const void *row;
	u32 line, flags;
	u64 spare;
};

#define PROVES(...)	.facts = (const char *const[]){ __VA_ARGS__, NULL }
#define NEEDS(...)	.needs = (const struct need[]){ __VA_ARGS__, { 0 } }
#define ROW(pointer)	.row = (pointer)

/* A case whose body follows. */
#define CASE(id, ...)							\
	static void case_##id(const struct case_def *this_case);	\
	CASE_RUN(id, case_##id, __VA_ARGS__);				\
	static void case_##id(const struct case_def *this_case __maybe_unused)

/* One row of a table: a case whose body is the function `body`; see case_def.row. */
#define CASE_RUN(id, body, ...)						\
	static const struct case_def case_def_##id			\
	__section(".cases") __used __attribute__((aligned(8))) = {	\
		.name = #id, .file = __FILE__, .line = __LINE__, .run = (body), __VA_ARGS__ }

/* Run before each case of the image, after its needs were found met. At most one per image. */
#define BEFORE_EACH_CASE(function) \
	void (*const before_each_case)(void) = (function)
extern void (*const before_each_case)(void);

/* --- expectations ------------------------------------------------------------ */

#define EXPECT_EQ(got, want)						\
	case_expect_equal(__FILE__, __LINE__, #got, (u64)(got), (u64)(want))
#define EXPECT_TRUE(condition)						\
	case_expect_true(__FILE__, __LINE__, #condition, (condition))
#define EXPECT_FALSE(condition)						\
	case_expect_true(__FILE__, __LINE__, "not (" #condition ")", !(condition))
#define REQUIRE_EQ(got, want)						\
	do { if (!EXPECT_EQ(got, want)) case_end(); } while (0)
#define REQUIRE_TRUE(condition)						\
	do { if (!EXPECT_TRUE(condition)) case_end(); } while (0)

bool case_expect_equal(const char *file, u32 line, const char *what, u64 got, u64 want);
bool case_expect_true(const char *file, u32 line, const char *what, bool condition);

/*
 * Notes one failure: what was looked at, in words what was expected and what came.
 * `file` NULL: the line of the case.
 */
void case_fail(const char *file, u32 line, const char *what, const char *expected,
	       const char *got);

/* Adds a line "key: value" to the YAML block that the case prints if it fails. */
void case_note(const char *key, const char *text, ...) __printf(2, 3);

/* True when an expectation of the running case has failed. */
bool case_failed(void);

/* Ends the running case here, with what has been noted so far. */
__noreturn void case_end(void);

/*
 * Boots the machine again before the next case: what this case has done to the processor cannot
 * be undone, e.g. it locked IA32_FEATURE_CONTROL. The case itself goes on.
 */
void case_boot_again(void);

/* Whether that has been asked for: what the case has done need not be undone then. */
bool case_will_boot_again(void);

/* Ends the running case as `# SKIP needs <text>`: for a need that only shows while running. */
__noreturn void case_skip(const char *text, ...) __printf(1, 2);

/* The suite itself is broken: `Bail out!`, power off. */
__noreturn void bail_out(const char *text, ...) __printf(1, 2);

/* A pseudo-random number from the run's seed: the same for the same case and seed. */
u64 case_random(void);

/* --- the loop ---------------------------------------------------------------- */

struct platform;

/* What the loop asks of the processor underneath. */
struct case_machine {
	/* Calls run(); true when it returned, false when it was ended by leave() or a trap. */
	bool (*guarded)(void (*run)(void));
	/* Leaves the innermost guarded(). */
	__noreturn void (*leave)(void);
	/* Brings the processor back to the state in which a case begins. */
	void (*restore)(void);
};

/* Runs what /chosen asks for, prints TAP, switches the machine off. */
__noreturn void cases_run(const struct platform *platform, const struct case_machine *machine);

/* A '#' line of the TAP stream. */
void tap_comment(const char *text, ...) __printf(1, 2);

#endif
