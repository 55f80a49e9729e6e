/* From the loaders' common entry to the first case. */
#include "boot/image_main.h"
#include "case.h"
#include "cpu/cpu.h"
#include "cpu/traps.h"
#include "mmu/pages.h"
#include "platform.h"

static struct platform platform;
static const void *platform_tree;

/* What a case has done to the processor and to memory ends with it. */
static void restore(void)
{
	cpu_restore_baseline();
	pages_free_all();
}

static const struct case_machine machine = {
	.guarded = trap_guarded,
	.leave = trap_leave,
	.restore = restore,
};

u32 platform_count(void)
{
	return this_platform()->count;
}

const struct platform *this_platform(void)
{
	return &platform;
}

static void boot_on_own_stack(void)
{
	/*
	 * The same registers wherever the image was loaded: what a loader left in them must
	 * not decide a case. CR0.CD and CR0.NW off, CR0.WP off, numeric errors native.
	 */
	write_cr0(CR0_PG | CR0_ET | CR0_NE | CR0_MP | CR0_PE);
	write_cr4(CR4_PAE);
	cpu_remember_baseline();
	if (image_main)
		image_main(&platform, platform_tree);
	cases_run(&platform, &machine);
}

/* Called by boot/entry.S on the boot stack; `tree` may be anything. */
__noreturn void boot_main(const void *tree);
void boot_main(const void *tree)
{
	const char *problem = platform_read(&platform, tree);
	struct cpu *cpu = cpu_block(0);

	if (problem)
		platform_die(&platform, problem);
	platform_tree = tree;
	cpu_init(cpu, 0, platform.apic_id[0]);
	asm volatile("mov %0, %%rsp\n\tcall *%1"
		     : : "r" ((u64)cpu->stack + sizeof(cpu->stack)), "r" (boot_on_own_stack));
	__builtin_unreachable();
}
