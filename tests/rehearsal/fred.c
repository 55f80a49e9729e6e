/*
 * The delivery of events to a guest with CR4.FRED: volume 3, chapter 8; of events that an entry
 * injects 29.6.1.1, what exits report of a delivery 30.2.2 to 30.2.4. And ERETS and ERETU, 28.3.
 *
 * The real processor never sees such an event: the one that an entry injects is taken out of the
 * VMCS, and all exceptions of the guest exit. They are delivered here, in memory and in the VMCS.
 */
#include "cpu/cpu.h"
#include "mmu/build.h"
#include "rehearsal/rehearsal.h"

struct event {
	u32 type, vector;
	bool has_error, nested;
	u64 error, data, length;
};

/* What is pushed, from the lowest address on. */
struct frame {
	u64 error, rip, cs, rflags, rsp, ss, data, reserved;
};

bool fred_guest(void)
{
	return field_get(GUEST_CR4) & CR4_FRED;
}

void fred_exception_bitmap(void)
{
	vmwrite_known(EXCEPTION_BITMAP, fred_guest() ? BITS(31, 0) : field_get(EXCEPTION_BITMAP));
}

/*
 * Blocking by NMI as this stay in the guest has left it. The real processor has not seen the NMI,
 * nor the return from it.
 */
static enum { AS_SAVED, BLOCKED, UNBLOCKED } nmis;

void fred_begin_stay(void)
{
	nmis = AS_SAVED;
}

void fred_end_stay(void)
{
	u64 state = field_get(GUEST_INTERRUPTIBILITY_STATE);

	if (nmis != AS_SAVED)
		field_put(GUEST_INTERRUPTIBILITY_STATE, (state & ~(u64)BLOCKING_BY_NMI) |
			  (nmis == BLOCKED ? BLOCKING_BY_NMI : 0));
}

/* --- exits of a delivery --------------------------------------------------------------------- */

static u64 identification(const struct event *event)
{
	bool nested = event->nested && !fault(FAULT_fred_nothing_is_nested);

	if (event->type == EVENT_TYPE_HARDWARE_EXCEPTION && fault(FAULT_fred_everything_is_nested))
		nested = true;
	return INJECTED_EVENT(event->type, event->vector) | (nested ? INJECTED_NESTED : 0) |
	       (event->has_error ? INJECTED_ERROR_CODE : 0);
}

/* 30.2.4 Information About Events Being Delivered. */
static void report_original(const struct event *event)
{
	u64 data = fault(FAULT_fred_data_from_the_vmcs) ? field_get(INJECTED_EVENT_DATA) :
		   fault(FAULT_fred_loses_event_data) ? 0 : event->data;

	exit_information(ORIGINAL_EVENT_IDENTIFICATION, identification(event));
	exit_information(ORIGINAL_EVENT_ERROR_CODE, event->error);
	exit_information(ORIGINAL_EVENT_DATA, data);
	exit_information(VM_EXIT_INSTRUCTION_LENGTH, event->length);
}

/* 30.2.2 Information for VM Exits Due to Vectored Events; `original` NULL: none. */
static enum next exit_by_exception(const struct event *event, const struct event *original)
{
	exit_begin(EXIT_EXCEPTION_OR_NMI);
	exit_information(EXITING_EVENT_IDENTIFICATION, identification(event));
	exit_information(EXITING_EVENT_ERROR_CODE, event->error);
	exit_information(EXIT_QUALIFICATION, event->data);
	if (original)
		report_original(original);
	/* 30.3.3: but for a double fault. */
	if (event->vector != VECTOR_DF)
		vmwrite_known(GUEST_RFLAGS, vmread_known(GUEST_RFLAGS) | RFLAGS_RF);
	return NEXT_EXIT;
}

/* Table 30-7: a write, by a linear address that has been translated. */
static enum next exit_by_ept(u64 address, u64 rights, const struct event *original)
{
	exit_begin(EXIT_EPT_VIOLATION);
	exit_information(EXIT_QUALIFICATION, BIT(1) | rights << 3 | BIT(7) | BIT(8));
	exit_information(GUEST_LINEAR_ADDRESS, address);
	exit_information(GUEST_PHYSICAL_ADDRESS, address);
	report_original(original);
	return NEXT_EXIT;
}

