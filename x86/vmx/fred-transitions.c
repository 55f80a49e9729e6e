/*
 * A guest with FRED transitions: what exits report that come while an event is delivered, and what
 * the returns from events do to the blocking of NMIs.
 *
 * An exception that is met during the delivery of another event is a nested exception; it says so
 * in bit 13 of the event that exits (30.2.2) or, when its own delivery does not succeed, of the
 * original event (30.2.4), which then also has its event data. ERETS and ERETU unblock NMIs only
 * where the frame says that the event was an NMI; the NMI controls change that as they do for IRET
 * (28.3).
 */
#include "ept/ept.h"
#include "mmu/build.h"
#include "mmu/pages.h"
#include "vmx/fred.h"
#include "vmx/injection.h"

BEFORE_EACH_CASE(fred_begin);

#define FRED_GUEST	VMX, FRED_GUEST_NEEDS
#define EVENT_DATA	0x123456789abcdef0ull
#define EVENT_ERROR	BIT(11)
#define EVENT_NESTED	BIT(13)
#define EXCEPTION(vector)	INJECTED_EVENT(EVENT_TYPE_HARDWARE_EXCEPTION, vector)
#define FOREIGN_STACK	(UNMAPPED_ADDRESS + 0x800)
#define PUSHED_AT	(UNMAPPED_ADDRESS + 0x800 - 1)	/* the highest byte of the frame */

GUEST_CODE(cpuid, "", "cpuid");
GUEST_CODE(ud2, "", "ud2");
GUEST_CODE(read, "", "movq (%rbx), %rax");

static const struct injected_event interrupt = { .type = EVENT_TYPE_EXTERNAL_INTERRUPT,
						 .vector = 0x51,
						 .rflags = RFLAGS_IF };
static const struct injected_event page_fault = { .type = EVENT_TYPE_HARDWARE_EXCEPTION,
						  .vector = VECTOR_PF,
						  .has_error = true };
static const struct injected_event nmi = { .type = EVENT_TYPE_NMI, .vector = VECTOR_NMI };

/* Bits 13 and 31:0 of what is valid; bit 12 of an event is another matter. */
#define EVENT(field)	(vmread(field) & ~BIT(12))

/* As inject_event(), with RSP where the case wants the frame. */
static outcome_t inject_on(u64 rsp, const struct injected_event *event)
{
	vmwrite(INJECTED_EVENT_IDENTIFICATION, injected_identification(event));
	vmwrite(INJECTED_EVENT_ERROR_CODE, 0);
	vmwrite(INJECTED_EVENT_DATA, EVENT_DATA);
	vmwrite(VM_ENTRY_INSTRUCTION_LENGTH, 0);
	vmwrite(GUEST_RFLAGS, RFLAGS_FIXED | event->rflags);
	vmwrite(GUEST_RIP, (u64)guest_cpuid.at);
	vmwrite(GUEST_RSP, rsp);
	return resume();
}

/* --- the event that exits ----------------------------------------------------------------- */

CASE(nested_exception_exits, PROVES("host-and-exit:exit.event.nested",
     "field-formats:exiting_event.nested"), NEEDS(FRED_GUEST))
{
	vmwrite(EXCEPTION_BITMAP, BIT(VECTOR_PF));
	REQUIRE(inject_on(FOREIGN_STACK, &interrupt), OUTCOME_EXIT(EXIT_EXCEPTION_OR_NMI));
	EXPECT_EQ(EVENT(EXITING_EVENT_IDENTIFICATION),
		  EXCEPTION(VECTOR_PF) | EVENT_ERROR | EVENT_NESTED);
	EXPECT_EQ(vmread(EXITING_EVENT_ERROR_CODE), PF_WR);
	EXPECT_EQ(EVENT(ORIGINAL_EVENT_IDENTIFICATION), injected_identification(&interrupt));
}

CASE(first_exception_is_not_nested, PROVES("host-and-exit:exit.event.nested",
     "field-formats:exiting_event.nested"), NEEDS(FRED_GUEST))
{
	vmwrite(EXCEPTION_BITMAP, BIT(VECTOR_UD));
	REQUIRE(enter_at_instruction(&guest_ud2), OUTCOME_EXIT(EXIT_EXCEPTION_OR_NMI));
	EXPECT_EQ(EVENT(EXITING_EVENT_IDENTIFICATION), EXCEPTION(VECTOR_UD));
}

CASE(double_fault_is_not_nested, PROVES("host-and-exit:exit.event.nested",
     "field-formats:exiting_event.nested"), NEEDS(FRED_GUEST))
{
	vmwrite(EXCEPTION_BITMAP, BIT(VECTOR_DF));
	REQUIRE(inject_on(FOREIGN_STACK, &page_fault), OUTCOME_EXIT(EXIT_EXCEPTION_OR_NMI));
	EXPECT_EQ(vmread(EXITING_EVENT_IDENTIFICATION) & (BIT(31) | EVENT_NESTED | BITS(10, 0)),
		  EXCEPTION(VECTOR_DF));
}

/* --- the original event ------------------------------------------------------------------- */

/* EPT lets the stack of `level` be read only, so that a delivery to it exits. */
static void protect_stack(u32 level)
{
	u64 page = fred_stack_top(level) - PAGE_SIZE;
	struct ept ept;

	ept_start(&ept, 0);
	ept_map(&ept, page, page, EPT_READ | EPT_MEMORY_TYPE(EPT_WB), LEVEL_PTE);
	ept_invalidate(&ept);
}

