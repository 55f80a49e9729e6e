/* Registers, priorities and the timer of the local APIC. What it sends is in lapic_ipi.c. */
#include "hv/lapic.h"
#include "cpu/apic.h"
#include "hv/internal.h"
#include "hv/lapic_ipi.h"
#include "string.h"

#define VERSION		0x00050014	/* six entries in the local vector table */
#define APIC_PAGE(base)	((base) & BITS(51, 12))
#define LVT_STATUS	BIT(12)		/* read-only, as bit 14 of LINT0 and LINT1 */
#define LVT_REMOTE_IRR	BIT(14)
#define DESTINATION_FORMAT_FLAT	0xffffffffu

/* Table 13-1 and 13.12.1.2; what is in no row does not exist. */
enum { R = 1, W = 2, RW = 3 };

struct register_row {
	u32 first, last;
	u8 xapic, x2apic;	/* access */
	u32 mask;		/* bits that can be written; others are reserved */
};

static const struct register_row rows[] = {
	{ APIC_ID,			APIC_ID,	RW, R,	0xff000000 },
	{ APIC_VERSION,			APIC_VERSION,	R, R,	0 },
	{ APIC_TASK_PRIORITY,		APIC_TASK_PRIORITY, RW, RW, 0xff },
	{ 0x090,			0x090,		R, 0,	0 },
	{ APIC_PROCESSOR_PRIORITY,	APIC_PROCESSOR_PRIORITY, R, R, 0 },
	{ APIC_EOI,			APIC_EOI,	W, W,	0 },
	{ 0x0c0,			0x0c0,		R, 0,	0 },
	{ APIC_LOGICAL_DESTINATION,	APIC_LOGICAL_DESTINATION, RW, R, 0xff000000 },
	{ APIC_DESTINATION_FORMAT,	APIC_DESTINATION_FORMAT, RW, 0, 0xf0000000 },
	{ APIC_SPURIOUS_VECTOR,		APIC_SPURIOUS_VECTOR, RW, RW, 0x1ff },
	{ APIC_IN_SERVICE,		0x270,		R, R,	0 },
	{ APIC_ERROR_STATUS,		APIC_ERROR_STATUS, RW, RW, 0 },
	{ APIC_INTERRUPT_COMMAND,	APIC_INTERRUPT_COMMAND, RW, RW, 0xccfff },
	{ APIC_INTERRUPT_COMMAND_HIGH,	APIC_INTERRUPT_COMMAND_HIGH, RW, 0, 0xff000000 },
	{ APIC_LVT_TIMER,		APIC_LVT_TIMER,	RW, RW,	0x710ff },
	{ APIC_LVT_THERMAL,		APIC_LVT_PERFORMANCE, RW, RW, 0x117ff },
	{ APIC_LVT_LINT0,		APIC_LVT_LINT1,	RW, RW,	0x1f7ff },
	{ APIC_LVT_ERROR,		APIC_LVT_ERROR,	RW, RW,	0x110ff },
	{ APIC_TIMER_INITIAL_COUNT,	APIC_TIMER_INITIAL_COUNT, RW, RW, 0xffffffff },
	{ APIC_TIMER_CURRENT_COUNT,	APIC_TIMER_CURRENT_COUNT, R, R, 0 },
	{ APIC_TIMER_DIVIDE,		APIC_TIMER_DIVIDE, RW, RW, 0xb },
	{ APIC_SELF_IPI,		APIC_SELF_IPI,	0, W,	0xff },
};

static const struct register_row *find(u32 offset)
{
	u32 i;

	for (i = 0; i < ARRAY_SIZE(rows); i++)
		if (offset >= rows[i].first && offset <= rows[i].last)
			return &rows[i];
	return NULL;
}

static u32 *reg(struct hv_vcpu *vcpu, u32 offset)
{
	return &vcpu->lapic.reg[offset / 16];
}

static u32 get(const struct hv_vcpu *vcpu, u32 offset)
{
	return vcpu->lapic.reg[offset / 16];
}

static bool is_x2apic(const struct hv_vcpu *vcpu)
{
	return vcpu->apic_base & APIC_BASE_X2APIC;
}