/* --- the stack ------------------------------------------------------------------------------- */

/*
 * The rights that four levels of tables give in bits 2:0, as EPT and 64-bit paging have them (read
 * or present, write). What they map is where the host has it, too.
 */
static u64 rights(u64 table, u64 address)
{
	u64 all = BITS(2, 0), entry;
	int shift;

	for (shift = 39; shift >= 12; shift -= 9) {
		entry = ((const u64 *)(table & BITS(51, 12)))[address >> shift & 511];
		all &= entry;
		if (!(entry & 1) || (shift < 39 && entry & BIT(7)))
			break;
		table = entry;
	}
	return all;
}

static bool is_written(u64 rights)
{
	return (rights & BITS(1, 0)) == BITS(1, 0);
}

/* --- which handler, which stack: 8.3.1 ------------------------------------------------------- */

static u32 cpl(void)
{
	return RIGHTS_DPL(vmread_known(GUEST_SS_ACCESS_RIGHTS));
}

static u32 current_level(void)
{
	return cpl() ? 0 : FIELD(*pretended_msr(IA32_FRED_CONFIG), 1, 0);
}

/* Of the event itself, by IA32_FRED_CONFIG or IA32_FRED_STKLVLS. */
static u32 own_level(const struct event *event)
{
	switch (event->type) {
	case EVENT_TYPE_EXTERNAL_INTERRUPT:
		return FIELD(*pretended_msr(IA32_FRED_CONFIG), 10, 9);
	case EVENT_TYPE_SOFTWARE_INTERRUPT:
	case EVENT_TYPE_OTHER:
		return 0;
	}
	return *pretended_msr(IA32_FRED_STKLVLS) >> 2 * event->vector & 3;
}

static u32 stack_level(const struct event *event)
{
	u32 own = fault(FAULT_fred_one_level) ? 0 : own_level(event);

	if (cpl() && !event->nested && event->vector != VECTOR_DF &&
	    !fault(FAULT_fred_level_at_cpl_3))
		return 0;
	return own > current_level() ? own : current_level();
}

static u64 stack_of(u32 level)
{
	u64 config = *pretended_msr(IA32_FRED_CONFIG);

	if (cpl() || level > current_level())
		return *pretended_msr(IA32_FRED_RSP0 + level);
	return (vmread_known(GUEST_RSP) - FIELD(config, 8, 6) * 64) & ~63ull;
}

/* --- the frame: 8.3.2 ------------------------------------------------------------------------ */

#define MARK(bit, is)	((is) ? BIT(bit) : 0)

static u64 augmented_ss(const struct event *event)
{
	bool marks = !fault(FAULT_fred_no_marks);
	bool software = event->type == EVENT_TYPE_SOFTWARE_INTERRUPT ||
			event->type == EVENT_TYPE_OTHER;
	u64 blocking = vmread_known(GUEST_INTERRUPTIBILITY_STATE);
	u64 length = fault(FAULT_fred_length_always) ? vmread_known(VM_ENTRY_INSTRUCTION_LENGTH) :
		     event->length;

	return vmread_known(GUEST_SS_SELECTOR) |
	       MARK(16, blocking & BLOCKING_BY_STI && !fault(FAULT_fred_no_sti)) |
	       MARK(17, software && marks) | MARK(18, event->type == EVENT_TYPE_NMI && marks) |
	       (u64)event->vector << 32 | (u64)event->type << 48 | BIT(57) |
	       MARK(58, event->nested && !fault(FAULT_fred_frame_not_nested)) | length << 60;
}

static void push(struct frame *frame, const struct event *event)
{
	bool error = event->has_error || fault(FAULT_fred_error_code_always);

	*frame = (struct frame){
		.error = error ? event->error : 0,
		.rip = vmread_known(GUEST_RIP) + event->length,
		.cs = vmread_known(GUEST_CS_SELECTOR) | (u64)current_level() << 16,
		.rflags = vmread_known(GUEST_RFLAGS),
		.rsp = vmread_known(GUEST_RSP),
		.ss = augmented_ss(event),
		.data = fault(FAULT_fred_no_event_data) ? 0 : event->data,
	};
}

