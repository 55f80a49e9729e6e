#include "cpu/cpu.h"
#include "cpu/safe.h"
#include "string.h"
#include "vmx/exit_reader.h"
#include "vmx/exit_words.h"
#include "vmx/vmcs.h"

#define ALWAYS			true
#define ALLOWED(field, control)	control_allowed(CONTROL_##field##_##control)

static const struct {
	u16 encoding;
	u8 type;
} fields[VMCS_FIELDS] = {
#define VMCS_FIELD(encoding, name, lower, width, type, exists) \
	{ encoding, VMCS_FIELD_##type },
#include "sdm/vmcs_fields.def"
#undef VMCS_FIELD
};

static const struct {
	u32 msr;			/* 0: not an MSR */
} registers[EXIT_REGISTERS] = {
#define EXIT_REGISTER(name, words)		{ 0 },
#define EXIT_MSR(name, words, index, when)	{ index },
#include "vmx/exit_registers.def"
#undef EXIT_REGISTER
#undef EXIT_MSR
};

/* What this processor has, found once. */
static struct {
	bool known;
	u64 registers;			/* bit = enum exit_register */
	u64 has_field[EXIT_FIELD_WORDS];
	u16 fields[VMCS_FIELDS];	/* their indices */
	u32 field_count;
} cpu;

const char *exit_field_name(u32 index)
{
	return vmcs_field_name(fields[index].encoding);
}

static u64 read_field(u32 index)
{
	return vmread_known(fields[index].encoding);
}

static void find_registers(void)
{
	u64 value;

#define EXIT_REGISTER(name, words) cpu.registers |= BIT(EXIT_REGISTER_##name);
#define EXIT_MSR(name, words, index, when)					\
	if ((when) && rdmsr_safe(index, &value) == OUTCOME_DONE)		\
		cpu.registers |= BIT(EXIT_REGISTER_##name);
#include "vmx/exit_registers.def"
#undef EXIT_REGISTER
#undef EXIT_MSR
}

static void find_cpu(void)
{
	u64 value = 0;
	u32 i;

	cpu.known = true;
	find_registers();
	for (i = 0; i < VMCS_FIELDS; i++) {
		if (!vmcs_field_exists(fields[i].encoding) ||
		    vmread_outcome(fields[i].encoding, &value) != OUTCOME_DONE)
			continue;
		cpu.has_field[i / 64] |= BIT(i % 64);
		cpu.fields[cpu.field_count++] = i;
	}
}

static void read_registers(u64 *r)
{
	struct table_pointer gdtr = read_gdtr(), idtr = read_idtr();
	u32 i;

	r[EXIT_REGISTER_CR0] = read_cr0();
	r[EXIT_REGISTER_CR3] = read_cr3();
	r[EXIT_REGISTER_CR4] = read_cr4();
	r[EXIT_REGISTER_DR7] = read_dr7();
	r[EXIT_REGISTER_CS] = read_cs();
	r[EXIT_REGISTER_SS] = read_ss();
	r[EXIT_REGISTER_DS] = read_ds();
	r[EXIT_REGISTER_ES] = read_es();
	r[EXIT_REGISTER_FS] = read_fs();
	r[EXIT_REGISTER_GS] = read_gs();
	r[EXIT_REGISTER_TR] = read_tr();
	r[EXIT_REGISTER_LDTR] = read_ldtr();
	r[EXIT_REGISTER_GDTR_BASE] = gdtr.base;
	r[EXIT_REGISTER_GDTR_LIMIT] = gdtr.limit;
	r[EXIT_REGISTER_IDTR_BASE] = idtr.base;
	r[EXIT_REGISTER_IDTR_LIMIT] = idtr.limit;
	for (i = EXIT_REGISTER_FS_BASE; i < EXIT_REGISTERS; i++)
		if (cpu.registers & BIT(i))
			r[i] = rdmsr(registers[i].msr);
}

/* --- lists of MSRs ---------------------------------------------------------------------- */

/* Of which only one VMCS is current at a time. */
static struct exit_listed_msr entry_load[EXIT_MAX_LISTED], store[EXIT_MAX_LISTED],
	load[EXIT_MAX_LISTED];

/* One entry; false where nobody knows what is at its address. */
static bool read_entry(const struct entry_input *in, u64 address, u64 *index, u64 *value)
{
	return in->read(in->memory, address, 8, index) &&
	       in->read(in->memory, address + 8, 8, value);
}

static bool read_listed(u64 index, u64 *value)
{
	return !(index >> 32) && rdmsr_safe(index, value) == OUTCOME_DONE;
}

/* What a stored MSR is before the entry counts, for some count on. */
static void read_list_before(const struct exit_input *x, struct exit_list *list,
			     struct exit_listed_msr *kept, u64 address, u64 listed)
{
	struct exit_listed_msr *msr;
	u32 i;

	*list = (struct exit_list){ .listed = listed, .msr = kept };
	for (i = 0; i < listed && i < EXIT_MAX_LISTED; i++) {
		msr = &kept[i];
		if (!read_entry(x->entry, address + 16 * i, &msr->index_before,
				&msr->value_before))
			return;
		msr->readable = kept != store || read_listed(msr->index_before, &msr->had);
		list->count++;
	}
}

static void read_list_after(const struct exit_input *x, struct exit_list *list, u64 address)
{
	struct exit_listed_msr *msr;
	u32 i;

	for (i = 0; i < list->count; i++) {
		msr = &list->msr[i];
		read_entry(x->entry, address + 16 * i, &msr->index, &msr->value);
		msr->readable = msr->readable && read_listed(msr->index, &msr->now);
	}
}

#define LIST_BEFORE(name, FIELD)						\
	read_list_before(x, &x->name, name, entry->field[INDEX_##FIELD##_ADDRESS],	\
			 entry->field[INDEX_##FIELD##_COUNT])

/* --- before and after ----------------------------------------------------------------------- */

/* What the rules of 30.5 look at in the VMCS. */
static bool is_for_host_state(u32 index)
{
	switch (index) {
	case INDEX_PRIMARY_VM_EXIT_CONTROLS:
	case INDEX_SECONDARY_VM_EXIT_CONTROLS:
	case INDEX_VM_EXIT_MSR_LOAD_ADDRESS:
	case INDEX_VM_EXIT_MSR_LOAD_COUNT:
		return true;
	}
	return fields[index].type == VMCS_FIELD_HOST;
}

void exit_read_before(struct exit_input *x, struct entry_input *entry)
{
	u32 i, index;

	if (!cpu.known)
		find_cpu();
	x->entry = entry;
	x->exists = cpu.registers;
	memcpy(x->has_field, cpu.has_field, sizeof(x->has_field));
	for (i = 0; i < cpu.field_count; i++) {
		index = cpu.fields[i];
		if (x->host_only ? is_for_host_state(index) :
		    fields[index].type == VMCS_FIELD_EXIT_INFO)
			entry->field[index] = read_field(index);
	}
	read_registers(x->before);
	LIST_BEFORE(load, VM_EXIT_MSR_LOAD);
	if (x->host_only)
		return;
	LIST_BEFORE(entry_load, VM_ENTRY_MSR_LOAD);
	LIST_BEFORE(store, VM_EXIT_MSR_STORE);
}

/*
 * Where the guest has the paging structures that the host has, and no EPT, the host reads what the
 * guest has executed. Not from the next page: to read there could fault, or set an accessed flag.
 */
static void read_code(struct exit_input *x)
{
	u64 rip = x->field[INDEX_GUEST_RIP], cr2 = read_cr2();
	u64 left = PAGE_SIZE - rip % PAGE_SIZE;
	u32 size = left < INSTRUCTION_BYTES ? left : INSTRUCTION_BYTES;
	u64 from = rip, to = (u64)x->code, count = size;
	const struct entry_input *in = x->entry;

	x->code_bytes = 0;
	memset(x->code, 0, sizeof(x->code));
	if (!exit_code_matters(x) || IS(PROC2, ENABLE_EPT) ||
	    (NOW(GUEST_CR3) ^ x->after[EXIT_REGISTER_CR3]) & BITS(51, 12) ||
	    (NOW(GUEST_CR4) ^ x->after[EXIT_REGISTER_CR4]) & CR4_LA57)
		return;
	/* It may be there no more. */
	if (ATTEMPT("rep movsb", "+S" (from), "+D" (to), "+c" (count) : : "memory") == OUTCOME_DONE)
		x->code_bytes = size;
	else
		write_cr2(cr2);
}

void exit_read_after(struct exit_input *x, outcome_t outcome, u64 rflags, u64 rsp)
{
	enum outcome_kind kind = outcome_kind(outcome);
	bool vmfail = kind != OUTCOME_KIND_EXIT && kind != OUTCOME_KIND_ENTRY_FAILURE;
	u32 i;

	x->outcome = outcome;
	read_registers(x->after);
	x->after[EXIT_REGISTER_RFLAGS] = rflags;
	x->after[EXIT_REGISTER_RSP] = rsp;
	x->field[INDEX_HOST_RSP] = read_field(INDEX_HOST_RSP);
	if (!vmfail)
		read_list_after(x, &x->load, x->entry->field[INDEX_VM_EXIT_MSR_LOAD_ADDRESS]);
	if (x->host_only)
		return;
	for (i = 0; i < cpu.field_count; i++)
		x->field[cpu.fields[i]] = read_field(cpu.fields[i]);
	read_code(x);
	if (!vmfail)
		read_list_after(x, &x->store, x->entry->field[INDEX_VM_EXIT_MSR_STORE_ADDRESS]);
}