static bool is_enabled(const struct hv_vcpu *vcpu)
{
	return vcpu->apic_base & APIC_BASE_ENABLE &&
	       get(vcpu, APIC_SPURIOUS_VECTOR) & APIC_SOFTWARE_ENABLE;
}

/* --- vectors: 13.8 Handling Interrupts ------------------------------------------------ */

static void set_bit(struct hv_vcpu *vcpu, enum apic_register first, u8 vector, bool on)
{
	u32 *bits = reg(vcpu, first + vector / 32 * 16);
	u8 summary = 1u << vector / 32;

	*bits = on ? *bits | 1u << vector % 32 : *bits & ~(1u << vector % 32);
	if (first == APIC_INTERRUPT_REQUEST)
		vcpu->lapic.requested = *bits ? vcpu->lapic.requested | summary :
					vcpu->lapic.requested & ~summary;
}

/* The highest vector of eight registers; -1: none. */
static int highest(const struct hv_vcpu *vcpu, enum apic_register first)
{
	int i;

	for (i = 7; i >= 0; i--)
		if (get(vcpu, first + i * 16))
			return i * 32 + 31 - __builtin_clz(get(vcpu, first + i * 16));
	return -1;
}

/* 13.8.3.1 Task and Processor Priorities. */
static u32 processor_priority(const struct hv_vcpu *vcpu)
{
	int service = highest(vcpu, APIC_IN_SERVICE);
	u32 task = get(vcpu, APIC_TASK_PRIORITY), class = service < 0 ? 0 : service & 0xf0;

	return (task & 0xf0) >= class ? task : class;
}

int hv_lapic_next(const struct hv_vcpu *vcpu)
{
	int vector;

	if (!is_enabled(vcpu))
		return -1;
	vector = highest(vcpu, APIC_INTERRUPT_REQUEST);
	return vector >= 0 && (vector & 0xf0u) > (processor_priority(vcpu) & 0xf0) ? vector : -1;
}

void hv_lapic_take(struct hv_vcpu *vcpu, u8 vector)
{
	set_bit(vcpu, APIC_INTERRUPT_REQUEST, vector, false);
	set_bit(vcpu, APIC_IN_SERVICE, vector, true);
}

static void end_of_interrupt(struct hv_vcpu *vcpu)
{
	int vector = highest(vcpu, APIC_IN_SERVICE);

	if (vector >= 0)
		set_bit(vcpu, APIC_IN_SERVICE, vector, false);
}

/* 13.5.3 Error Handling: the error interrupt comes with an error that is new. */
static void note_error(struct hv_vcpu *vcpu, u32 error)
{
	u32 entry = get(vcpu, APIC_LVT_ERROR);

	if (vcpu->lapic.errors & error)
		return;
	vcpu->lapic.errors |= error;
	if (!(entry & APIC_LVT_MASKED) && is_enabled(vcpu) && (entry & 0xff) >= 16)
		set_bit(vcpu, APIC_INTERRUPT_REQUEST, entry, true);
}

void hv_lapic_error(struct hv_vcpu *vcpu, enum hv_lapic_errors error)
{
	note_error(vcpu, error);
}

bool hv_lapic_accept(struct hv_vcpu *vcpu, u8 vector)
{
	if (!is_enabled(vcpu))
		return false;
	if (vector < 16) {
		note_error(vcpu, HV_LAPIC_RECEIVED_ILLEGAL_VECTOR);
		return true;
	}
	set_bit(vcpu, APIC_INTERRUPT_REQUEST, vector, true);
	set_bit(vcpu, APIC_TRIGGER_MODE, vector, false);
	return true;
}

/* --- the timer: 13.5.4 APIC Timer; its clock is the time-stamp counter ------------------- */

enum { TIMER_ONE_SHOT, TIMER_PERIODIC, TIMER_DEADLINE };

static u32 timer_mode(const struct hv_vcpu *vcpu)
{
	return FIELD(get(vcpu, APIC_LVT_TIMER), 18, 17);
}

static u32 divide_shift(const struct hv_vcpu *vcpu)
{
	u32 divide = get(vcpu, APIC_TIMER_DIVIDE);

	return ((divide & 3) + (divide >> 1 & 4) + 1) & 7;
}

