#include "ept/probe.h"
#include "cpu/features.h"
#include "ept/violation.h"
#include "mmu/pages.h"

/* In the lower half, with another index at each level, none of them 0. */
#define PROBE_LINEAR	0x0000124689a5c000ull
/* The same for guest-physical addresses; bit 39 only where they are that wide. */
#define PROBE_GPA	0x000000854145b000ull

GUEST_INSTRUCTION(ept_probe_read, "movq guest_value, %rbx; movq guest_value2, %rax",
		  "movq (%rbx), %rax");
GUEST_INSTRUCTION(ept_probe_write, "movq guest_value, %rbx; movq guest_value2, %rax",
		  "movq %rax, (%rbx)");
GUEST_INSTRUCTION(ept_probe_fetch, "movq guest_value, %rbx", "jmp *%rbx");

static const struct guest_code *const guests[] = {
	[ACCESS_READ] = &guest_ept_probe_read,
	[ACCESS_WRITE] = &guest_ept_probe_write,
	[ACCESS_FETCH] = &guest_ept_probe_fetch,
};

bool need_own_pml4e(u64 unused __maybe_unused)
{
	return maxphyaddr() > 39;
}

static u64 probe_gpa(enum paging_level size, u64 offset)
{
	u64 gpa = PROBE_GPA & (BIT(maxphyaddr()) - 1);

	return (gpa & ~(level_size(size) - 1)) + offset;
}

void ept_probe_start(struct ept_probe *probe, enum paging_level size, u64 eptp_flags)
{
	enum paging_level level;
	u64 offset;

	*probe = (struct ept_probe){ .size = size, .linear = PROBE_LINEAR };
	probe->page = page_alloc_filled(PROBE_CONTENT);
	offset = physical(probe->page) % level_size(size);
	probe->gpa = probe_gpa(size, offset);

	ept_start(&probe->ept, eptp_flags);
	ept_map(&probe->ept, probe->gpa - offset, physical(probe->page) - offset,
		probe->ept.all_rights | EPT_MEMORY_TYPE(EPT_WB), size);
	for (level = size; level <= LEVEL_PML4E; level++)
		probe->entry[level] = ept_entry(&probe->ept, probe->gpa, level);

	space_copy(&probe->guest);
	space_map(&probe->guest, probe->linear, probe->gpa, PTE_P | PTE_RW, LEVEL_PTE);
	for (level = LEVEL_PTE; level <= LEVEL_PML4E; level++)
		probe->guest_entry[level] = space_entry(&probe->guest, probe->linear, level);
	vmwrite(GUEST_CR3, physical(probe->guest.pml4));
}

outcome_t ept_probe_enter(struct ept_probe *probe, enum access access)
{
	probe->access = access;
	guest_value = probe->linear;
	guest_value2 = PROBE_WRITTEN;
	return enter(guests[access]->run);
}

static void expect_register(const char *file, u32 line, const char *name, u64 got, u64 want)
{
	char what[80];

	format(what, sizeof(what), "%s at the exit", name);
	case_expect_equal(file, line, what, got, want);
}

void ept_probe_expect_not_done(const char *file, u32 line, const struct ept_probe *probe)
{
	const struct guest_snapshot *before = &guest_snapshot;
	u64 rip = probe->access == ACCESS_FETCH ? probe->linear : (u64)guests[probe->access]->at;

	expect_register(file, line, "RIP", vmread(GUEST_RIP), rip);
	expect_register(file, line, "RFLAGS but RF", vmread(GUEST_RFLAGS) & ~RFLAGS_RF,
			before->rflags & ~RFLAGS_RF);
	expect_register(file, line, "RSP", vmread(GUEST_RSP), before->rsp);
	expect_register(file, line, "RAX", guest_regs()->rax, before->regs.rax);
	expect_register(file, line, "RBX", guest_regs()->rbx, before->regs.rbx);
	expect_register(file, line, "RCX", guest_regs()->rcx, before->regs.rcx);
	case_expect_equal(file, line, "*probe->page", *probe->page, PROBE_CONTENT);
}

void ept_probe_expect_made(const char *file, u32 line, const struct ept_probe *probe)
{
	if (guest_outcome() != OUTCOME_DONE)
		outcome_expect(file, line, "guest_outcome()", guest_outcome(),
			       &(const outcome_t){ OUTCOME_DONE }, 1);
	if (probe->access == ACCESS_READ)
		case_expect_equal(file, line, "RAX, read by the guest", guest_regs()->rax,
				  PROBE_CONTENT);
	case_expect_equal(file, line, "*probe->page", *probe->page,
			  probe->access == ACCESS_WRITE ? PROBE_WRITTEN : PROBE_CONTENT);
}

u64 ept_probe_qualification(enum access access)
{
	static const u64 bits[] = {
		[ACCESS_READ] = VIOLATION_READ,
		[ACCESS_WRITE] = VIOLATION_WRITE,
		[ACCESS_FETCH] = VIOLATION_FETCH,
	};

	/* Guest paging: a supervisor-mode address, a read/write page without XD. */
	return bits[access] | VIOLATION_LINEAR_VALID | VIOLATION_TRANSLATED |
	       VIOLATION_PAGE_WRITABLE;
}
