#include "cpu/apic.h"
#include "cpu/cpu.h"
#include "cpu/safe.h"
#include "cpu/smp.h"
#include "platform.h"
#include "string.h"

#define STUB_SIZE	16	/* bytes per stub in cpu/trap_entry.S */
#define GATE_INTERRUPT	0x8e
#define GATE_USER	0xee

extern const u8 trap_stubs[];

static union cpu_block blocks[PLATFORM_MAX_CPUS]
	__section(".bss.block");	/* aligned by boot/image.lds */

_Static_assert(sizeof(struct cpu) <= CPU_BLOCK_SIZE, "a processor's block must hold it all");
_Static_assert(sizeof(struct tss) == 104, "SDM 10.7 Task Management in 64-Bit Mode");

struct cpu *cpu_block(u32 index)
{
	return &blocks[index].cpu;
}

static void fill_gdt(struct cpu *cpu)
{
	static const struct {
		u16 selector;
		u64 descriptor;
	} rows[] = {
		{ SELECTOR_CODE64,	0x00af9b000000ffff },
		{ SELECTOR_DATA,	0x00cf93000000ffff },
		{ SELECTOR_CODE32,	0x00cf9b000000ffff },
		{ SELECTOR_CODE16,	0x00009b000000ffff },
		{ SELECTOR_DATA16,	0x000093000000ffff },
		{ SELECTOR_USER_CODE32,	0x00cffb000000ffff },
		{ SELECTOR_USER_DATA,	0x00cff3000000ffff },
		{ SELECTOR_USER_CODE64,	0x00affb000000ffff },
		{ SELECTOR_CODE64_CPL1,	0x00afbb000000ffff },
		{ SELECTOR_DATA_CPL1,	0x00cfb3000000ffff },
		{ SELECTOR_CODE64_CPL2,	0x00afdb000000ffff },
		{ SELECTOR_DATA_CPL2,	0x00cfd3000000ffff },
	};
	u32 i;

	memset(cpu->gdt, 0, sizeof(cpu->gdt));
	for (i = 0; i < ARRAY_SIZE(rows); i++)
		cpu->gdt[rows[i].selector / 8] = rows[i].descriptor;
	cpu_set_tss(cpu);
}

/* 16 bytes, granular by bytes: 3A 3.5.2 and 10.2.3. */
static void set_system_descriptor(struct cpu *cpu, u16 selector, u64 type, u64 base, u32 limit)
{
	cpu->gdt[selector / 8] = FIELD(limit, 15, 0) | FIELD(base, 23, 0) << 16 | type << 40 |
				 FIELD(limit, 19, 16) << 48 | FIELD(base, 31, 24) << 56;
	cpu->gdt[selector / 8 + 1] = base >> 32;
}

void cpu_set_tss(struct cpu *cpu)
{
	/* An available 64-bit TSS: LTR makes it busy. */
	set_system_descriptor(cpu, SELECTOR_TSS, 0x89, (u64)&cpu->tss, sizeof(cpu->tss) - 1);
}

void cpu_load_ldt(u64 base, u32 limit)
{
	set_system_descriptor(this_cpu(), SELECTOR_SPARE, 0x82, base, limit);
	write_ldtr(SELECTOR_SPARE);
}

void cpu_set_descriptor(u16 selector, u64 descriptor)
{
	this_cpu()->gdt[selector / 8] = descriptor;
}

static void fill_tss(struct cpu *cpu)
{
	u32 i;

	memset(&cpu->tss, 0, sizeof(cpu->tss));
	for (i = 0; i < 3; i++)
		cpu->tss.rsp[i] = (u64)cpu->trap_stack + sizeof(cpu->trap_stack);
	for (i = 0; i < ARRAY_SIZE(cpu->ist); i++)
		cpu->tss.ist[i] = (u64)cpu->ist[i] + CPU_IST_SIZE;
	cpu->tss.io_map_base = sizeof(cpu->tss);
}

/*
 * The IDT with which every case begins; made once, on the boot processor, and copied after each
 * case: a hypervisor that emulates the image would spend more on making it than on the case.
 */
static struct gate first_idt[256];

static void make_first_idt(void)
{
	struct gate gate = { .selector = SELECTOR_CODE64, .type = GATE_INTERRUPT };
	u32 i, offset = (u64)trap_stubs;	/* the image lies below 4 GiB */

	for (i = 0; i < 256; i++, offset += STUB_SIZE) {
		gate.offset_low = offset;
		gate.offset_middle = offset >> 16;
		first_idt[i] = gate;
	}
	/* User mode may use the vectors from 32 on, INT3 and INTO. */
	for (i = 32; i < 256; i++)
		first_idt[i].type = GATE_USER;
	first_idt[VECTOR_BP].type = first_idt[VECTOR_OF].type = GATE_USER;
	first_idt[VECTOR_DF].ist = IST_DF;
	first_idt[VECTOR_NMI].ist = IST_NMI;
	first_idt[VECTOR_MC].ist = IST_MC;
}

