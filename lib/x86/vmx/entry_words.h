/*
 * The words in which entry_rules*.def says when a rule is broken, and how to break it. For the
 * files that expand those tables.
 *
 * In a condition, `in` is the struct entry_input. How a rule is broken are statements on a `scene`:
 * they change its input from a valid base state. EACH(...) tries several values of `v`, one trial
 * each; TRIALS(mask) one for every bit of a mask.
 */
#ifndef VMX_ENTRY_WORDS_H
#define VMX_ENTRY_WORDS_H

#include "sdm/bits.h"
#include "sdm/msrs.h"
#include "vmx/entry_scene.h"

/* The value of a VMCS field; also to be assigned to. */
#define F(name)			(in->field[INDEX_##name])
#define IS(field, name)		entry_control(in, CONTROL_##field##_##name)
#define MAY_BE(field, name)	(in->cpu->caps.may_be_1[CONTROL_FIELD_##field] & \
				 control_bit(CONTROL_##field##_##name))
#define MISC(bit)		(in->cpu->caps.misc & BIT(bit))
#define BASIC(bit)		(in->cpu->caps.basic & BIT(bit))

/* The guest, by 29.3.1.2. */
#define IA32E			IS(ENTRY, IA_32E_MODE_GUEST)
#define V86			((F(GUEST_RFLAGS) & RFLAGS_VM) != 0)
#define UNRESTRICTED		IS(PROC2, UNRESTRICTED_GUEST)
#define WITH_EPT		IS(PROC2, ENABLE_EPT)
#define PAGED			((F(GUEST_CR0) & CR0_PG) != 0)
#define REAL_MODE		(!(F(GUEST_CR0) & CR0_PE))
#define RIGHTS(reg)		F(GUEST_##reg##_ACCESS_RIGHTS)
#define USABLE(reg)		(!(RIGHTS(reg) & RIGHTS_UNUSABLE))
#define TYPE(reg)		RIGHTS_TYPE(RIGHTS(reg))
#define DPL(reg)		RIGHTS_DPL(RIGHTS(reg))
#define RPL(reg)		(F(GUEST_##reg##_SELECTOR) & 3)
#define IS_TYPE(reg, ...)	(BIT(TYPE(reg)) & (__VA_ARGS__))

/* The event that the entry injects. */
#define INJECTS			(F(INJECTED_EVENT_IDENTIFICATION) & INJECTED_VALID)
#define EVENT_TYPE		FIELD(F(INJECTED_EVENT_IDENTIFICATION), 10, 8)
#define EVENT_VECTOR		FIELD(F(INJECTED_EVENT_IDENTIFICATION), 7, 0)
#define INJECTS_TYPE(type)	(INJECTS && EVENT_TYPE == EVENT_TYPE_##type)
/* Not an event: 29.6.2 Injection of Pending MTF VM Exits. */
#define INJECTS_MTF		(INJECTS_TYPE(OTHER) && !EVENT_VECTOR)

/* --- how to break a rule ---------------------------------------------------------- */

/* Trial number n, from 0. */
#define EACH(...)							\
	const u64 values_[] = { __VA_ARGS__ };				\
	scene->listed = true;						\
	if (n >= ARRAY_SIZE(values_))					\
		return entry_no_more;					\
	v = values_[n]
#define TRIALS(mask)							\
	scene->listed = true;						\
	if (!entry_nth_bit(mask, n))					\
		return n ? entry_no_more : "such a bit";		\
	v = entry_nth_bit(mask, n)
/* What the processor must be like; the words complete "needs ...". */
#define ONLY_IF(condition, words) do { if (!(condition)) return words; } while (0)
/* The base states from which the rule makes sense. */
#define ONLY(condition)		do { if (!(condition)) return entry_other_base; } while (0)

/* The processor in another state when it enters; only the imagined ones can be brought there. */
#define STATE(name, to)							\
	do {								\
		ONLY_IF(scene->imagined, "an entry with another " #name);\
		in->state.name = (to);					\
	} while (0)

#define ON(field, name)		entry_set_control(in, CONTROL_##field##_##name, true)
#define OFF(field, name)	entry_set_control(in, CONTROL_##field##_##name, false)
#define INJECT(type, vector)	(F(INJECTED_EVENT_IDENTIFICATION) = \
				 INJECTED_EVENT(EVENT_TYPE_##type, vector))
#define SET_TYPE(reg, type)	(RIGHTS(reg) = (RIGHTS(reg) & ~0xfull) | (type))
#define SET_DPL(reg, dpl)	(RIGHTS(reg) = (RIGHTS(reg) & ~BITS(6, 5)) | (u64)(dpl) << 5)
#define MAKE_USABLE(reg)	entry_make_usable(in, INDEX_GUEST_##reg##_SELECTOR)
#define POKE(offset, value)	scene->poke(scene, offset, value)
#define NOT_CANONICAL		BIT(in->cpu->linear_bits - 1), BIT(63)

#endif