static u64 timer_period(const struct hv_vcpu *vcpu)
{
	return (u64)get(vcpu, APIC_TIMER_INITIAL_COUNT) << divide_shift(vcpu);
}

static u32 current_count(const struct hv_vcpu *vcpu)
{
	u64 now = rdtsc(), end = vcpu->lapic.timer_end;

	return end > now && timer_mode(vcpu) != TIMER_DEADLINE ?
	       (end - now) >> divide_shift(vcpu) : 0;
}

static void start_timer(struct hv_vcpu *vcpu)
{
	u64 period = timer_period(vcpu);

	vcpu->lapic.timer_end = period ? rdtsc() + period : 0;
}

void hv_lapic_poll(struct hv_vcpu *vcpu)
{
	struct hv_lapic *lapic = &vcpu->lapic;
	u64 now, period;

	if (!lapic->timer_end)
		return;
	now = rdtsc();
	if (now < lapic->timer_end)
		return;
	if (!(get(vcpu, APIC_LVT_TIMER) & APIC_LVT_MASKED))
		hv_lapic_accept(vcpu, get(vcpu, APIC_LVT_TIMER));
	period = timer_period(vcpu);
	if (timer_mode(vcpu) == TIMER_PERIODIC && period)
		lapic->timer_end += ((now - lapic->timer_end) / period + 1) * period;
	else
		lapic->timer_end = lapic->tsc_deadline = 0;
}

u64 hv_lapic_tsc_deadline(const struct hv_vcpu *vcpu)
{
	return vcpu->lapic.tsc_deadline;
}

/* When the guest's time-stamp counter will be there; at once, if it is beyond that. */
static u64 host_time(const struct hv_vcpu *vcpu, u64 deadline)
{
	u64 now = rdtsc(), guest = now + vcpu->tsc_offset;

	if (deadline <= guest)
		return 1;
	return deadline - guest > ~0ull - now ? ~0ull : now + (deadline - guest);
}

void hv_lapic_set_tsc_deadline(struct hv_vcpu *vcpu, u64 deadline)
{
	if (timer_mode(vcpu) != TIMER_DEADLINE)
		return;
	vcpu->lapic.tsc_deadline = deadline;
	vcpu->lapic.timer_end = deadline ? host_time(vcpu, deadline) : 0;
}

/* A change between the deadline mode and the others disarms the timer: 13.5.4.1. */
static void write_timer_entry(struct hv_vcpu *vcpu, u32 value)
{
	u32 before = timer_mode(vcpu);

	*reg(vcpu, APIC_LVT_TIMER) = value;
	if ((before == TIMER_DEADLINE) != (timer_mode(vcpu) == TIMER_DEADLINE))
		vcpu->lapic.timer_end = vcpu->lapic.tsc_deadline = 0;
}

/* --- registers ------------------------------------------------------------------------- */

static u32 read_register(struct hv_vcpu *vcpu, u32 offset)
{
	switch (offset) {
	case APIC_PROCESSOR_PRIORITY:
		return processor_priority(vcpu);
	case APIC_TIMER_CURRENT_COUNT:
		return current_count(vcpu);
	default:
		return get(vcpu, offset);
	}
}

/* 13.4.7.2: while the APIC is disabled by software, all local interrupts stay masked. */
static void write_spurious(struct hv_vcpu *vcpu, u32 value)
{
	u32 offset;

	*reg(vcpu, APIC_SPURIOUS_VECTOR) = value;
	if (value & APIC_SOFTWARE_ENABLE)
		return;
	for (offset = APIC_LVT_TIMER; offset <= APIC_LVT_ERROR; offset += 16)
		*reg(vcpu, offset) |= APIC_LVT_MASKED;
}

