/*
 * Last-branch records, in two kinds: that of IA32_DEBUGCTL.LBR, of which only the number of the
 * newest counts, and that of IA32_LBR_CTL, volume 3, chapter 19. And bus locks, 27.6.2.
 *
 * The real processor records nothing, and tells of no bus lock. The pretended one knows the
 * branches that cases make: JMP SHORT as the first instruction in the guest, an injected event, and
 * in the host one branch while IA32_DEBUGCTL.LBR is 1. The locked instruction that it knows is
 * LOCK INC dword [RBX].
 */
#include "rehearsal/rehearsal.h"

#define RECORDS			32
#define JMP_SHORT		0xeb
#define IA32_LBR_DEPTH		0x14cf
#define LBR_NEWEST		0x1c9
#define LBR_FROM(n)		(0x1500 + (n))
#define LBR_TO(n)		(0x1600 + (n))
#define LBR_ENABLE		BIT(0)
#define CACHE_LINE		64

static void record(u64 from, u64 to)
{
	u64 *newest = pretended_msr(LBR_NEWEST);

	if (rehearsed_rdmsr(IA32_DEBUGCTL) & DEBUGCTL_LBR)
		*newest = (*newest + 1) % RECORDS;
	if (!(*pretended_msr(IA32_LBR_CTL) & LBR_ENABLE))
		return;
	*pretended_msr(LBR_FROM(1)) = *pretended_msr(LBR_FROM(0));
	*pretended_msr(LBR_TO(1)) = *pretended_msr(LBR_TO(0));
	*pretended_msr(LBR_FROM(0)) = from;
	*pretended_msr(LBR_TO(0)) = to;
}

void branches_msr_written(u32 msr, u64 before, u64 value)
{
	u64 *newest = pretended_msr(LBR_NEWEST);
	u32 i;

	if (msr == IA32_DEBUGCTL && before & ~value & DEBUGCTL_LBR)
		*newest = (*newest + 1) % RECORDS;
	/* 19.1: a write of the depth clears all records. */
	for (i = 0; msr == IA32_LBR_DEPTH && i < 2; i++)
		*pretended_msr(LBR_FROM(i)) = *pretended_msr(LBR_TO(i)) = 0;
}

/* The first bytes of the guest, which runs where the host does; NULL: it does not. */
static const u8 *guest_code(void)
{
	u64 rip = vmread_known(GUEST_RIP);

	return rip >> 30 ? NULL : (const u8 *)rip;
}

/* --- records of one stay in the guest -------------------------------------------------------- */

static u64 from, jump_target;
static bool injects;

void branches_begin(void)
{
	const u8 *code = guest_code();

	from = vmread_known(GUEST_RIP);
	injects = field_get(INJECTED_EVENT_IDENTIFICATION) & INJECTED_VALID;
	jump_target = code && code[0] == JMP_SHORT ? from + 2 + (signed char)code[1] : 0;
}

/* In the guest, then: the MSRs are not yet those of the host. */
void branches_end(void)
{
	if (injects && !fault(FAULT_no_record_of_injection))
		record(from, vmread_known(GUEST_RIP));
	else if (!injects && jump_target)
		record(from, jump_target);
	if (fault(FAULT_records_transitions))
		record(vmread_known(GUEST_RIP), vmread_known(HOST_RIP));
}

/* --- bus locks ------------------------------------------------------------------------------- */

static bool stepping;
static u64 flags, bitmap;

/* LOCK INC dword [RBX], across two cache lines. */
static bool is_bus_lock(const u8 *code, u64 rbx)
{
	return code && code[0] == 0xf0 && code[1] == 0xff && code[2] == 0x03 &&
	       rbx % CACHE_LINE > CACHE_LINE - sizeof(u32);
}

/* One instruction, by TF: the single-step trap comes behind it. */
void bus_lock_arm(const struct general_registers *regs)
{
	stepping = control_on(CONTROL_PROC2_VMM_BUS_LOCK_DETECTION) &&
		   !fault(FAULT_bus_lock_unnoticed) && is_bus_lock(guest_code(), regs->rbx);
	if (!stepping)
		return;
	flags = vmread_known(GUEST_RFLAGS);
	bitmap = vmread_known(EXCEPTION_BITMAP);
	vmwrite_known(GUEST_RFLAGS, flags | RFLAGS_TF);
	vmwrite_known(EXCEPTION_BITMAP, bitmap | BIT(VECTOR_DB));
}

void bus_lock_disarm(void)
{
	if (!stepping)
		return;
	vmwrite_known(EXCEPTION_BITMAP, bitmap);
	if (!(flags & RFLAGS_TF))
		vmwrite_known(GUEST_RFLAGS, vmread_known(GUEST_RFLAGS) & ~RFLAGS_TF);
}

/* 28.2, exit reason 74; bit 26 of the reason: 30.2.1. */
void bus_lock_exit(u32 reason)
{
	if (stepping && reason == EXIT_EXCEPTION_OR_NMI)
		exit_begin(EXIT_BUS_LOCK | (fault(FAULT_bus_lock_without_bit_26) ? 0 : BIT(26)));
}
