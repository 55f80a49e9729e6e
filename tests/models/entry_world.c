#include <string.h>

#include "entry_world.h"
#include "vmx/entry_words.h"

/* --- two processors -------------------------------------------------------------- */

struct entry_cpu world_processors[PROCESSORS];

static const u64 must_be_1[CONTROL_FIELDS] = {
	[CONTROL_FIELD_PIN] = 0x16, [CONTROL_FIELD_PROC1] = 0x04006172,
	[CONTROL_FIELD_EXIT] = 0x36dfb, [CONTROL_FIELD_ENTRY] = 0x11fb,
};

void world_make(void)
{
	struct entry_cpu *rich = &world_processors[RICH], *poor = &world_processors[POOR];
	u32 i;

	/* All defined controls, but not all bits. */
#define CONTROL(field, bit, ...) rich->caps.may_be_1[CONTROL_FIELD_##field] |= BIT(bit);
#include "sdm/controls.def"
#undef CONTROL
	for (i = 0; i < CONTROL_FIELDS; i++) {
		rich->caps.must_be_1[i] = must_be_1[i] & ~rich->caps.may_be_1[i];
		rich->caps.may_be_1[i] |= must_be_1[i];
	}
	/* An "allowed" control for SMM would not be wrong by itself. */
	rich->caps.basic = REVISION_ID | BIT(55) | BIT(56) | BIT(58);
	rich->caps.misc = BITS(8, 6) | 4ull << 16 | BIT(30);
	rich->caps.cr0_fixed0 = poor->caps.cr0_fixed0 = CR0_PE | CR0_NE | CR0_PG;
	rich->caps.cr0_fixed1 = poor->caps.cr0_fixed1 = BITS(31, 0);
	rich->caps.cr4_fixed0 = poor->caps.cr4_fixed0 = CR4_VMXE;
	rich->caps.cr4_fixed1 = BITS(25, 0) & ~BIT(15);
	rich->caps.cr4_fixed1 |= CR4_FRED;
	rich->caps.ept_vpid_cap = EPT_CAP_WALK_4 | EPT_CAP_WB | EPT_CAP_AD;
	rich->intel64 = rich->cet_ss = rich->cet_ibt = rich->sgx = rich->rtm = true;
	rich->fred = rich->bus_lock_detect = rich->nx = rich->tsc_aux = true;
	rich->maxphyaddr = rich->physical_bits = 46;
	rich->linear_bits = 57;
	rich->perf_global_ctrl = BITS(3, 0) | BITS(34, 32);
	rich->spec_ctrl = BITS(2, 0) | BITS(6, 5);

	*poor = (struct entry_cpu){
		.caps = poor->caps, .intel64 = true, .maxphyaddr = 36, .physical_bits = 36,
		.linear_bits = 48,
	};
	poor->caps.basic = REVISION_ID;
	poor->caps.cr4_fixed1 = BITS(10, 0) | CR4_VMXE;
	memcpy(poor->caps.must_be_1, must_be_1, sizeof(must_be_1));
	memcpy(poor->caps.may_be_1, must_be_1, sizeof(must_be_1));
	poor->caps.may_be_1[CONTROL_FIELD_PROC1] |= BIT(31) | BIT(21);
	poor->caps.may_be_1[CONTROL_FIELD_PROC2] = BIT(1);
	poor->caps.may_be_1[CONTROL_FIELD_EXIT] |= BIT(9) | BITS(21, 18);
	poor->caps.may_be_1[CONTROL_FIELD_ENTRY] |= BIT(9) | BIT(2) | BITS(15, 14);
	poor->caps.must_be_1[CONTROL_FIELD_ENTRY] &= ~BIT(2);
	poor->caps.ept_vpid_cap = EPT_CAP_WALK_4 | EPT_CAP_UC | EPT_CAP_WB;
}

/* --- the 64-bit base state ---------------------------------------------------------- */

u64 world_page[512];

/* Nothing but the page, and the region of the current VMCS, is known. */
static bool read_page(void *memory, u64 address, u32 size, u64 *value)
{
	(void)memory;
	if (address - VMCS_AT < sizeof(world_page)) {
		*value = REVISION_ID;
		return true;
	}
	if (address - EMPTY_AT < sizeof(world_page)) {
		*value = 0;
		return true;
	}
	if (address < PAGE_AT || address - PAGE_AT > sizeof(world_page) - size)
		return false;
	*value = 0;
	memcpy(value, (char *)world_page + (address - PAGE_AT), size);
	return true;
}

static void poke(struct entry_scene *scene, u32 offset, u64 value)
{
	(void)scene;
	world_page[offset / 8] = value;
}

static const struct { u16 index; u64 value; } defaults[] = {
#define SET(name, value) { INDEX_##name, value },
#include "entry_defaults.def"
#undef SET
};

void world_scene(struct entry_scene *scene, u32 processor)
{
	const struct entry_cpu *cpu = &world_processors[processor];
	struct entry_input *in = &scene->in;
	u32 i;

	memset(scene, 0, sizeof(*scene));
	memset(world_page, 0, sizeof(world_page));
	for (i = 0; i < ARRAY_SIZE(defaults); i++)
		in->field[defaults[i].index] = defaults[i].value;
	F(PIN_BASED_VM_EXECUTION_CONTROLS) = cpu->caps.must_be_1[CONTROL_FIELD_PIN];
	F(PRIMARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS) = cpu->caps.must_be_1[CONTROL_FIELD_PROC1];
	F(PRIMARY_VM_EXIT_CONTROLS) |= cpu->caps.must_be_1[CONTROL_FIELD_EXIT];
	F(VM_ENTRY_CONTROLS) |= cpu->caps.must_be_1[CONTROL_FIELD_ENTRY];
	in->cpu = cpu;
	in->read = read_page;
	in->state = (struct entry_state){
		.vmx_operation = true, .cr0 = F(HOST_CR0), .cr4 = F(HOST_CR4),
		.rflags = RFLAGS_FIXED, .efer = F(HOST_IA32_EFER), .cs_l = true,
		.current_vmcs = VMCS_AT,
	};
	scene->page = PAGE_AT;
	scene->empty_page = EMPTY_AT;
	scene->ept_pointer = EPTP;
	scene->imagined = true;
	scene->poke = poke;
}
