/*
 * The core: what its exits cost. `exitpath bench core` boots this image and prints the figures.
 *
 * A guest reads the time-stamp counter before and behind an operation that exits; the median of 64
 * such pairs, less that of an empty pair, is what the operation costs, with all that the core and
 * user space do for it. Beside that stands the bare round trip: the same guest, with CPUID, below a
 * loop that does nothing but VMRESUME and add 2 to RIP. Where the counter counts instructions, as
 * that of Bochs does (five at a time), the figures are the same in every run, and the cases hold
 * the core to its bars; elsewhere they are cycles, and only exits and entries of the MMU are
 * compared.
 */
#include "cpu/apic.h"
#include "hv/box.h"
#include "hv/internal.h"
#include "string.h"

#define PAIRS		64
#define TIMES		0xb000		/* a doubleword for each pair */
#define SECOND_TABLE	0xc000
#define TOUCHED		0x400000	/* as many pages as pairs */
#define POOL		400
#define CPUID_BAR	300		/* instructions of the core, beyond the bare round trip */

static struct box box;
static struct hv_vcpu *const vcpu = &box.vcpu;

/* R8 counts down; R11 is a page that moves on. The operation may change RAX to RDX and RSI. */
#define TIMED(operation)							\
	"mov $" STRINGIFY(PAIRS) ", %r8d\n\t mov $0x400000, %r11d\n\t"		\
	"1: rdtsc\n\t mov %eax, %r9d\n\t" operation "\n\t rdtsc\n\t"		\
	"sub %r9d, %eax\n\t mov %eax, 0xaffc(,%r8,4)\n\t add $4096, %r11\n\t"	\
	"dec %r8d\n\t jnz 1b\n\t hlt"

BOX_GUEST_64(empty, TIMED(""));
/* As many instructions, that take different times wherever time is what is counted. */
#define PLAIN		200
BOX_GUEST_64(quick, TIMED(".rept " STRINGIFY(PLAIN) "\n\t nop\n\t .endr"));
BOX_GUEST_64(slow, TIMED(".rept " STRINGIFY(PLAIN) "\n\t lock incl 0xa000\n\t .endr"));
BOX_GUEST_64(cpuid_rdi_rsi, TIMED("mov %edi, %eax\n\t mov %esi, %ecx\n\t cpuid"));
BOX_GUEST_64(out, TIMED("out %al, $0x80"));
BOX_GUEST_64(in, TIMED("in $0x80, %al"));
BOX_GUEST_64(store, TIMED("mov %ecx, (%rsi)"));
BOX_GUEST_64(load, TIMED("mov (%rsi), %ecx"));
BOX_GUEST_64(touch, TIMED("mov (%r11), %ecx"));
BOX_GUEST_64(dirty, TIMED("mov %ecx, (%r11)"));
BOX_GUEST_64(switch_to_rsi, TIMED("mov %rsi, %cr3\n\t mov (%rdi), %ecx\n\t xor %rbp, %rsi"));
BOX_GUEST_64(invlpg_rsi, TIMED("invlpg (%rsi)"));

/* --- measuring ------------------------------------------------------------------------ */

struct cost {
	int ticks;		/* the median, less that of an empty pair */
	u32 exits;		/* of all pairs */
	u32 fills;		/* entries that the MMU made, likewise */
};

static int median_of_times(void)
{
	int *times = (int *)(box.memory + TIMES), i, j, least;

	for (i = 0; i <= PAIRS / 2; i++) {
		for (least = i, j = i + 1; j < PAIRS; j++)
			least = times[j] < times[least] ? j : least;
		j = times[i];
		times[i] = times[least];
		times[least] = j;
	}
	return times[PAIRS / 2];
}

/* What an operation finds in the registers that TIMED() leaves to it. */
struct operands {
	u64 rdi, rsi, rbp;
};

static void begin(const struct box_guest *guest, struct operands operands)
{
	const struct kvm_regs regs = { .rip = BOX_CODE, .rsp = BOX_STACK, .rflags = RFLAGS_FIXED,
				       .rdi = operands.rdi, .rsi = operands.rsi,
				       .rbp = operands.rbp };

	memcpy(box.memory + BOX_CODE, guest->start, guest->end - guest->start);
	hv_vcpu_set_regs(vcpu, &regs);
	vcpu->mp_state = KVM_MP_STATE_RUNNABLE;
}

/* Up to the HLT; gives the exits before it. */
static u32 run(void)
{
	u64 exits = vcpu->exits;
	u32 reason;

	do {
		reason = box_run(&box);
		if (reason != KVM_EXIT_IO && reason != KVM_EXIT_MMIO && reason != KVM_EXIT_INTR)
			REQUIRE_EXIT(reason, KVM_EXIT_HLT);
	} while (reason != KVM_EXIT_HLT && vcpu->mp_state != KVM_MP_STATE_HALTED);
	return vcpu->exits - exits - 1;
}

