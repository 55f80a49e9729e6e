#include "rehearsal/rehearsal.h"

#define F(name)			field_get(name)
#define IS(field, name)		control_on(CONTROL_##field##_##name)
#define LACKS(field, name)	(!IS(field, name))
#define INJECTED_TYPE		FIELD(F(INJECTED_EVENT_IDENTIFICATION), 10, 8)
#define INJECTED_VECTOR		FIELD(F(INJECTED_EVENT_IDENTIFICATION), 7, 0)
#define WIDE(address)		((address) >> vmx_pointer_width())
#define NOT_CANONICAL(address)	(!is_canonical(address))

/* 4.5 Canonicality Checking, to the width of CPUID.80000008H:EAX[15:8]. */
static bool is_canonical(u64 address)
{
	s64 upper = (s64)address >> (FIELD(rehearsed_cpuid(0x80000008, 0).eax, 15, 8) - 1);

	return !upper || upper == -1;
}

#define CHECK(name, section, stage, condition)					\
	static bool fails_##name(void)						\
	{									\
		return condition;						\
	}
#include "rehearsal/checks.def"

static const struct {
	bool (*fails)(void);
	enum check_stage stage;
	enum fault accepts;
} checks[] = {
#define CHECK(name, section, stage, condition)					\
	{ fails_##name, CHECK_##stage, FAULT_accepts_##name },
#include "rehearsal/checks.def"
};

enum check_stage checks_fail(void)
{
	enum check_stage first = CHECKS_PASSED;
	u32 i;

	for (i = 0; i < ARRAY_SIZE(checks); i++)
		if (checks[i].stage < first && !fault(checks[i].accepts) && checks[i].fails())
			first = checks[i].stage;
	if (first == CHECKS_PASSED && fault(FAULT_refuses_good_entries))
		return CHECK_CONTROLS;
	if (first == CHECKS_PASSED && fault(FAULT_refuses_good_guests))
		return CHECK_GUEST;
	if (first == CHECK_GUEST && fault(FAULT_takes_guests_for_controls))
		return CHECK_CONTROLS;
	return first;
}