/* 8.3.1: a flat CS and the SS behind it. */
static void load_segments(void)
{
	u64 selector = FIELD(rdmsr(IA32_STAR), 47, 32) & ~3ull;

	vmwrite_known(GUEST_CS_SELECTOR, selector);
	vmwrite_known(GUEST_CS_ACCESS_RIGHTS, 0xa09b);
	vmwrite_known(GUEST_SS_SELECTOR, selector + 8);
	vmwrite_known(GUEST_SS_ACCESS_RIGHTS, 0xc093);
}

static enum next go_to_handler(const struct event *event, u64 rsp, u32 level)
{
	u64 *config = pretended_msr(IA32_FRED_CONFIG);
	bool for_cpl_3 = cpl() || fault(FAULT_fred_handler_elsewhere);
	u64 blocking = field_get(GUEST_INTERRUPTIBILITY_STATE) &
		       ~(u64)(BLOCKING_BY_STI | BLOCKING_BY_MOV_SS);

	push((struct frame *)rsp, event);
	vmwrite_known(GUEST_RIP, (*config & ~BITS(11, 0)) + (for_cpl_3 ? 0 : 256));
	vmwrite_known(GUEST_RSP, rsp);
	vmwrite_known(GUEST_RFLAGS, RFLAGS_FIXED);
	field_put(GUEST_INTERRUPTIBILITY_STATE, blocking);
	if (event->type == EVENT_TYPE_NMI)
		nmis = BLOCKED;
	field_put(GUEST_PENDING_DEBUG_EXCEPTIONS, 0);
	*config = (*config & ~BITS(1, 0)) | level;
	if (cpl() && !fault(FAULT_fred_keeps_cpl))
		load_segments();
	return NEXT_RESUME;
}

/* --- the delivery ---------------------------------------------------------------------------- */

static bool exits(u32 vector)
{
	return field_get(EXCEPTION_BITMAP) >> vector & 1;
}

static enum next deliver(const struct event *event);

/* A push meets a page fault: nested, or, where the event was a page fault, a double fault. */
static enum next deliver_page_fault(const struct event *event, u64 address)
{
	const struct event page_fault = {
		.type = EVENT_TYPE_HARDWARE_EXCEPTION, .vector = VECTOR_PF, .has_error = true,
		.nested = true, .error = PF_WR, .data = address,
	};
	static const struct event double_fault = {
		.type = EVENT_TYPE_HARDWARE_EXCEPTION, .vector = VECTOR_DF, .has_error = true,
	};
	bool twice = event->type == EVENT_TYPE_HARDWARE_EXCEPTION && event->vector == VECTOR_PF;

	if (event->vector == VECTOR_DF) {
		exit_begin(EXIT_TRIPLE_FAULT);
		return NEXT_EXIT;
	}
	if (!twice && exits(VECTOR_PF))
		return exit_by_exception(&page_fault, event);
	write_cr2(address);
	if (twice && exits(VECTOR_DF))
		return exit_by_exception(&double_fault, NULL);
	return deliver(twice ? &double_fault : &page_fault);
}

static enum next deliver(const struct event *event)
{
	u32 level = stack_level(event);
	u64 rsp = stack_of(level) - sizeof(struct frame), allowed;

	if (!is_written(rights(vmread_known(GUEST_CR3), rsp)))
		return deliver_page_fault(event, rsp + offsetof(struct frame, reserved));
	if (control_on(CONTROL_PROC2_ENABLE_EPT)) {
		allowed = rights(vmread_known(EPT_POINTER), rsp);
		if (!is_written(allowed))
			return exit_by_ept(rsp, allowed, event);
	}
	return go_to_handler(event, rsp, level);
}

/* --- injection ------------------------------------------------------------------------------- */

static u64 injected;

bool fred_take_injection(void)
{
	injected = field_get(INJECTED_EVENT_IDENTIFICATION);
	if (!fred_guest() || !(injected & INJECTED_VALID))
		return false;
	vmwrite_known(INJECTED_EVENT_IDENTIFICATION, 0);
	return true;
}

