#include "platform.h"
#include "string.h"
#include "tree.h"
#include "rehearsal/rehearsal.h"

static const char *const names[FAULTS] = {
#define FAULT(name, words) #name,
#include "rehearsal/faults.def"
#define CHECK(name, ...) "accepts_" #name,
#include "rehearsal/checks.def"
#define PRETEND_STATE(msr, ...)							\
	"ignores_" #msr "_at_entry", "forgets_" #msr, "keeps_" #msr "_at_exit",
#include "rehearsal/processor.def"
};

static bool wrong[FAULTS];

/* The text of exitpath,fault; NULL: there is none. */
static const char *wanted;

/* How many cases have run since the boot, but for the one that runs now. */
static u32 cases_before;

bool fault(enum fault fault)
{
	return wrong[fault];
}

/* --- what is wanted -------------------------------------------------------------------------- */

/* A glob of letters and `*`, which ends with a blank or the text. */
static bool matches(const char *glob, const char *name)
{
	if (*glob == '*')
		return matches(glob + 1, name) || (*name && matches(glob, name + 1));
	if (!*glob || *glob == ' ')
		return !*name;
	return *glob == *name && matches(glob + 1, name + 1);
}

/* False: there is no such fault. */
static bool choose(const char *glob)
{
	bool found = false;
	u32 i;

	for (i = 0; i < FAULTS; i++)
		if (matches(glob, names[i]))
			found = wrong[i] = true;
	return found;
}

/* "N=" before a glob: the number of the case, from 1, for which it is; 0: for all. */
static const char *skip_number(const char *word, u32 *number)
{
	const char *p;

	*number = 0;
	for (p = word; *p >= '0' && *p <= '9'; p++)
		*number = 10 * *number + *p - '0';
	return *p == '=' ? p + 1 : word;
}

/* For case number `running`, 0: for any. False: a fault is asked for that there is not. */
static bool choose_for(u32 running)
{
	const char *word = wanted, *glob;
	bool all_known = true;
	u32 number;

	memset(wrong, 0, sizeof(wrong));
	while (word && *word) {
		glob = skip_number(word, &number);
		if (*glob != ' ' && (!running || !number || number == running))
			all_known &= choose(glob);
		for (; *word && *word != ' '; word++)
			;
		word += *word == ' ';
	}
	return all_known;
}

/* --- between the library's functions --------------------------------------------------------- */

const char *__real_platform_read(struct platform *platform, const void *blob);
const char *__wrap_platform_read(struct platform *platform, const void *blob);
bool __real_trap_guarded(void (*run)(void));
bool __wrap_trap_guarded(void (*run)(void));

/* Before platform_read(), which knows nothing of faults. */
const char *__wrap_platform_read(struct platform *platform, const void *blob)
{
	static struct tree tree;
	const char *problem;
	u32 size;

	if (!tree_open(&tree, blob)) {
		wanted = tree_property(&tree, tree_find(&tree, TREE_ROOT, "chosen"),
				       "exitpath,fault", &size);
		if (wanted && (!size || wanted[size - 1]))
			wanted = NULL;
	}
	problem = __real_platform_read(platform, blob);
	if (!problem && !choose_for(0))
		problem = "exitpath,fault: the pretended processor has no such fault";
	return problem;
}

/* Around each case. */
bool __wrap_trap_guarded(void (*run)(void))
{
	const struct platform *platform = this_platform();
	u32 n = cases_before++;

	choose_for(platform->case_count ? platform->cases[n] : n + 1);
	return __real_trap_guarded(run);
}
