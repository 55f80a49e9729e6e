/* What the guest's processor may be told not to have: the library's tables as a list of names. */
#include "capabilities.h"

#include <ctype.h>
#include <string.h>
#include <strings.h>

#include "sdm/msrs.h"

/* --- the list ----------------------------------------------------------------------------- */

/* Appendix A: the MSR to change, that of the same without TRUE, the first bit. */
#define MSRS_PIN	IA32_VMX_TRUE_PINBASED_CTLS, IA32_VMX_PINBASED_CTLS, 32
#define MSRS_PROC1	IA32_VMX_TRUE_PROCBASED_CTLS, IA32_VMX_PROCBASED_CTLS, 32
#define MSRS_PROC2	IA32_VMX_PROCBASED_CTLS2, 0, 32
#define MSRS_PROC3	IA32_VMX_PROCBASED_CTLS3, 0, 0
#define MSRS_EXIT	IA32_VMX_TRUE_EXIT_CTLS, IA32_VMX_EXIT_CTLS, 32
#define MSRS_EXIT2	IA32_VMX_EXIT_CTLS2, 0, 0
#define MSRS_ENTRY	IA32_VMX_TRUE_ENTRY_CTLS, IA32_VMX_ENTRY_CTLS, 32
#define MSRS_VMFUNC	IA32_VMX_VMFUNC, 0, 0
#define MSRS_BASIC	IA32_VMX_BASIC, 0, 0
#define MSRS_MISC	IA32_VMX_MISC, 0, 0
#define MSRS_EPT	IA32_VMX_EPT_VPID_CAP, 0, 0
#define MSRS_VPID	IA32_VMX_EPT_VPID_CAP, 0, 0

#define IS_DEFAULT0	false
#define IS_DEFAULT1	true

#define ENTRY(group, number, name_, words_, msrs, is_default1_) \
	ENTRY_(group, number, name_, words_, msrs, is_default1_)
#define ENTRY_(group, number, name_, words_, msr_, plain_, first, is_default1_)	\
	{ #group "_" #name_, &(#group "_" #name_)[sizeof(#group)], words_, msr_, plain_,	\
	  (first) + (number), is_default1_ },