void fred_put_back(void)
{
	field_put(INJECTED_EVENT_IDENTIFICATION, injected);
}

enum next fred_inject(void)
{
	struct event event = {
		.type = FIELD(injected, 10, 8), .vector = FIELD(injected, 7, 0),
		.has_error = injected & INJECTED_ERROR_CODE,
		.nested = injected & INJECTED_NESTED,
		.error = vmread_known(INJECTED_EVENT_ERROR_CODE),
		.data = field_get(INJECTED_EVENT_DATA),
	};

	/* 30.2: the exit has cleared the valid bit alone. */
	field_put(INJECTED_EVENT_IDENTIFICATION, injected & ~INJECTED_VALID);
	if (event.type >= EVENT_TYPE_SOFTWARE_INTERRUPT)
		event.length = vmread_known(VM_ENTRY_INSTRUCTION_LENGTH);
	return deliver(&event);
}

/* --- exceptions of the guest; ERETS and ERETU ------------------------------------------------ */

/* 28.3: whether NMIs, or virtual ones, are unblocked by a return from an NMI. */
static bool unblocks_nmis(const struct frame *frame)
{
	bool marked = frame->ss & BIT(18) || fault(FAULT_eret_always_unblocks);

	if (fault(FAULT_eret_never_unblocks))
		return false;
	return marked && (!control_on(CONTROL_PIN_NMI_EXITING) ||
			  control_on(CONTROL_PIN_VIRTUAL_NMIS) ||
			  fault(FAULT_eret_ignores_nmi_exiting));
}

static void event_return(bool to_user)
{
	const struct frame *frame = (const struct frame *)vmread_known(GUEST_RSP);
	u64 *config = pretended_msr(IA32_FRED_CONFIG);

	if (unblocks_nmis(frame))
		nmis = UNBLOCKED;
	*config = (*config & ~BITS(1, 0)) | (to_user ? 0 : FIELD(frame->cs, 17, 16));
	vmwrite_known(GUEST_RIP, frame->rip);
	vmwrite_known(GUEST_RFLAGS, frame->rflags);
	if (to_user) {
		vmwrite_known(GUEST_CS_SELECTOR, frame->cs & 0xffff);
		vmwrite_known(GUEST_CS_ACCESS_RIGHTS, 0xa0fb);
		vmwrite_known(GUEST_SS_SELECTOR, frame->ss & 0xffff);
		vmwrite_known(GUEST_SS_ACCESS_RIGHTS, 0xc0f3);
	}
	vmwrite_known(GUEST_RSP, frame->rsp);
}

/* To the real processor they are #UD. */
static bool is_event_return(u64 rip, bool *to_user)
{
	const u8 *code = (const u8 *)rip;

	if (rip >> 30 || (code[0] | 1) != 0xf3 || code[1] != 0x0f || code[2] != 0x01 ||
	    code[3] != 0xca)
		return false;
	*to_user = code[0] == 0xf3;
	return true;
}

enum next fred_exit(u32 reason)
{
	u64 exiting = vmread_known(EXITING_EVENT_IDENTIFICATION);
	struct event event = {
		.type = FIELD(exiting, 10, 8), .vector = FIELD(exiting, 7, 0),
		.has_error = exiting & INJECTED_ERROR_CODE,
		.error = vmread_known(EXITING_EVENT_ERROR_CODE),
	};
	bool to_user;

	if (!fred_guest() || reason != EXIT_EXCEPTION_OR_NMI ||
	    event.type != EVENT_TYPE_HARDWARE_EXCEPTION)
		return NEXT_EXIT;
	if (exits(event.vector))
		return fault(FAULT_fred_everything_is_nested) ? exit_by_exception(&event, NULL) :
		       NEXT_EXIT;
	if (event.vector == VECTOR_UD && is_event_return(vmread_known(GUEST_RIP), &to_user)) {
		event_return(to_user);
		return NEXT_RESUME;
	}
	if (event.vector == VECTOR_PF) {
		event.data = vmread_known(EXIT_QUALIFICATION);
		write_cr2(event.data);
	}
	return deliver(&event);
}