CASE(nested_original_event, PROVES("host-and-exit:exit.orig.data",
     "field-formats:original_event.nested"), NEEDS(FRED_GUEST, EPT))
{
	protect_stack(1);
	fred_set_level(VECTOR_PF, 1);
	REQUIRE(inject_on(FOREIGN_STACK, &interrupt), OUTCOME_EXIT(EXIT_EPT_VIOLATION));
	EXPECT_EQ(EVENT(ORIGINAL_EVENT_IDENTIFICATION),
		  EXCEPTION(VECTOR_PF) | EVENT_ERROR | EVENT_NESTED);
	/* The event data of a page fault are the address; which byte of the frame is not said. */
	EXPECT_EQ(vmread(ORIGINAL_EVENT_DATA) & ~0xfffull, PUSHED_AT & ~0xfffull);
}

CASE(original_event_that_is_not_nested, PROVES("host-and-exit:exit.orig.data",
     "field-formats:original_event.nested"), NEEDS(FRED_GUEST, EPT))
{
	protect_stack(0);
	REQUIRE(inject_on(fred_stack_top(0), &interrupt), OUTCOME_EXIT(EXIT_EPT_VIOLATION));
	EXPECT_EQ(EVENT(ORIGINAL_EVENT_IDENTIFICATION), injected_identification(&interrupt));
	EXPECT_EQ(vmread(ORIGINAL_EVENT_DATA), EVENT_DATA);
}

/* Events of the guest itself: the address of a page fault, and 0 where there is nothing to tell. */
CASE(data_of_events_of_the_guest, PROVES("host-and-exit:exit.orig.data"), NEEDS(FRED_GUEST, EPT))
{
	protect_stack(0);
	vmwrite(INJECTED_EVENT_DATA, EVENT_DATA);
	vmwrite(GUEST_RSP, fred_stack_top(0));
	vmwrite(GUEST_RIP, (u64)guest_ud2.at);
	REQUIRE(resume(), OUTCOME_EXIT(EXIT_EPT_VIOLATION));
	EXPECT_EQ(EVENT(ORIGINAL_EVENT_IDENTIFICATION), EXCEPTION(VECTOR_UD));
	EXPECT_EQ(vmread(ORIGINAL_EVENT_DATA), 0);
	guest_regs()->rbx = UNMAPPED_ADDRESS + 0x123;
	vmwrite(GUEST_RIP, (u64)guest_read.at);
	REQUIRE(resume(), OUTCOME_EXIT(EXIT_EPT_VIOLATION));
	EXPECT_EQ(EVENT(ORIGINAL_EVENT_IDENTIFICATION), EXCEPTION(VECTOR_PF) | EVENT_ERROR);
	EXPECT_EQ(vmread(ORIGINAL_EVENT_DATA), UNMAPPED_ADDRESS + 0x123);
}

/* --- ERETS and ERETU: 28.3 ---------------------------------------------------------------- */

/* Handlers that return: as they were called, and without the mark of an NMI in the frame's SS. */
#define ERETS	".byte 0xf2, 0x0f, 0x01, 0xca"
#define ERETU	".byte 0xf3, 0x0f, 0x01, 0xca"
#define FORGET	"btrl $18, 40(%rsp)\n\t"
extern const u8 returning_handlers[], forgetting_handlers[];
asm(".pushsection .text\n\t.balign 4096\n"
    "returning_handlers:\n\t" ERETU "\n\t.balign 256\n\t" ERETS "\n\t.balign 4096\n"
    "forgetting_handlers:\n\t" FORGET ERETU "\n\t.balign 256\n\t" FORGET ERETS "\n\t.popsection");
_Static_assert(offsetof(struct fred_frame, ss) == 40, "the handlers change the SS of the frame");

struct nmi_return {
	bool nmi_exiting, virtual_nmis;
	bool unblocks;			/* with the mark; without it nothing unblocks */
};

/* An injected NMI blocks NMIs, or virtual ones; the guest exits when it is back. */
static u64 blocking_after_return(const u8 *handlers)
{
	fred_set_handlers(handlers);
	unblock_nmis();
	vmwrite(GUEST_INTERRUPTIBILITY_STATE, 0);
	REQUIRE(inject_event(&nmi, 0, &guest_cpuid), OUTCOME_EXIT(EXIT_CPUID));
	EXPECT_EQ(vmread(GUEST_RIP), (u64)guest_cpuid.at);
	return vmread(GUEST_INTERRUPTIBILITY_STATE);
}

static void eret(const struct case_def *this_case)
{
	const struct nmi_return *row = this_case->row;
	u32 cpl;

	if (row->nmi_exiting)
		vmcs_set_control(CONTROL_PIN_NMI_EXITING);
	if (row->virtual_nmis)
		vmcs_set_control(CONTROL_PIN_VIRTUAL_NMIS);
	for (cpl = 0; cpl <= 3; cpl += 3) {
		if (cpl)
			guest_to_user_mode();
		EXPECT_EQ(blocking_after_return(returning_handlers),
			  row->unblocks ? 0 : BLOCKING_BY_NMI);
		EXPECT_EQ(blocking_after_return(forgetting_handlers), BLOCKING_BY_NMI);
	}
}

#define ERET(name, needs, ...)							\
	static const struct nmi_return row_##name = { __VA_ARGS__ };		\
	CASE_RUN(name, eret, PROVES("interruptibility:nmi.eret"), NEEDS(FRED_GUEST needs),	\
		 ROW(&row_##name))
#define NMI_EXITING	, PIN(NMI_EXITING)
#define VIRTUAL_NMIS	, PIN(NMI_EXITING), PIN(VIRTUAL_NMIS)
ERET(eret_without_nmi_exiting, , .unblocks = true);
ERET(eret_with_nmi_exiting, NMI_EXITING, .nmi_exiting = true);
ERET(eret_with_virtual_nmis, VIRTUAL_NMIS, .nmi_exiting = true, .virtual_nmis = true,
     .unblocks = true);