static void write_register(struct hv_vcpu *vcpu, u32 offset, u32 value)
{
	if (offset >= APIC_LVT_TIMER && offset <= APIC_LVT_ERROR) {
		value &= ~(u32)(LVT_STATUS | (offset < APIC_LVT_ERROR ? LVT_REMOTE_IRR : 0));
		if (!(get(vcpu, APIC_SPURIOUS_VECTOR) & APIC_SOFTWARE_ENABLE))
			value |= APIC_LVT_MASKED;
	}
	switch (offset) {
	case APIC_EOI:
		end_of_interrupt(vcpu);
		break;
	case APIC_DESTINATION_FORMAT:
		*reg(vcpu, offset) = value | BITS(27, 0);
		break;
	case APIC_SPURIOUS_VECTOR:
		write_spurious(vcpu, value);
		break;
	case APIC_ERROR_STATUS:
		*reg(vcpu, offset) = vcpu->lapic.errors;
		vcpu->lapic.errors = 0;
		break;
	case APIC_INTERRUPT_COMMAND:
		*reg(vcpu, offset) = value;
		hv_lapic_send(vcpu, value, is_x2apic(vcpu) ? vcpu->lapic.command_high :
			      get(vcpu, APIC_INTERRUPT_COMMAND_HIGH) >> 24);
		break;
	case APIC_LVT_TIMER:
		write_timer_entry(vcpu, value);
		break;
	case APIC_TIMER_INITIAL_COUNT:
		if (timer_mode(vcpu) == TIMER_DEADLINE)
			break;
		*reg(vcpu, offset) = value;
		start_timer(vcpu);
		break;
	case APIC_SELF_IPI:
		hv_lapic_send(vcpu, ICR_FIXED | ICR_ASSERT | ICR_TO_SELF | value, 0);
		break;
	default:
		*reg(vcpu, offset) = value;
	}
}

/* --- memory: 13.4.1, all accesses are of 32 bits at multiples of 16 ------------------------ */

bool hv_lapic_at(const struct hv_vcpu *vcpu, u64 gpa)
{
	return vcpu->vm->irqchip && (vcpu->apic_base & APIC_BASE_ENABLE) && !is_x2apic(vcpu) &&
	       APIC_PAGE(gpa) == APIC_PAGE(vcpu->apic_base);
}

/*
 * 13.4.5 Relocating the Local APIC Registers: the page is wherever IA32_APIC_BASE says, memory or
 * not. Each vCPU has its own, the MMU's tables are those of all; so they follow who runs.
 */
void hv_lapic_place(struct hv_vcpu *vcpu)
{
	struct hv_vm *vm = vcpu->vm;
	u64 gpa = APIC_PAGE(vcpu->apic_base), page = hv_lapic_at(vcpu, gpa) ? gpa + 1 : 0;

	if (page == vm->apic_page)
		return;
	vm->apic_page = page;
	if (!page || !hv_slot_at(vm, gpa))
		return;
	vm->mmu->zap(vm, gpa, PAGE_SIZE, false);
	vm->mmu->flush(vm);
}

bool hv_lapic_within(const struct hv_vm *vm, u64 gpa, u64 size)
{
	return vm->apic_page && vm->apic_page - gpa < size;
}

void hv_lapic_read(struct hv_vcpu *vcpu, u64 gpa, u8 *bytes, u32 size)
{
	u32 offset = gpa & ~PAGE_MASK, i, value = 0;

	for (i = 0; i < size; i++) {
		u32 at = (offset + i) & ~15u, byte = (offset + i) & 15;
		const struct register_row *row = find(at);

		/* Once: the timer's count would be another one for the next byte. */
		if (!i || !byte)
			value = row && row->xapic & R ? read_register(vcpu, at) : 0;
		if (!row || !row->xapic)
			note_error(vcpu, HV_LAPIC_ILLEGAL_REGISTER);
		bytes[i] = byte < 4 ? value >> 8 * byte : 0;
	}
}

void hv_lapic_write(struct hv_vcpu *vcpu, u64 gpa, const u8 *bytes, u32 size)
{
	u32 offset = gpa & ~PAGE_MASK, value;
	const struct register_row *row = find(offset);

	if (offset % 16 || size < 4)
		return;
	if (!row || !row->xapic)
		note_error(vcpu, HV_LAPIC_ILLEGAL_REGISTER);
	if (!row || !(row->xapic & W))
		return;
	memcpy(&value, bytes, sizeof(value));
	write_register(vcpu, offset, value & row->mask);
}

/* --- MSRs: 13.12.1.2 x2APIC Register Address Space -------------------------------------------- */