static int empty_pair(void)
{
	begin(&empty, (struct operands){ 0 });
	run();
	return median_of_times();
}

static struct cost measure(const struct box_guest *guest, struct operands operands)
{
	int without = empty_pair();
	u64 fills = box.vm.fills;
	struct cost cost;

	begin(guest, operands);
	cost.exits = run();
	cost.fills = box.vm.fills - fills;
	cost.ticks = median_of_times() - without;
	return cost;
}

/* The least that a hypervisor can do: in again, behind the instruction. */
static int bare_round_trip(void)
{
	int without = empty_pair(), i;

	begin(&cpuid_rdi_rsi, (struct operands){ 0 });
	for (i = 0; i < PAIRS; i++) {
		REQUIRE_EQ(vmx_switch(&vcpu->state, vcpu->launched), 0);
		REQUIRE_EQ(vmcs_get(EXIT_REASON), EXIT_CPUID);
		vmcs_put(GUEST_RIP, vmcs_get(GUEST_RIP) + 2);
	}
	run();
	return median_of_times() - without;
}

/* Whether the time-stamp counter counts instructions: no two kinds of them take the same time. */
static bool counts_instructions(void)
{
	const struct operands none = { 0 };

	return measure(&quick, none).ticks == PLAIN && measure(&slow, none).ticks == PLAIN;
}

static const char *unit(void)
{
	return counts_instructions() ? "instructions" : "cycles";
}

/* scripts/bench.sh reads these lines. */
static void tell(const char *what, struct cost cost)
{
	tap_comment("cost of %s: %d %s, %u exits, %u entries made in %u rounds", what, cost.ticks,
		    unit(), cost.exits, cost.fills, PAIRS);
}

/* --- the round trip, and CPUID --------------------------------------------------------- */

CASE(bare_round_trip, PROVES("exit-reasons:10"), NEEDS(BOX_NEEDS))
{
	box_start(&box, &empty);
	tell("the bare round trip", (struct cost){ .ticks = bare_round_trip(), .exits = PAIRS });
}

/* Enabled, so that the core has to look for interrupts. */
static void enable_apic(void)
{
	vcpu->lapic.reg[APIC_SPURIOUS_VECTOR / 16] |= APIC_SOFTWARE_ENABLE;
}

static void set_supported_cpuid(void)
{
	static union {
		struct kvm_cpuid2 table;
		u8 room[sizeof(struct kvm_cpuid2) + HV_MAX_CPUID * sizeof(struct kvm_cpuid_entry2)];
	} all;

	all.table.nent = HV_MAX_CPUID;
	REQUIRE_EQ(hv_get_supported_cpuid(&all.table), 0);
	REQUIRE_EQ(hv_vcpu_set_cpuid(vcpu, &all.table), 0);
}

/* Beyond the bare round trip; says so where that is above the bar. */
static int own_cost(u32 leaf, u32 subleaf, int bare)
{
	struct operands operands = { .rdi = leaf, .rsi = subleaf };
	int cost = measure(&cpuid_rdi_rsi, operands).ticks - bare;

	if (cost > CPUID_BAR && counts_instructions())
		tap_comment("CPUID %#x, %u: %d instructions of the core", leaf, subleaf, cost);
	return cost;
}

/* With a local APIC and all that the processor has in the table; then leaves that are not there. */
CASE(cpuid_costs_300_instructions_at_most, PROVES("kvm-exits:5"), NEEDS(BOX_NEEDS))
{
	static const u32 absent[][2] = { { 0x20000000, 0 }, { 0x40000000, 0 }, { 0x4fffffff, 7 },
					 { 0x80000009, 0 }, { 0xffffffff, 0 }, { 0xb, 99 } };
	int bare, cost, most = 0;
	u32 i;

	box_start_with_apic(&box, &empty);
	set_supported_cpuid();
	enable_apic();
	bare = bare_round_trip();
	for (i = 0; i < vcpu->cpuid_count; i++) {
		cost = own_cost(vcpu->cpuid[i].function, vcpu->cpuid[i].index, bare);
		most = cost > most ? cost : most;
	}
	for (i = 0; i < ARRAY_SIZE(absent); i++) {
		cost = own_cost(absent[i][0], absent[i][1], bare);
		most = cost > most ? cost : most;
	}
	tell("the core's own part of CPUID, the dearest leaf", (struct cost){ .ticks = most });
	if (counts_instructions())
		EXPECT_TRUE(most <= CPUID_BAR);
}

/* --- the others: a row each ---------------------------------------------------------------- */

