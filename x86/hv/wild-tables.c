/*
 * CR3 where no memory is: a guest can load that, and the core then has to read a table that no slot
 * holds. What is no memory reads as all ones, as a bus does that nobody answers on. So the topmost
 * entry has reserved bits (5.4, 5.5: a page fault, and as that cannot be delivered by the same
 * table, the processor shuts down), the PDPTEs of PAE paging have as well (5.4.1: #GP(0), and CR3
 * stays), and with 32-bit paging without CR4.PSE all of memory is the last page below 4 GBytes.
 * There must be no difference between EPT, where the processor walks, and shadow paging, where the
 * core does.
 */
#include "cpu/features.h"
#include "hv/paged.h"

#define POOL	400
#define NOWHERE	0x40000000	/* below 4 GBytes, in no slot */

static struct paged paged;

struct wild {
	const struct hv_mmu *mmu;
	enum paging_mode mode;
	u64 cr3, cr4;
};

static u64 highest_page(void)
{
	return BIT(maxphyaddr()) - PAGE_SIZE;
}

/* MOV to CR3; HLT if there is a next instruction. */
static u32 load(const struct wild *row)
{
	u64 cr3 = row->cr3 ? row->cr3 : highest_page();
	const struct paged_mode mode = { .mode = row->mode, .cr4 = row->cr4 };
	struct kvm_regs regs;

	hv_start(page_alloc());
	paged_start(&paged, &mode, row->mmu, POOL);
	/* The guest is in its mode, and its own tables work. */
	paged_load_cr3(&paged, paged.cr3);
	*box_at(&paged.box, BOX_CODE) = 0xf4d8220f;
	regs = (struct kvm_regs){ .rip = BOX_CODE, .rax = cr3, .rsp = BOX_STACK,
				  .rflags = RFLAGS_FIXED };
	REQUIRE_EQ(hv_vcpu_set_regs(&paged.box.vcpu, &regs), 0);
	return box_run(&paged.box);
}

static void check_shutdown(const struct case_def *this_case)
{
	EXPECT_EXIT(load(this_case->row), KVM_EXIT_SHUTDOWN);
}

static void check_gp(const struct case_def *this_case)
{
	REQUIRE_EXIT(load(this_case->row), KVM_EXIT_HLT);
	EXPECT_EQ(box_regs(&paged.box).rax & 0xff, VECTOR_GP);
	EXPECT_EQ(box_sregs(&paged.box).cr3, paged.cr3);
}

/* The code is no memory, as everything is: the same exit as for any other such code. */
static void check_no_code(const struct case_def *this_case)
{
	REQUIRE_EXIT(load(this_case->row), KVM_EXIT_INTERNAL_ERROR);
	EXPECT_EQ(paged.box.vcpu.run->internal.suberror, KVM_INTERNAL_ERROR_EMULATION);
}

#define WILD(id, check, fact, mode, cr3, cr4, ...)						\
	CASE_RUN(id##_ept, check, PROVES("paging:" fact),					\
		 NEEDS(PAGED_NEEDS(mode), ##__VA_ARGS__, BOX_NEEDS),				\
		 ROW((&(const struct wild){ &hv_mmu_ept, mode, cr3, cr4 })));			\
	CASE_RUN(id##_shadow, check, PROVES("paging:" fact),					\
		 NEEDS(PAGED_NEEDS(mode), ##__VA_ARGS__),					\
		 ROW((&(const struct wild){ &hv_mmu_shadow, mode, cr3, cr4 })))

WILD(bits_32, check_shutdown, "rsvd.32.bit21", PAGING_32_BIT, NOWHERE, CR4_PSE);
WILD(bits_32_without_pse, check_no_code, "rsvd.32.pse0", PAGING_32_BIT, NOWHERE, 0);
WILD(pae, check_gp, "pdpte.gp.cr3", PAGING_PAE, NOWHERE, 0);
WILD(level_4, check_shutdown, "rsvd.4l.pml4_ps", PAGING_4_LEVEL, NOWHERE, 0);
WILD(level_4_last_page, check_shutdown, "rsvd.4l.pml4_ps", PAGING_4_LEVEL, 0, 0);
WILD(level_5, check_shutdown, "rsvd.5l.ps", PAGING_5_LEVEL, NOWHERE, 0);
