/*
 * Families of rules, and words of more than one table of rules: for entry_rules_*.def, each of
 * which may be included alone.
 */
#ifndef VMX_ENTRY_FAMILIES_H
#define VMX_ENTRY_FAMILIES_H

#define CAPS			in->cpu->caps

/* Reserved bits of a field of controls: Appendix A.3 to A.5. */
#define MUST_BE_1(FIELD)	in->cpu->caps.must_be_1[CONTROL_FIELD_##FIELD]
#define UNSUPPORTED(FIELD)	(~in->cpu->caps.may_be_1[CONTROL_FIELD_##FIELD])
#define ENCODED(FIELD, name, fixed_id, unsupported_id, section_, ENCODING) \
RULE(ctl_##name##_default1_cleared, fixed_id, section_, CONTROL, \
     "bits that must be 1 are 1", (VMX), ~F(ENCODING) & MUST_BE_1(FIELD), \
     TRIALS(MUST_BE_1(FIELD)); F(ENCODING) &= ~v;) \
RULE(ctl_##name##_unsupported_set, unsupported_id, section_, CONTROL, \
     "bits that cannot be 1 are 0", (VMX), F(ENCODING) & UNSUPPORTED(FIELD), \
     TRIALS(UNSUPPORTED(FIELD) & BITS(31, 0)); F(ENCODING) |= v;)

/* A field that must hold a canonical address where `used` holds. */
#define CANONICAL(name, id, RULE_MACRO, FIELD_NAME, needs, used, ...) \
	RULE_MACRO(name, id, "a canonical address", needs, \
		   (used) && !entry_canonical(in, F(FIELD_NAME)), \
		   EACH(NOT_CANONICAL); __VA_ARGS__; F(FIELD_NAME) = v;)

/* A byte of IA32_PAT is one of 0, 1, 4, 5, 6, 7. */
#define PAT_BYTE(fields, byte)	FIELD(fields, 8 * (byte) + 7, 8 * (byte))
#define BAD_PAT(fields, byte) \
	(PAT_BYTE(fields, byte) > 7 || (PAT_BYTE(fields, byte) & 6) == 2)
#define SET_PAT(fields, byte, to) \
	((fields) = ((fields) & ~(0xffull << 8 * (byte))) | (to) << 8 * (byte))

#define SUPPRESS_AND_TRACKER	BITS(11, 10)

/* FRED MSRs, alike for host and guest; whether and how they are in use: CTL##_IS, CTL##_ON. */
#define FRED_BITS(who, WHO, MACRO, CTL, needs, name, what, FIELD_NAME, bits) \
	MACRO(who##_fred_##name##_##what, #who ".fred_" #name "." #what, \
	      "IA32_FRED_" #name ": reserved bits are 0", needs, \
	      CTL##_IS && F(WHO##_IA32_FRED_##FIELD_NAME) & (bits), \
	      TRIALS(bits); CTL##_ON; F(WHO##_IA32_FRED_##FIELD_NAME) = v;)
#define FRED_CANONICAL(who, WHO, MACRO, CTL, needs, name, FIELD_NAME) \
	MACRO(who##_fred_##name##_canonical, #who ".fred_" #name ".canonical", \
	      "a canonical address", needs, \
	      CTL##_IS && !entry_canonical(in, F(WHO##_IA32_FRED_##FIELD_NAME)), \
	      EACH(NOT_CANONICAL); CTL##_ON; F(WHO##_IA32_FRED_##FIELD_NAME) = v;)
#define FRED_ADDRESS(who, WHO, MACRO, CTL, needs, name, FIELD_NAME, bits) \
	FRED_BITS(who, WHO, MACRO, CTL, needs, name, align, FIELD_NAME, bits) \
	FRED_CANONICAL(who, WHO, MACRO, CTL, needs, name, FIELD_NAME)
#define FRED_MSRS(who, WHO, MACRO, CTL, needs) \
	FRED_BITS(who, WHO, MACRO, CTL, needs, config, bit2, CONFIG, BIT(2)) \
	FRED_BITS(who, WHO, MACRO, CTL, needs, config, bit4, CONFIG, BIT(4)) \
	FRED_BITS(who, WHO, MACRO, CTL, needs, config, bit5, CONFIG, BIT(5)) \
	FRED_BITS(who, WHO, MACRO, CTL, needs, config, bit11, CONFIG, BIT(11)) \
	FRED_CANONICAL(who, WHO, MACRO, CTL, needs, config, CONFIG) \
	FRED_ADDRESS(who, WHO, MACRO, CTL, needs, rsp1, RSP1, BITS(5, 0)) \
	FRED_ADDRESS(who, WHO, MACRO, CTL, needs, rsp2, RSP2, BITS(5, 0)) \
	FRED_ADDRESS(who, WHO, MACRO, CTL, needs, rsp3, RSP3, BITS(5, 0)) \
	FRED_ADDRESS(who, WHO, MACRO, CTL, needs, ssp1, SSP1, BITS(2, 0)) \
	FRED_ADDRESS(who, WHO, MACRO, CTL, needs, ssp2, SSP2, BITS(2, 0)) \
	FRED_ADDRESS(who, WHO, MACRO, CTL, needs, ssp3, SSP3, BITS(2, 0))

/* Elsewhere it is a reserved bit, and the guest will have no FRED transitions. */
#define FRED_GUEST	(in->cpu->fred && F(GUEST_CR4) & CR4_FRED)
/* CPUID alone does not say that VMX operation lets CR4.FRED be 1: Appendix A.8. */
#define FRED_IN_VMX	ONLY_IF(CAPS.cr4_fixed1 & CR4_FRED, "CR4.FRED in VMX operation")
#define SET_GUEST_FRED	do { FRED_IN_VMX; F(GUEST_CR4) |= CR4_FRED; } while (0)

#define SELECTOR_OF(reg)	F(GUEST_##reg##_SELECTOR)
#define BASE_OF(reg)		F(GUEST_##reg##_BASE)
#define LIMIT_OF(reg)		F(GUEST_##reg##_LIMIT)
/* The guest at another privilege level. */
#define TO_CPL(cpl) do { \
	SET_DPL(CS, cpl); SET_DPL(SS, cpl); SELECTOR_OF(CS) |= (cpl); SELECTOR_OF(SS) |= (cpl); \
	RIGHTS(DS) = RIGHTS_UNUSABLE; RIGHTS(ES) = RIGHTS_UNUSABLE; } while (0)

#endif