bool hv_lapic_msr_read(struct hv_vcpu *vcpu, u32 msr, u64 *value)
{
	u32 offset = (msr - X2APIC_MSR_BASE) * 16;
	const struct register_row *row = find(offset);

	if (!vcpu->vm->irqchip || !is_x2apic(vcpu) || !row || !(row->x2apic & R))
		return false;
	*value = read_register(vcpu, offset);
	if (offset == APIC_INTERRUPT_COMMAND)
		*value |= (u64)vcpu->lapic.command_high << 32;
	return true;
}

bool hv_lapic_msr_write(struct hv_vcpu *vcpu, u32 msr, u64 value)
{
	u32 offset = (msr - X2APIC_MSR_BASE) * 16;
	const struct register_row *row = find(offset);
	u64 mask;

	if (!vcpu->vm->irqchip || !is_x2apic(vcpu) || !row || !(row->x2apic & W))
		return false;
	mask = row->mask | (offset == APIC_INTERRUPT_COMMAND ? BITS(63, 32) : 0);
	if (value & ~mask)
		return false;
	if (offset == APIC_INTERRUPT_COMMAND)
		vcpu->lapic.command_high = value >> 32;
	write_register(vcpu, offset, value);
	return true;
}

/* --- modes ------------------------------------------------------------------------------------ */

/* 13.12.5.1, in x2APIC mode: the ID and the logical ID that follows from it. */
static void set_ids(struct hv_vcpu *vcpu)
{
	*reg(vcpu, APIC_ID) = is_x2apic(vcpu) ? vcpu->id : vcpu->id << 24;
	*reg(vcpu, APIC_LOGICAL_DESTINATION) =
		is_x2apic(vcpu) ? vcpu->id >> 4 << 16 | 1u << (vcpu->id & 15) : 0;
}

/* 13.4.7.1 Local APIC State After Power-Up or Reset. */
void hv_lapic_reset(struct hv_vcpu *vcpu)
{
	u32 offset;

	vcpu->lapic = (struct hv_lapic){ 0 };
	*reg(vcpu, APIC_VERSION) = VERSION;
	*reg(vcpu, APIC_DESTINATION_FORMAT) = DESTINATION_FORMAT_FLAT;
	*reg(vcpu, APIC_SPURIOUS_VECTOR) = 0xff;
	for (offset = APIC_LVT_TIMER; offset <= APIC_LVT_ERROR; offset += 16)
		*reg(vcpu, offset) = APIC_LVT_MASKED;
	set_ids(vcpu);
}

bool hv_lapic_is_base(const struct hv_vcpu *vcpu, u64 base)
{
	const struct kvm_cpuid_entry2 *features = hv_cpuid_entry(vcpu, 1, 0);
	const u64 reserved = BITS(63, vcpu->widths.physical) | BIT(9) | BITS(7, 0);

	/* What it has is good, also where its CPUID has become another one. */
	if (base == vcpu->apic_base)
		return true;
	if (base & reserved || (base & APIC_BASE_X2APIC && !(base & APIC_BASE_ENABLE)))
		return false;
	return !(base & APIC_BASE_X2APIC) || (features && features->ecx & BIT(21));
}

bool hv_lapic_set_base(struct hv_vcpu *vcpu, u64 base, bool by_user_space)
{
	enum apic_mode before = FIELD(vcpu->apic_base, 11, 10), after = FIELD(base, 11, 10);

	if (!hv_lapic_is_base(vcpu, base))
		return false;
	/* Figure 13-27. */
	if (!by_user_space && ((before == APIC_X2APIC && after == APIC_XAPIC) ||
			       (before == APIC_DISABLED && after == APIC_X2APIC)))
		return false;
	vcpu->apic_base = base;
	if (!vcpu->vm->irqchip)
		return true;
	if (vcpu->running)
		hv_lapic_place(vcpu);
	if (before != after && after == APIC_DISABLED)
		hv_lapic_reset(vcpu);
	else if (before != after)
		set_ids(vcpu);
	return true;
}

u64 hv_lapic_cr8(const struct hv_vcpu *vcpu)
{
	return get(vcpu, APIC_TASK_PRIORITY) >> 4;
}

void hv_lapic_set_cr8(struct hv_vcpu *vcpu, u64 cr8)
{
	*reg(vcpu, APIC_TASK_PRIORITY) = cr8 << 4;
}
