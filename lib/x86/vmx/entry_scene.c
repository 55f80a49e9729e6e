#include "vmx/entry_words.h"

const char entry_no_more[] = "no more trials", entry_other_base[] = "another base state";

/* Offsets in the groups of fields of ES, CS, SS, DS, FS, GS, LDTR, TR, which are in this order. */
#define SEGMENTS	8
enum { SEGMENT_LDTR_INDEX = 6, SEGMENT_TR_INDEX };

void entry_make_usable(struct entry_input *in, u32 selector_index)
{
	u32 i = selector_index - INDEX_GUEST_ES_SELECTOR;

	if (!(in->field[INDEX_GUEST_ES_ACCESS_RIGHTS + i] & RIGHTS_UNUSABLE))
		return;
	in->field[selector_index] = 0;
	in->field[INDEX_GUEST_ES_BASE + i] = 0;
	in->field[INDEX_GUEST_ES_LIMIT + i] = 0xfff;
	in->field[INDEX_GUEST_ES_ACCESS_RIGHTS + i] = i == SEGMENT_LDTR_INDEX ? 0x82 : 0x93;
}

u64 entry_nth_bit(u64 mask, u32 n)
{
	for (; mask; mask &= mask - 1)
		if (!n--)
			return mask & -mask;
	return 0;
}

/* Out of IA-32e mode: 32-bit code, a 32-bit TSS. RIP is beyond the limit of CS. */
static void make_legacy(struct entry_input *in)
{
	OFF(ENTRY, IA_32E_MODE_GUEST);
	F(GUEST_IA32_EFER) &= ~(EFER_LMA | EFER_LME);
	F(GUEST_CR4) &= ~(CR4_PCIDE | CR4_LA57 | CR4_FRED);
	RIGHTS(CS) = (RIGHTS(CS) & ~(RIGHTS_L | RIGHTS_G)) | RIGHTS_DB;
	F(GUEST_CS_LIMIT) = 0xfff;
	F(GUEST_RIP) = 0x1000;
	SET_TYPE(TR, 11);
}

/* 16-bit segments as in real-address mode: base = selector * 16. */
static void make_real_segments(struct entry_input *in, u64 rights)
{
	u32 i;

	for (i = 0; i < SEGMENT_LDTR_INDEX; i++) {
		in->field[INDEX_GUEST_ES_SELECTOR + i] = 0x1000;
		in->field[INDEX_GUEST_ES_BASE + i] = 0x10000;
		in->field[INDEX_GUEST_ES_LIMIT + i] = 0xffff;
		in->field[INDEX_GUEST_ES_ACCESS_RIGHTS + i] = rights;
	}
	F(GUEST_RIP) = 0x10000;
	F(GUEST_RSP) = 0xff00;
}

#define LEGACY_GUEST		make_legacy(in)
#define REAL_SEGMENTS(rights)	make_real_segments(in, rights)
#define UNRESTRICTED_EXISTS	(scene->ept_pointer && MAY_BE(PROC2, UNRESTRICTED_GUEST))

const char *entry_set_base(struct entry_scene *scene, enum entry_base base)
{
	struct entry_input *in = &scene->in;

	scene->base = base;
	/* Tables that map nothing. */
	F(GUEST_CR3) = scene->empty_page;
	switch (base) {
#define BASE_STATE(name, words, condition, ...)			\
	case BASE_##name:					\
		if (!(condition))				\
			return words;				\
		__VA_ARGS__;					\
		break;
#include "vmx/base_states.def"
#undef BASE_STATE
	case ENTRY_BASES:
		break;
	}
	return NULL;
}

const char *entry_base_words(enum entry_base base)
{
	switch (base) {
#define BASE_STATE(name, words, ...) case BASE_##name: return words;
#include "vmx/base_states.def"
#undef BASE_STATE
	case ENTRY_BASES:
		break;
	}
	return "?";
}
