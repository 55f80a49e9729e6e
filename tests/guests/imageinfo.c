/*
 * For tests/imageinfo.t: an image that is only a case table. It is never booted.
 * The test builds it with one of the macros below to make one thing wrong.
 */
struct need {
	const char *text;
	void (*fn)(void);
	unsigned long long arg;
	unsigned long long spare;
};

struct record {
	const char *name;
	const char *const *facts;
	const struct need *needs;
	const char *file;
	void (*run)(void);
	unsigned long long row;
	unsigned int line;
	unsigned int flags;
	unsigned long long spare;
};

#ifdef COUNT
unsigned int platform_count(void);
unsigned int platform_count(void)
{
	return 0;
}
#endif

#ifndef FACT
#define FACT "exit-reasons:10"
#endif
#ifndef NAME
#define NAME "second"
#endif
#ifndef NEED
#define NEED "secondary processor-based control \"enable EPT\""
#endif
#ifndef SOURCE
#define SOURCE "x86/vmx/demo.c"
#endif

void start(void);
void start(void)
{
}

static const char *const facts[] = { "nonroot-behavior:cpuid", FACT, 0 };
static const struct need needs[] = {
	{ "VMX operation", start, 0, 0 },
	{ NEED, start, 1, 0 },
	{ 0, 0, 0, 0 },
};
#ifdef BAD_LIST
#define LIST ((const char *const *)0x10)
#else
#define LIST facts
#endif

#ifndef NO_CASES
static const struct record table[] __attribute__((section("cases"), used)) = {
	{ "first_case", LIST, needs, SOURCE, start, 0, 41, 0, 0 },
	{ NAME, (const char *const *)0, (const struct need *)0, SOURCE, start, 1, 57, 0, 0 },
	{ "third", facts + 1, needs + 1, SOURCE, start, 0, 63, 0, 0 },
};
#endif
#ifdef BAD_SIZE
static const char more[8] __attribute__((section("cases"), used)) = "1234567";
#endif