struct speed_row {
	const char *name;
	const struct hv_mmu *mmu;
	const struct box_guest *guest;
	struct operands operands;
	void (*prepare)(void);
	u32 exits, fills;		/* of all pairs */
};

static void add_touched_pages(void)
{
	box_add_memory(&box, 1, TOUCHED, PAIRS * PAGE_SIZE, 0);
}

static void log_touched_pages(void)
{
	box_add_memory(&box, 1, TOUCHED, PAIRS * PAGE_SIZE, KVM_MEM_LOG_DIRTY_PAGES);
	measure(&touch, (struct operands){ 0 });
}

/* Two address spaces, each of which has been used. */
static void warm_both_tables(void)
{
	memcpy(box.memory + SECOND_TABLE, box.memory + BOX_TABLES, PAGE_SIZE);
	measure(&switch_to_rsi, (struct operands){ BOX_DATA, SECOND_TABLE,
						   SECOND_TABLE ^ BOX_TABLES });
}

static void use_data(void)
{
	measure(&load, (struct operands){ .rsi = BOX_DATA });
}

static void speed(const struct case_def *this_case)
{
	const struct speed_row *row = this_case->row;
	struct cost cost;

	hv_start(page_alloc());
	box_start_on(&box, row->mmu, POOL, &empty);
	if (row->prepare)
		row->prepare();
	cost = measure(row->guest, row->operands);
	tell(row->name, cost);
	EXPECT_EQ(cost.exits, row->exits);
	EXPECT_EQ(cost.fills, row->fills);
}

#define SPEED_CASE(id, fact, need, ...)							\
	CASE_RUN(id, speed, PROVES(fact), NEEDS(need),					\
		 ROW((&(const struct speed_row){ __VA_ARGS__ })))
#define ON_EPT(id, fact, name, ...)	SPEED_CASE(id, fact, BOX_NEEDS, name, \
						   &hv_mmu_ept, __VA_ARGS__)
#define ON_SHADOW(id, fact, name, ...)	SPEED_CASE(id, fact, VMX, name ", shadow paging", \
						   &hv_mmu_shadow, __VA_ARGS__)

ON_EPT(cpuid_exits_once, "kvm-exits:5", "CPUID, seven leaves", &cpuid_rdi_rsi,
       { 0 }, NULL, PAIRS, 0);
ON_EPT(out_exits_once, "kvm-exits:2", "OUT", &out, { 0 }, NULL, PAIRS, 0);
ON_EPT(in_exits_once, "kvm-exits:2", "IN", &in, { 0 }, NULL, PAIRS, 0);
ON_EPT(mmio_write_exits_once, "kvm-exits:6", "a store to MMIO", &store,
       { .rsi = BOX_MMIO }, NULL, PAIRS, 0);
ON_EPT(mmio_read_exits_once, "kvm-exits:6", "a load from MMIO", &load,
       { .rsi = BOX_MMIO }, NULL, PAIRS, 0);
ON_EPT(ept_fill_exits_once, "exit-reasons:48", "a page's first use", &touch,
       { 0 }, add_touched_pages, PAIRS, PAIRS);
SPEED_CASE(dirty_log_exits_once, "kvm-ioctls:dirty.content", BOX_NEEDS,
	   "a logged page's first write, write protection", &hv_mmu_ept_write_protect, &dirty,
	   { 0 }, log_touched_pages, PAIRS, PAIRS);
SPEED_CASE(dirty_log_by_pml_exits_never, "kvm-ioctls:dirty.content", BOX_NEEDS_PML,
	   "a logged page's first write, page-modification logging", &hv_mmu_ept, &dirty,
	   { 0 }, log_touched_pages, 0, 0);
ON_EPT(mov_cr3_exits_never, "exit-reasons:28", "MOV to CR3", &switch_to_rsi,
       { BOX_DATA, SECOND_TABLE, SECOND_TABLE ^ BOX_TABLES }, warm_both_tables, 0, 0);
ON_EPT(invlpg_exits_never, "exit-reasons:14", "INVLPG", &invlpg_rsi,
       { .rsi = BOX_DATA }, NULL, 0, 0);
/* And an entry for the table that they are in. */
ON_SHADOW(shadow_fill_exits_once, "exit-reasons:0", "a page's first use", &touch,
	  { 0 }, add_touched_pages, PAIRS, PAIRS + 1);
ON_SHADOW(warm_cr3_switch_fills_nothing, "exit-reasons:28", "a warm MOV to CR3", &switch_to_rsi,
	  { BOX_DATA, SECOND_TABLE, SECOND_TABLE ^ BOX_TABLES }, warm_both_tables, PAIRS, 0);
ON_SHADOW(invlpg_exits_once, "exit-reasons:14", "INVLPG", &invlpg_rsi,
	  { .rsi = BOX_DATA }, use_data, PAIRS, 0);