static const struct capability list[] = {
#define CONTROL(field, number, name, lower, default_class, words) \
	ENTRY(field, number, name, words, MSRS_##field, IS_##default_class)
#include "sdm/controls.def"
#define CAPABILITY(group, number, name, needs, words) \
	ENTRY(group, number, name, words, MSRS_##group, false)
#include "sdm/capability_bits.def"
};

enum { COUNT = sizeof(list) / sizeof(list[0]) };
_Static_assert((int)COUNT <= (int)CAPABILITIES_MAX, "more room in struct capability_set");

/* Of each, the number in `list`. */
enum number {
#define CONTROL(field, number, name, lower, default_class, words) field##_##name,
#include "sdm/controls.def"
#define CAPABILITY(group, number, name, needs, words) group##_##name,
#include "sdm/capability_bits.def"
	NONE,
};
_Static_assert((int)NONE == (int)COUNT, "both are made from the same tables");

const struct capability *capability(size_t number)
{
	return number < COUNT ? &list[number] : NULL;
}

/* --- what is nothing without another --------------------------------------------------------- */

#define REQUIRES true
#define EXCLUDES false

static const struct {
	enum number one, other;
	bool requires;
} rules[] = {
#define CONTROL_RULE(field, name, kind, other_field, other_name) \
	{ field##_##name, other_field##_##other_name, kind },
#include "sdm/control_rules.def"
#define CAPABILITY(group, number, name, needs, words) { group##_##name, needs, true },
#include "sdm/capability_bits.def"
	/* A.6 Miscellaneous Data: who has the control has the bit. */
	{ PROC2_UNRESTRICTED_GUEST, MISC_STORE_LMA, true },
	/* 36.5.1 VMX-Specific Packets and VMCS Controls. */
	{ PROC2_CONCEAL_VMX_FROM_PT, MISC_PROCESSOR_TRACE, true },
	{ EXIT_CONCEAL_VMX_FROM_PT, MISC_PROCESSOR_TRACE, true },
	{ ENTRY_CONCEAL_VMX_FROM_PT, MISC_PROCESSOR_TRACE, true },
	/* Fields that a control announces: 27.6.2 Processor-Based VM-Execution Controls, 27.7.1. */
#define ACTIVATES_PIN(name)
#define ACTIVATES_PROC1(name)
#define ACTIVATES_PROC2(name)	{ PROC2_##name, PROC1_ACTIVATE_SECONDARY_CONTROLS, true },
#define ACTIVATES_PROC3(name)	{ PROC3_##name, PROC1_ACTIVATE_TERTIARY_CONTROLS, true },
#define ACTIVATES_EXIT(name)
#define ACTIVATES_EXIT2(name)	{ EXIT2_##name, EXIT_ACTIVATE_SECONDARY_CONTROLS, true },
#define ACTIVATES_ENTRY(name)
#define ACTIVATES_VMFUNC(name)	{ VMFUNC_##name, PROC2_ENABLE_VM_FUNCTIONS, true },
#define CONTROL(field, number, name, lower, default_class, words) ACTIVATES_##field(name)
#include "sdm/controls.def"
};

/* Adds to `hidden` all that is nothing without what is in it. */
static void close_set(bool *hidden)
{
	bool more = true;

	while (more) {
		more = false;
		for (size_t i = 0; i < sizeof(rules) / sizeof(rules[0]); i++) {
			if (!rules[i].requires || rules[i].other == NONE ||
			    !hidden[rules[i].other] || hidden[rules[i].one])
				continue;
			hidden[rules[i].one] = more = true;
		}
	}
}

/* --- names --------------------------------------------------------------------------------- */

static bool is_name(const char *name, const char *word, size_t size)
{
	return strlen(name) == size && strncasecmp(name, word, size) == 0;
}

/* How many of `numbers` the word means: 1 for a name in full. */
static size_t find(const char *word, size_t size, size_t *numbers)
{
	size_t count = 0;

	for (size_t i = 0; i < COUNT; i++) {
		if (is_name(list[i].name, word, size)) {
			numbers[0] = i;
			return 1;
		}
		if (is_name(list[i].short_name, word, size))
			numbers[count++] = i;
	}
	return count;
}

static size_t smaller(size_t a, size_t b)
{
	return a < b ? a : b;
}

enum { WORD_MAX = 64 };

/* How many characters to change, add or leave out to make one of the other; case does not count. */
static size_t distance(const char *name, const char *word, size_t size)
{
	const size_t length = strlen(name);
	size_t row[WORD_MAX + 1];

	for (size_t i = 0; i <= size; i++)
		row[i] = i;
	for (size_t at = 0; at < length; at++) {
		size_t diagonal = row[0];

		row[0] = at + 1;
		for (size_t i = 0; i < size; i++) {
			const bool same = toupper((unsigned char)word[i]) == name[at];
			const size_t replaced = diagonal + !same;

			diagonal = row[i + 1];
			row[i + 1] = smaller(smaller(row[i], row[i + 1]) + 1, replaced);
		}
	}
	return row[size];
}

/* How far a name is from a word: one that contains it is nearest. */
static size_t farness(const char *name, const char *word)
{
	return strcasestr(name, word) ? 0 : distance(name, word, strlen(word));
}

/* The names that are nearest to a word that is none. */
static void suggest(const char *word, struct text *error)
{
	enum { NEAREST = 4 };
	bool taken[COUNT] = { false };

	for (unsigned int n = 0; n < NEAREST; n++) {
		size_t best = 0, best_distance = SIZE_MAX;

		for (size_t i = 0; i < COUNT; i++) {
			const size_t far = smaller(farness(list[i].name, word),
						   farness(list[i].short_name, word));

			if (taken[i] || far >= best_distance)
				continue;
			best = i;
			best_distance = far;
		}
		taken[best] = true;
		text_print(error, "%s%s", n ? ", " : "", list[best].name);
	}
}

static int add_word(struct capability_set *set, const char *word, size_t size, struct text *error)
{
	char name[WORD_MAX + 1] = "";
	size_t numbers[COUNT], count;

	if (!size || size > WORD_MAX) {
		text_print(error, size ? "no name is longer than %u characters"
				       : "a name is empty; put commas between names",
			   (unsigned int)WORD_MAX);
		return -1;
	}
	memcpy(name, word, size);
	count = find(word, size, numbers);
	if (count == 1) {
		if (list[numbers[0]].is_default1) {
			text_print(error,
				   "%s cannot be hidden: every processor has it; leave it out",
				   list[numbers[0]].name);
			return -1;
		}
		set->named[numbers[0]] = true;
		return 0;
	}
	if (count) {
		text_print(error, "'%s' is the name of several; say which: ", name);
		for (size_t i = 0; i < count; i++)
			text_print(error, "%s%s", i ? ", " : "", list[numbers[i]].name);
	} else {
		text_print(error, "there is no capability '%s'; the nearest are ", name);
		suggest(name, error);
		text_print(error, "; --without help lists all");
	}
	return -1;
}

int capability_set_parse(struct capability_set *set, const char *names, struct text *error)
{
	memset(set, 0, sizeof(*set));
	for (;;) {
		const size_t size = strcspn(names, ",");

		if (add_word(set, names, size, error))
			return -1;
		if (!names[size])
			break;
		names += size + 1;
	}
	memcpy(set->hidden, set->named, sizeof(set->hidden));
	close_set(set->hidden);
	return 0;
}

void capability_set_print(const struct capability_set *set, struct text *to)
{
	bool first = true;

	for (size_t i = 0; i < COUNT; i++) {
		bool others[CAPABILITIES_MAX];

		if (!set->named[i])
			continue;
		memcpy(others, set->named, sizeof(others));
		others[i] = false;
		close_set(others);
		if (others[i])
			continue;
		text_print(to, "%s%s", first ? "" : ",", list[i].name);
		first = false;
	}
}
