/*
 * Memory-type range registers: 14.11. They are kept and checked as the processor would; the type of
 * memory of a guest is what the EPT says together with its PAT.
 */
#include "hv/internal.h"

#define MTRRCAP		0xfe
#define PHYSBASE0	0x200
#define DEF_TYPE	0x2ff
#define VARIABLE	8u	/* pairs */
#define FIXED		11u
/* 14.11.1: VCNT, fixed ranges, write combining. */
#define CAP		(VARIABLE | BIT(8) | BIT(10))

_Static_assert(HV_MTRRS == 2 * VARIABLE + FIXED + 1, "one value for each register");

static const u16 fixed[FIXED] = { 0x250, 0x258, 0x259, 0x268, 0x269, 0x26a, 0x26b, 0x26c, 0x26d,
				  0x26e, 0x26f };

/* The place in vcpu->mtrr: variable ranges, fixed ranges, default type; -1: none. */
static int number_of(u32 msr)
{
	u32 i;

	if (msr - PHYSBASE0 < 2 * VARIABLE)
		return msr - PHYSBASE0;
	for (i = 0; i < FIXED; i++)
		if (msr == fixed[i])
			return 2 * VARIABLE + i;
	return msr == DEF_TYPE ? (int)(2 * VARIABLE + FIXED) : -1;
}

/* Table 14-8. */
static bool is_type(u8 type)
{
	return type <= 6 && type != 2 && type != 3;
}

static bool are_types(u64 value)
{
	u32 shift;

	for (shift = 0; shift < 64; shift += 8)
		if (!is_type(value >> shift))
			return false;
	return true;
}

static bool is_legal(const struct hv_vcpu *vcpu, u32 number, u64 value)
{
	const u64 high = BITS(63, vcpu->widths.physical);

	if (number == 2 * VARIABLE + FIXED)
		return is_type(value) && !(value & (BITS(63, 12) | BITS(9, 8)));
	if (number >= 2 * VARIABLE)
		return are_types(value);
	if (number & 1)
		return !(value & (high | BITS(10, 0)));
	return is_type(value) && !(value & (high | BITS(11, 8)));
}

bool hv_is_mtrr(const struct hv_vcpu *vcpu, u32 msr)
{
	return (number_of(msr) >= 0 || msr == MTRRCAP) && hv_guest_has(vcpu, FEATURE_MTRR);
}

u64 hv_mtrr_get(const struct hv_vcpu *vcpu, u32 msr)
{
	return msr == MTRRCAP ? CAP : vcpu->mtrr[number_of(msr)];
}

bool hv_mtrr_set(struct hv_vcpu *vcpu, u32 msr, u64 value)
{
	if (msr == MTRRCAP || !is_legal(vcpu, number_of(msr), value))
		return false;
	vcpu->mtrr[number_of(msr)] = value;
	return true;
}