static void load_tables(struct cpu *cpu)
{
	write_gdtr((struct table_pointer){ sizeof(cpu->gdt) - 1, (u64)cpu->gdt });
	write_idtr((struct table_pointer){ sizeof(cpu->idt) - 1, (u64)cpu->idt });
	asm volatile("pushq %0\n\tleaq 1f(%%rip), %%rax\n\tpushq %%rax\n\tlretq\n1:"
		     : : "i" (SELECTOR_CODE64) : "rax", "memory");
	write_ds(SELECTOR_DATA);
	write_es(SELECTOR_DATA);
	write_ss(SELECTOR_DATA);
	write_fs(0);
	write_gs(0);
	write_ldtr(0);
	asm volatile("ltr %w0" : : "r" (SELECTOR_TSS));
}

void cpu_init(struct cpu *cpu, u32 index, u32 apic_id)
{
	cpu->self = cpu;
	cpu->index = index;
	cpu->apic_id = apic_id;
	if (index == 0)
		make_first_idt();
	fill_gdt(cpu);
	fill_tss(cpu);
	memcpy(cpu->idt, first_idt, sizeof(cpu->idt));
	load_tables(cpu);
}

/* MSRs that cases may change; those that do not exist here are left out. */
static const u32 baseline_msrs[] = {
	IA32_EFER, IA32_PAT, IA32_DEBUGCTL, IA32_SYSENTER_CS, IA32_SYSENTER_ESP, IA32_SYSENTER_EIP,
	IA32_STAR, IA32_LSTAR, IA32_CSTAR, IA32_FMASK, IA32_FS_BASE, IA32_GS_BASE,
	IA32_KERNEL_GS_BASE, IA32_TSC_AUX, IA32_XSS, IA32_PKRS, IA32_S_CET, IA32_U_CET,
	IA32_PL3_SSP,
};

static struct {
	u64 cr0, cr3, cr4;
	u64 msr[ARRAY_SIZE(baseline_msrs)];
	bool msr_exists[ARRAY_SIZE(baseline_msrs)];
} baseline;

void cpu_remember_baseline(void)
{
	u32 i;

	baseline.cr0 = read_cr0();
	baseline.cr3 = read_cr3();
	baseline.cr4 = read_cr4();
	for (i = 0; i < ARRAY_SIZE(baseline_msrs); i++)
		baseline.msr_exists[i] =
			rdmsr_safe(baseline_msrs[i], &baseline.msr[i]) == OUTCOME_DONE;
	apic_remember_baseline();
	apic_restore_baseline();
}

/* All but the APIC. */
static void restore_registers(void)
{
	struct cpu *cpu = this_cpu();
	u64 value;
	u32 i;

	asm volatile("cli; cld");
	/* First: a case may have left a breakpoint on what is written here. */
	write_dr7(DR7_FIXED);
	write_dr6(DR6_FIXED);
	cpu->in_guest = cpu->guest_died = false;
	cpu->catcher = NULL;
	memset(cpu->handlers, 0, sizeof(cpu->handlers));
	fill_gdt(cpu);
	fill_tss(cpu);
	memcpy(cpu->idt, first_idt, sizeof(cpu->idt));
	load_tables(cpu);
	if (read_cr4() & CR4_VMXE)
		ATTEMPT("vmxoff", : : "cc");
	/* CR4 first: CR0.WP cannot be cleared while CR4.CET is set. 2.5 Control Registers. */
	write_cr4(baseline.cr4);
	write_cr0(baseline.cr0);
	write_cr3(baseline.cr3);
	write_cr8(0);
	for (i = 0; i < ARRAY_SIZE(baseline_msrs); i++)
		if (baseline.msr_exists[i] &&
		    rdmsr_safe(baseline_msrs[i], &value) == OUTCOME_DONE &&
		    value != baseline.msr[i])
			wrmsr_safe(baseline_msrs[i], baseline.msr[i]);
	asm volatile("push %0; popfq" : : "i" (RFLAGS_FIXED) : "cc", "memory");
}

bool cpu_restore_this(void)
{
	restore_registers();
	return apic_restore_baseline();
}

void cpu_restore_baseline(void)
{
	bool restored;

	restore_registers();
	/* Twice: it must be on to reach the others, and they may be in the mode that it is in. */
	restored = apic_is_on() || apic_restore_baseline();
	/* A processor in VMX-abort shutdown must be left alone: 30.7. */
	if (restored && !case_will_boot_again())
		smp_restore_baseline();
	if (!restored || !apic_restore_baseline())
		case_boot_again();
}
