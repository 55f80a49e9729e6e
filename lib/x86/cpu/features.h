/*
 * What CPUID says of this processor, by name: as a question in code, feature(FEATURE_SMEP), and as
 * a need of a case, NEEDS(CPU(SMEP)) or NEEDS(NO_CPU(SMEP)).
 */
#ifndef CPU_FEATURES_H
#define CPU_FEATURES_H

#include "case.h"
#include "types.h"

enum feature {
#define FEATURE(name, leaf, subleaf, reg, bit, words) FEATURE_##name,
#include "sdm/features.def"
#undef FEATURE
	FEATURE_COUNT
};

/* Whether CPUID reports the feature now: some bits follow control registers. */
bool feature(enum feature feature);

/* Where CPUID reports it; `reg` 0 to 3: EAX to EDX. */
struct feature_place {
	u32 leaf, subleaf, reg, bit;
};
struct feature_place feature_place(enum feature feature);

/* "SMEP (supervisor-mode execution prevention)". */
const char *feature_words(char *to, size_t size, enum feature feature);

/*
 * MAXPHYADDR, 32 to 52: 5.1.4 Enumeration of Paging Features by CPUID. Bits 51:MAXPHYADDR of a
 * paging-structure entry are reserved.
 */
u32 maxphyaddr(void);

/* Whether the vendor is "GenuineIntel": the manual speaks of no other processor. */
bool vendor_is_intel(void);

bool need_feature(u64 feature);
bool need_no_feature(u64 feature);
bool need_reserved_address_bits(u64 unused);
bool need_leaf(u64 leaf);
bool need_intel(u64 unused);

#define CPU(name)		{ "CPUID feature " #name, need_feature, FEATURE_##name, 0 }
#define NO_CPU(name)		{ "no CPUID feature " #name, need_no_feature, FEATURE_##name, 0 }
#define CPUID_LEAF(leaf)	{ "CPUID leaf " #leaf, need_leaf, leaf, 0 }
#define RESERVED_ADDRESS_BITS	{ "MAXPHYADDR below 52", need_reserved_address_bits, 0, 0 }
#define INTEL			{ "a processor of Intel", need_intel, 0, 0 }

#endif
