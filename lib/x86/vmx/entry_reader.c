#include "cpu/cpu.h"
#include "cpu/features.h"
#include "cpu/safe.h"
#include "string.h"
#include "vmx/entry_reader.h"
#include "vmx/vmcs.h"

static const struct {
	u16 encoding;
	u8 type;
	u8 width;
} fields[VMCS_FIELDS] = {
#define VMCS_FIELD(encoding, name, lower, width, type, exists) \
	{ encoding, VMCS_FIELD_##type, (width) ? (width) : 64 },
#include "sdm/vmcs_fields.def"
#undef VMCS_FIELD
};

static struct entry_cpu cpu;
static bool cpu_known;

/* Fields that this processor has and that an entry can depend on; the rest costs time. */
static u16 used[VMCS_FIELDS];
static u32 used_count;

/* The same in two parts, for an exit writes only the second. */
static struct field_list {
	u16 index[VMCS_FIELDS];
	u32 count;
} kept, saved;

/* --- the processor --------------------------------------------------------------- */

outcome_t entry_probe_field(u64 encoding)
{
	u64 value = 0;

	return vmread_outcome(encoding, &value);
}

/* What an exit writes: 30.2, 30.3. LMA of the guest goes into the entry controls. */
static bool is_saved_by_exit(u32 index)
{
	return fields[index].type == VMCS_FIELD_GUEST || index == INDEX_VM_ENTRY_CONTROLS ||
	       index == INDEX_INJECTED_EVENT_IDENTIFICATION;
}

static void use_field(u32 index)
{
	struct field_list *list = is_saved_by_exit(index) ? &saved : &kept;

	used[used_count++] = index;
	list->index[list->count++] = index;
}

static void find_fields(void)
{
	u32 i;

	for (i = 0; i < VMCS_FIELDS; i++) {
		if (fields[i].type == VMCS_FIELD_EXIT_INFO)
			continue;
		if (vmcs_field_exists(fields[i].encoding) &&
		    entry_probe_field(fields[i].encoding) == OUTCOME_DONE)
			use_field(i);
	}
}

/* 27.4.1: VMWRITE may drop bits of access rights that are reserved. */
static u64 find_dropped_rights(void)
{
	u64 rights = vmread(GUEST_LDTR_ACCESS_RIGHTS), kept;

	vmwrite(GUEST_LDTR_ACCESS_RIGHTS, BITS(31, 0));
	kept = vmread(GUEST_LDTR_ACCESS_RIGHTS);
	vmwrite(GUEST_LDTR_ACCESS_RIGHTS, rights);
	return ~kept & BITS(31, 0);
}

/* 22.2.3 Architectural Performance Monitoring Version 3 and 4: CPUID.0AH says which bits exist. */
static u64 find_perf_global_ctrl(void)
{
	struct cpuid_result leaf;
	u64 bits, value;

	if (cpuid(0).eax < 10)
		return 0;
	leaf = cpuid(10);
	bits = BIT(FIELD(leaf.eax, 15, 8)) - 1;
	if (FIELD(leaf.eax, 7, 0) >= 2)
		bits |= (BIT(FIELD(leaf.edx, 4, 0)) - 1) << 32;
	if (FIELD(leaf.eax, 7, 0) >= 5)
		bits |= (u64)leaf.ecx << 32;
	/* IA32_PERF_CAPABILITIES[15]: performance metrics. */
	if (feature(FEATURE_PDCM) && rdmsr_safe(IA32_PERF_CAPABILITIES, &value) == OUTCOME_DONE &&
	    value & BIT(15))
		bits |= BIT(48);
	return bits;
}

/* Volume 4, IA32_SPEC_CTRL: leaf 7 of CPUID says which of its bits exist. */
static u64 find_spec_ctrl(void)
{
	u64 bits = 0;

	bits |= CPUID_BIT(7, 0, edx, 26) ? BIT(0) : 0;		/* IBRS */
	bits |= CPUID_BIT(7, 0, edx, 27) ? BIT(1) : 0;		/* STIBP */
	bits |= CPUID_BIT(7, 0, edx, 31) ? BIT(2) : 0;		/* SSBD */
	bits |= CPUID_BIT(7, 2, edx, 1) ? BITS(4, 3) : 0;	/* IPRED_DIS */
	bits |= CPUID_BIT(7, 2, edx, 2) ? BITS(6, 5) : 0;	/* RRSBA_DIS */
	bits |= CPUID_BIT(7, 2, edx, 0) ? BIT(7) : 0;		/* PSFD */
	bits |= CPUID_BIT(7, 2, edx, 3) ? BIT(8) : 0;		/* DDPD_U */
	bits |= CPUID_BIT(7, 2, edx, 4) ? BIT(10) : 0;		/* BHI_DIS_S */
	return bits;
}

const struct entry_cpu *entry_this_cpu(void)
{
	u64 address_sizes;

	if (cpu_known)
		return &cpu;
	cpu_known = true;
	address_sizes = cpuid(0x80000000).eax >= 0x80000008 ? cpuid(0x80000008).eax : 0x3024;
	cpu = (struct entry_cpu){
		.caps = *capabilities(),
		.intel64 = feature(FEATURE_LM),
		.maxphyaddr = FIELD(address_sizes, 7, 0),
		.physical_bits = maxphyaddr(),
		.linear_bits = FIELD(address_sizes, 15, 8),
		.cet_ss = feature(FEATURE_CET_SS),
		.cet_ibt = feature(FEATURE_CET_IBT),
		.sgx = CPUID_BIT(7, 0, ebx, 2),
		.rtm = CPUID_BIT(7, 0, ebx, 11),
		.bus_lock_detect = CPUID_BIT(7, 0, ecx, 24),
		.fred = feature(FEATURE_FRED),
		.lam = feature(FEATURE_LAM),
		.nx = feature(FEATURE_NX),
		.tsc_aux = feature(FEATURE_RDTSCP) || CPUID_BIT(7, 0, ecx, 22),
		.nmi_source = CPUID_BIT(7, 1, eax, 20),
		.perf_global_ctrl = find_perf_global_ctrl(),
		.spec_ctrl = find_spec_ctrl(),
		.dropped_rights = find_dropped_rights(),
	};
	find_fields();
	return &cpu;
}

bool vmcs_has_index(u32 index)
{
	return vmcs_field_exists(fields[index].encoding);
}

u32 entry_field_used(u64 n)
{
	return used[n % used_count];
}

u32 entry_field_type(u32 index)
{
	return fields[index].type;
}

u32 entry_field_width(u32 index)
{
	return fields[index].width;
}

const char *entry_field_name(u32 index)
{
	return vmcs_field_name(fields[index].encoding);
}

u64 entry_field_value(const struct entry_input *in, u32 index, u64 value)
{
	bool rights = index >= INDEX_GUEST_ES_ACCESS_RIGHTS &&
		      index <= INDEX_GUEST_TR_ACCESS_RIGHTS;

	value &= BITS(fields[index].width - 1, 0);
	return rights ? value & ~in->cpu->dropped_rights : value;
}

/* --- memory ----------------------------------------------------------------------- */

/* The map at boot has what lies below 4 GBytes; there are devices in its last quarter. */
static bool read_memory(void *memory __maybe_unused, u64 address, u32 size, u64 *value)
{
	if (address >= 0xc0000000 - size)
		return false;
	*value = 0;
	memcpy(value, (const void *)address, size);
	return true;
}

/* --- launch states ------------------------------------------------------------------ */

#define REMEMBERED	16

static struct {
	u64 vmcs;
	enum launch_state state;
} launch_states[REMEMBERED];
static u32 remembered;

void entry_note_vmxon(void)
{
	remembered = 0;
}

void entry_note_launch_state(u64 vmcs, enum launch_state state)
{
	u32 i;

	for (i = 0; i < remembered && launch_states[i].vmcs != vmcs; i++)
		;
	if (i == REMEMBERED)
		return;
	if (i == remembered)
		remembered++;
	launch_states[i].vmcs = vmcs;
	launch_states[i].state = state;
}

static enum launch_state launch_state(u64 vmcs)
{
	u32 i;

	for (i = 0; i < remembered; i++)
		if (launch_states[i].vmcs == vmcs)
			return launch_states[i].state;
	return LAUNCH_STATE_UNKNOWN;
}

/* --- the input ---------------------------------------------------------------------- */

static void read_state(struct entry_state *state, bool resume, u64 vmcs)
{
	u64 word = 0;

	*state = (struct entry_state){
		.resume = resume,
		.vmx_operation = true,
		.cr0 = read_cr0(),
		.cr4 = read_cr4(),
		.efer = rdmsr(IA32_EFER),
		.rflags = RFLAGS_FIXED,
		.cs_l = true,
		.current_vmcs = vmcs,
		.launch_state = launch_state(vmcs),
	};
	if (read_memory(NULL, vmcs, 4, &word))
		state->shadow_vmcs = word & BIT(31);
	if (control_allowed(CONTROL_ENTRY_LOAD_IA32_RTIT_CTL))
		state->rtit_ctl = rdmsr(IA32_RTIT_CTL);
}

void entry_read_input(struct entry_input *in, bool resume, u64 vmcs)
{
	u32 i;

	in->cpu = entry_this_cpu();
	in->read = read_memory;
	in->memory = NULL;
	in->waived = NULL;
	read_state(&in->state, resume, vmcs);
	for (i = 0; i < used_count; i++)
		in->field[used[i]] = vmread_known(fields[used[i]].encoding);
}

static void write_field(const struct entry_input *in, struct entry_input *written, u32 index)
{
	vmwrite_known(fields[index].encoding, in->field[index]);
	written->field[index] = in->field[index];
}

static void write_changed(const struct field_list *list, const struct entry_input *in,
			  struct entry_input *written)
{
	u32 i;

	for (i = 0; i < list->count; i++)
		if (in->field[list->index[i]] != written->field[list->index[i]])
			write_field(in, written, list->index[i]);
}

void entry_write_fields(const struct entry_input *in, struct entry_input *written, bool guest)
{
	u32 i;

	write_changed(&kept, in, written);
	if (guest)
		for (i = 0; i < saved.count; i++)
			write_field(in, written, saved.index[i]);
	else
		write_changed(&saved, in, written);
}
