#include "string.h"
#include "rehearsal/rehearsal.h"

#define NOBODY_WROTE	0xa5a5a5a5a5a5a5a5ull	/* what a field has that nobody has initialized */

/* By vmcs_index: the bits that are pretended, and what they are. */
static u64 pretended[VMCS_FIELDS], kept[VMCS_FIELDS];
static bool fields_known;
static bool exit_is_ours, exit_is_new;

static const struct {
	u16 encoding;
	u8 type, width;
} fields[VMCS_FIELDS] = {
#define VMCS_FIELD(encoding, name, lower, width, type, exists)			\
	{ encoding, VMCS_FIELD_##type, (width) ? (width) : 64 },
#include "sdm/vmcs_fields.def"
#undef VMCS_FIELD
};

/* --- which field is whose -------------------------------------------------------------------- */

/* Index by encoding: width, type and number (27.11.2), of which no field has one above 63. */
static u8 indices[1024];
#define NO_INDEX	0xff
_Static_assert(VMCS_FIELDS < NO_INDEX, "an index is a byte");

static u32 place(u32 encoding)
{
	return VMCS_FIELD_WIDTH(encoding) << 8 | VMCS_FIELD_TYPE(encoding) << 6 |
	       FIELD(encoding, 6, 1);
}

/* VMCS_FIELDS for an encoding of none, or of the high half of one. */
static u32 index_of(u32 encoding)
{
	u32 index = indices[place(encoding)];

	return index < VMCS_FIELDS && fields[index].encoding == encoding ? index : VMCS_FIELDS;
}

/* Without what is pretended. */
static bool really_allowed(enum control control)
{
	enum control_field field = control_field(control);
	const struct control_source *source = control_field_source(field);

	return capability_is_real(source->msr) &&
	       capabilities()->may_be_1[field] & ~pretended_controls(field) & control_bit(control);
}

/* A field that exists by what is pretended, and not without it, is pretended as a whole. */
static bool is_pretended(u32 encoding)
{
#define ALWAYS			true
#define ALLOWED(field, control)	really_allowed(CONTROL_##field##_##control)
#define CR3_TARGETS(count)	true
	switch (encoding) {
#define VMCS_FIELD(encoding, name, lower, width, type, exists)			\
	case encoding: return !(exists) && vmcs_field_exists(encoding);
#include "sdm/vmcs_fields.def"
#undef VMCS_FIELD
	}
	return false;
}

static void find_fields(void)
{
	u32 i;

	fields_known = true;
	memset(indices, NO_INDEX, sizeof(indices));
	for (i = 0; i < VMCS_FIELDS; i++) {
		indices[place(fields[i].encoding)] = i;
		if (is_pretended(fields[i].encoding))
			pretended[i] = ~0ull;
	}
#define PRETEND_FIELD_BITS(name, bits) pretended[INDEX_##name] |= (bits);
#include "rehearsal/processor.def"
	for (i = 0; i < CONTROL_FIELDS; i++)
		pretended[index_of(control_field_encoding(i))] |= pretended_controls(i);
}

static u32 pretended_index(u32 encoding)
{
	u32 index;

	if (!fields_known)
		find_fields();
	index = index_of(encoding);
	return index < VMCS_FIELDS && pretended[index] ? index : VMCS_FIELDS;
}

/* The one that no exit writes, but VMfail. */
static bool of_exits(u32 index)
{
	return fields[index].type == VMCS_FIELD_EXIT_INFO && index != INDEX_VM_INSTRUCTION_ERROR;
}

/* Fields that are pretended anyhow stay so. */
static void pretend_exit_information(bool on)
{
	u32 i;

	exit_is_ours = on;
	for (i = 0; i < VMCS_FIELDS; i++)
		if (of_exits(i) && !is_pretended(fields[i].encoding))
			pretended[i] = on ? ~0ull : 0;
}

void fields_reset(void)
{
	u32 i;

	if (!fields_known)
		find_fields();
	/* Else the real processor refuses it, also in 32-bit code, where nothing is in between. */
	pretended[INDEX_HOST_CR4] = fault(FAULT_accepts_host_space32_fred) ? CR4_FRED : 0;
	for (i = 0; i < VMCS_FIELDS; i++)
		kept[i] = pretended[i] == ~0ull ?
			  NOBODY_WROTE & BITS(fields[i].width - 1, 0) : 0;
	pretend_exit_information(false);
}

/* --- VMREAD and VMWRITE ---------------------------------------------------------------------- */

u64 rehearsed_vmread_known(u64 encoding)
{
	u32 i = pretended_index(encoding);

	if (i == VMCS_FIELDS)
		return vmread_known(encoding);
	if (pretended[i] == ~0ull)
		return kept[i];
	return (vmread_known(encoding) & ~pretended[i]) | kept[i];
}

void rehearsed_vmwrite_known(u64 encoding, u64 value)
{
	u32 i = pretended_index(encoding);

	if (i == VMCS_FIELDS) {
		vmwrite_known(encoding, value);
		return;
	}
	kept[i] = value & pretended[i] & BITS(fields[i].width - 1, 0);
	if (pretended[i] != ~0ull)
		vmwrite_known(encoding, value & ~pretended[i]);
}

/* Whether there is a VMCS to access at all is known to the real processor. */
static outcome_t access_real_vmcs(void)
{
	u64 value = 0;

	return vmread_outcome(GUEST_RIP, &value);
}

outcome_t rehearsed_vmread(u64 encoding, u64 *value)
{
	outcome_t outcome;

	if (pretended_index(encoding) == VMCS_FIELDS)
		return vmread_outcome(encoding, value);
	outcome = access_real_vmcs();
	if (outcome == OUTCOME_DONE)
		*value = rehearsed_vmread_known(encoding);
	return outcome;
}

outcome_t rehearsed_vmwrite(u64 encoding, u64 value)
{
	outcome_t outcome;

	if (pretended_index(encoding) == VMCS_FIELDS)
		return vmwrite_outcome(encoding, value);
	outcome = access_real_vmcs();
	if (outcome == OUTCOME_DONE)
		rehearsed_vmwrite_known(encoding, value);
	return outcome;
}

outcome_t rehearsed_vmxon(u64 pointer)
{
	fields_reset();
	return vmxon(pointer);
}

u64 field_get(u32 field)
{
	return rehearsed_vmread_known(field);
}

void field_put(u32 field, u64 value)
{
	rehearsed_vmwrite_known(field, value);
}

bool control_on(enum control control)
{
	enum control activation = control_field_activation(control_field(control));

	if (activation != CONTROL_NONE && !control_on(activation))
		return false;
	return field_get(control_field_encoding(control_field(control))) & control_bit(control);
}

/* --- exit information ------------------------------------------------------------------------ */

void exit_begin(u32 reason)
{
	u32 i;

	exit_is_new = true;
	pretend_exit_information(true);
	for (i = 0; i < VMCS_FIELDS; i++)
		if (of_exits(i))
			kept[i] = 0;
	exit_information(EXIT_REASON, reason);
}

void exit_information(u32 field, u64 value)
{
	kept[index_of(field)] = value;
}

void exit_settle(void)
{
	if (exit_is_ours && !exit_is_new)
		pretend_exit_information(false);
	exit_is_new = false;
}
