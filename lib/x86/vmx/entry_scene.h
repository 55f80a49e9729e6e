/*
 * A scene: the input of an entry that a rule is to be broken in, and the memory that goes with it.
 * The statements in entry_rules*.def change it: entry_words.h. No processor is needed.
 */
#ifndef VMX_ENTRY_SCENE_H
#define VMX_ENTRY_SCENE_H

#include "vmx/entry_model.h"

/* Valid states to start from: base_states.def. */
enum entry_base {
#define BASE_STATE(name, words, needs, ...) BASE_##name,
#include "vmx/base_states.def"
#undef BASE_STATE
	ENTRY_BASES,
};

struct entry_scene {
	struct entry_input in;
	enum entry_base base;
	u64 page;			/* physical address of 4 KBytes, all zero */
	u64 empty_page;			/* another, which stays so */
	u64 ept_pointer;		/* a valid one; 0: no EPT here */
	/* Writes 8 bytes into the page, at the end of which lies nothing. */
	void (*poke)(struct entry_scene *scene, u32 offset, u64 value);
	void *memory;
	bool imagined;			/* no processor executes the entry */
	bool listed;			/* the rule has a list of trials */
};

/* What a rule's statements return: NULL when done, these two, or what the processor must have. */
typedef const char *entry_trial(struct entry_scene *scene, u32 n);
extern const char entry_no_more[], entry_other_base[];

/*
 * Makes the scene that of a base state: changes its input, which must be that of
 * vmcs_set_defaults(). Returns NULL, or what the processor must have for it. The guest faults when
 * it fetches its first instruction: its paging structures are empty, and outside IA-32e mode RIP is
 * beyond the limit of CS.
 */
const char *entry_set_base(struct entry_scene *scene, enum entry_base base);
const char *entry_base_words(enum entry_base base);

/* A control; setting one of a field that must be activated does that, too. */
void entry_set_control(struct entry_input *in, enum control control, bool on);

/* A segment register of the guest as a usable one; LDTR as an LDT. */
void entry_make_usable(struct entry_input *in, u32 selector_index);

/* The bit number n, from 0, of those set in `mask`; 0: there are fewer. */
u64 entry_nth_bit(u64 mask, u32 n);

#endif
