#include "hv/paged.h"
#include "cpu/features.h"
#include "mmu/build.h"
#include "string.h"

#define TABLES		0xa000		/* the fixed ones, topmost first */
#define TSS		0x9000
#define USER_CODE	0xf000		/* linear: BOX_CODE once more, for CPL 3 */
#define RESET_FLAGS	(PTE_P | PTE_RW | PTE_A | PTE_D)
#define ROOT_TWIN	((PAGED_PAGES + PAGED_ROM_PAGES) * PAGE_SIZE)	/* in paged->before */
#define OPCODE_UD2	0x0b0f
#define CANARY		0x5ca1ab1e5ca1ab1e
#define DEVICE_DATA	0x99aabbccddeeff80

/* Each at a multiple of 16 bytes. What is done runs into UD2, which CPL 3 may execute, too. */
enum program { READ = 0x00, WRITE = 0x10, FETCH = 0x20, LOAD_CR3 = 0x30, INVALIDATE = 0x40,
	       SET_PKRU = 0x50 };

#define AT(name, program)	"\n\t .org box_" #name " + " STRINGIFY(program) "\n\t"
#define PROGRAMS(name, read, write, fetch, load_cr3, invalidate)		\
	read "\n\t ud2" AT(name, 0x10) write "\n\t ud2" AT(name, 0x20) fetch	\
	AT(name, 0x30) load_cr3 "\n\t hlt" AT(name, 0x40) invalidate "\n\t hlt"	\
	AT(name, 0x50) ".byte 0x0f, 0x01, 0xef\n\t hlt"

BOX_GUEST_64(programs_64, PROGRAMS(programs_64, "mov (%rdi), %rax", "mov %rax, (%rdi)", "jmp *%rdi",
				   "mov %rsi, %cr3", "invlpg (%rdi)"));
BOX_GUEST_32(programs_32, PROGRAMS(programs_32, "mov (%edi), %eax", "mov %eax, (%edi)", "jmp *%edi",
				   "mov %esi, %cr3", "invlpg (%edi)"));

static bool is_64_bit(const struct paged *paged)
{
	return paged->mode.mode >= PAGING_4_LEVEL;
}

static u32 width(const struct paged *paged)
{
	return is_64_bit(paged) ? 8 : 4;
}

static u32 entry_size(const struct paged *paged)
{
	return paged->mode.mode == PAGING_32_BIT ? 4 : 8;
}

u32 paged_levels(const struct paged *paged)
{
	static const u32 levels[PAGING_MODES] = {
		[PAGING_32_BIT] = 2, [PAGING_PAE] = 3, [PAGING_4_LEVEL] = 4, [PAGING_5_LEVEL] = 5,
	};

	return levels[paged->mode.mode];
}

u32 paged_index_bits(const struct paged *paged)
{
	return paged->mode.mode == PAGING_32_BIT ? 10 : 9;
}

bool need_paged(u64 mode)
{
	return mode != PAGING_5_LEVEL || feature(FEATURE_LA57);
}

/* --- guest memory ------------------------------------------------------------------- */

u8 *paged_bytes(struct paged *paged, u64 gpa)
{
	if (gpa < BOX_SIZE)
		return paged->box.memory + gpa;
	if (gpa - PAGED_MEMORY < PAGED_PAGES * PAGE_SIZE)
		return paged->memory + (gpa - PAGED_MEMORY);
	if (gpa - PAGED_ROM < PAGED_ROM_PAGES * PAGE_SIZE)
		return paged->rom + (gpa - PAGED_ROM);
	return NULL;
}

/* The place of a byte in the copy of memory; NULL: it is not watched. */
static u8 *twin(struct paged *paged, u64 gpa)
{
	if (gpa - TABLES < PAGE_SIZE)
		return paged->before + ROOT_TWIN + (gpa - TABLES);
	if (gpa - PAGED_MEMORY < PAGED_PAGES * PAGE_SIZE)
		return paged->before + (gpa - PAGED_MEMORY);
	if (gpa - PAGED_ROM < PAGED_ROM_PAGES * PAGE_SIZE)
		return paged->before + PAGED_PAGES * PAGE_SIZE + (gpa - PAGED_ROM);
	return NULL;
}

/* What is watched: RAM, read-only memory, and the topmost table. */
struct watched {
	u64 *memory, *copy, words;
};

#define WATCHED(paged)	{								\
	{ (u64 *)(paged)->memory, (u64 *)(paged)->before, PAGED_PAGES * PAGE_SIZE / 8 },	\
	{ (u64 *)(paged)->rom, (u64 *)((paged)->before + PAGED_PAGES * PAGE_SIZE),		\
	  PAGED_ROM_PAGES * PAGE_SIZE / 8 },							\
	{ (u64 *)((paged)->box.memory + TABLES), (u64 *)((paged)->before + ROOT_TWIN),		\
	  PAGE_SIZE / 8 },									\
}

static void copy_memory(struct paged *paged)
{
	const struct watched watched[] = WATCHED(paged);
	u64 i, j;

	for (i = 0; i < ARRAY_SIZE(watched); i++)
		for (j = 0; j < watched[i].words; j++)
			watched[i].copy[j] = watched[i].memory[j];
}

static bool memory_is_as_copied(struct paged *paged)
{
	static const char *const names[] = { "memory", "ROM", "table" };
	const struct watched watched[] = WATCHED(paged);
	const u64 *canary = (const u64 *)(paged->memory - PAGE_SIZE);
	u64 i, j, outside = 0;

	for (i = 0; i < ARRAY_SIZE(watched); i++)
		for (j = 0; j < watched[i].words; j++) {
			if (watched[i].copy[j] == watched[i].memory[j])
				continue;
			case_note(names[i], "%#lx at %#lx of it, not %#lx", watched[i].memory[j],
				  j * 8, watched[i].copy[j]);
			return false;
		}
	/* The pages of the host on both sides of the slot. */
	for (i = 0; i < PAGE_SIZE / 8; i++)
		outside |= (canary[i] ^ CANARY) |
			   (canary[(PAGED_PAGES + 1) * PAGE_SIZE / 8 + i] ^ CANARY);
	return !outside;
}

u64 paged_page(struct paged *paged)
{
	REQUIRE_TRUE(paged->taken < PAGED_PAGES);
	return PAGED_MEMORY + paged->taken++ * PAGE_SIZE;
}

u64 paged_entry(struct paged *paged, u64 gpa)
{
	u64 entry = 0;

	memcpy(&entry, paged_bytes(paged, gpa), entry_size(paged));
	return entry;
}

void paged_set_entry(struct paged *paged, u64 gpa, u64 entry)
{
	memcpy(paged_bytes(paged, gpa), &entry, entry_size(paged));
}

static u64 entry_gpa(const struct paged *paged, u64 table, u64 linear, u32 level)
{
	u32 bits = paged_index_bits(paged);
	u64 index = linear >> (12 + (level - 1) * bits) & (BIT(bits) - 1);

	if (paged->mode.mode == PAGING_PAE && level == LEVEL_PDPTE)
		index &= 3;
	return table + index * entry_size(paged);
}

u64 paged_entry_at(struct paged *paged, u64 linear, u32 level)
{
	u64 table = paged->cr3;
	u32 at;

	for (at = paged_levels(paged); at > level; at--)
		table = paged_entry(paged, entry_gpa(paged, table, linear, at)) & PTE_ADDRESS;
	return entry_gpa(paged, table, linear, level);
}

u64 paged_map(struct paged *paged, u64 linear, u64 gpa, u64 flags, u32 level)
{
	u64 table = paged->cr3, entry;
	u32 at;

	for (at = paged_levels(paged); at > level; at--) {
		bool pdpte = paged->mode.mode == PAGING_PAE && at == LEVEL_PDPTE;

		entry = paged_entry(paged, entry_gpa(paged, table, linear, at));
		if (!(entry & PTE_P)) {
			entry = paged_page(paged) | PTE_P | (pdpte ? 0 : PTE_RW | PTE_US);
			paged_set_entry(paged, entry_gpa(paged, table, linear, at), entry);
		}
		table = entry & PTE_ADDRESS;
	}
	paged_set_entry(paged, entry_gpa(paged, table, linear, level),
			gpa | flags | (level > LEVEL_PTE ? PTE_PS : 0));
	return entry_gpa(paged, table, linear, level);
}

/* --- registers ------------------------------------------------------------------------------- */

static u64 cr0_of(const struct paged *paged)
{
	return CR0_PE | CR0_ET | CR0_NE | (paged->mode.mode == PAGING_OFF ? 0 : CR0_PG) |
	       paged->mode.cr0;
}

static u64 cr4_of(const struct paged *paged)
{
	return paged->mode.cr4 | (paged->mode.mode >= PAGING_PAE ? CR4_PAE : 0) |
	       (paged->mode.mode == PAGING_5_LEVEL ? CR4_LA57 : 0);
}

static u64 efer_of(const struct paged *paged)
{
	return paged->mode.efer | (is_64_bit(paged) ? EFER_LME | EFER_LMA : 0);
}

static void set_registers(struct paged *paged, u8 cpl)
{
	struct kvm_sregs sregs = box_sregs(&paged->box);
	bool long_mode = is_64_bit(paged);

	sregs.cs = (struct kvm_segment){
		.limit = 0xffffffff, .type = 11, .present = 1, .s = 1, .g = 1, .dpl = cpl,
		.l = long_mode, .db = !long_mode,
		.selector = cpl ? (long_mode ? SELECTOR_USER_CODE64 : SELECTOR_USER_CODE32) :
			    long_mode ? SELECTOR_CODE64 : SELECTOR_CODE32 };
	sregs.ss = sregs.ds = sregs.es = (struct kvm_segment){
		.limit = 0xffffffff, .type = 3, .present = 1, .s = 1, .g = 1, .db = 1, .dpl = cpl,
		.selector = cpl ? SELECTOR_USER_DATA : SELECTOR_DATA };
	sregs.tr = (struct kvm_segment){ .base = TSS, .limit = 0x67, .type = 11, .present = 1,
					 .selector = SELECTOR_TSS };
	sregs.cr0 = cr0_of(paged);
	sregs.cr3 = paged->cr3;
	sregs.cr4 = cr4_of(paged);
	sregs.efer = efer_of(paged);
	REQUIRE_EQ(hv_vcpu_set_sregs(&paged->box.vcpu, &sregs), 0);
	paged->cpl = cpl;
	paged->registers_set = true;
}

static void set_program(struct paged *paged, enum program program, struct kvm_regs *regs)
{
	regs->rip = (paged->cpl ? USER_CODE : BOX_CODE) + program;
	regs->rsp = BOX_STACK - 64;
	regs->rflags |= RFLAGS_FIXED;
	REQUIRE_EQ(hv_vcpu_set_regs(&paged->box.vcpu, regs), 0);
}

/* A program of CPL 0 that must end in its HLT. */
static void run_program(struct paged *paged, enum program program, struct kvm_regs regs)
{
	if (paged->cpl || !paged->registers_set)
		set_registers(paged, 0);
	set_program(paged, program, &regs);
	REQUIRE_EXIT(box_run(&paged->box), KVM_EXIT_HLT);
	REQUIRE_EQ(box_regs(&paged->box).rip / 16 * 16, BOX_CODE + program);
}

void paged_load_cr3(struct paged *paged, u64 cr3)
{
	run_program(paged, LOAD_CR3, (struct kvm_regs){ .rsi = cr3 });
	paged->cr3 = cr3;
}

void paged_invlpg(struct paged *paged, u64 linear)
{
	run_program(paged, INVALIDATE, (struct kvm_regs){ .rdi = linear });
}

/* --- start ------------------------------------------------------------------------------------ */

static void set_cpuid(struct paged *paged)
{
	bool pse36 = paged->mode.pse36 && CPUID_BIT(1, 0, edx, 17);

	box_set_cpuid(&paged->box, (struct kvm_cpuid_entry2){
		.function = 1, .eax = 0x600, .ecx = 1u << 31,
		.edx = 0x0701a1ff | (pse36 ? BIT(17) : 0) });
	/* SMEP, SMAP; PKU, LA57. */
	box_set_cpuid(&paged->box, (struct kvm_cpuid_entry2){
		.function = 7, .flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX,
		.ebx = BIT(7) | BIT(20), .ecx = BIT(3) | BIT(16) });
	/* SYSCALL, NX, 64-bit mode; 1-GByte pages. */
	box_set_cpuid(&paged->box, (struct kvm_cpuid_entry2){
		.function = 0x80000001,
		.edx = 0x20100800 | (paged->mode.no_pages_1g ? 0 : BIT(26)) });
	box_set_cpuid(&paged->box, (struct kvm_cpuid_entry2){
		.function = 0x80000008,
		.eax = paged->mode.physical_bits ? paged->mode.physical_bits : maxphyaddr() });
}

/* The first 64 KBytes to themselves, for the supervisor, and USER_CODE. */
static void write_fixed_tables(struct paged *paged)
{
	u32 level, i, size = entry_size(paged);
	u64 table = TABLES;

	for (level = paged_levels(paged); level > LEVEL_PTE; level--, table += PAGE_SIZE) {
		bool pdpte = paged->mode.mode == PAGING_PAE && level == LEVEL_PDPTE;

		memset(paged_bytes(paged, table), 0, PAGE_SIZE);
		paged_set_entry(paged, table, (table + PAGE_SIZE) |
				(pdpte ? PTE_P : RESET_FLAGS | PTE_US));
	}
	memset(paged_bytes(paged, table), 0, PAGE_SIZE);
	for (i = 0; i < BOX_SIZE / PAGE_SIZE; i++)
		paged_set_entry(paged, table + i * size, i * PAGE_SIZE | RESET_FLAGS);
	paged_set_entry(paged, table + USER_CODE / PAGE_SIZE * size,
			BOX_CODE | RESET_FLAGS | PTE_US);
}

static void write_tss(struct paged *paged)
{
	memset(paged_bytes(paged, TSS), 0, 0x68);
	*(u32 *)paged_bytes(paged, TSS + 4) = BOX_STACK;
	*(u32 *)paged_bytes(paged, TSS + 8) = is_64_bit(paged) ? 0 : SELECTOR_DATA;
}

int paged_set_memory(struct paged *paged, u32 flags, bool removed_first)
{
	struct kvm_userspace_memory_region region = {
		.slot = 1, .guest_phys_addr = PAGED_MEMORY };

	/* It may be gone already. */
	if (removed_first)
		hv_vm_set_memory(&paged->box.vm, &region);
	region.flags = flags;
	region.memory_size = PAGED_PAGES * PAGE_SIZE;
	region.userspace_addr = physical(paged->memory);
	return hv_vm_set_memory(&paged->box.vm, &region);
}

static void set_pkru(struct paged *paged)
{
	if (paged->mode.cr4 & CR4_PKE)
		run_program(paged, SET_PKRU, (struct kvm_regs){ .rax = paged->mode.pkru });
}

void paged_change(struct paged *paged, const struct paged_mode *mode)
{
	const struct paged_mode before = paged->mode;

	paged->mode = *mode;
	paged->mode.physical_bits = before.physical_bits;
	paged->mode.no_pages_1g = before.no_pages_1g;
	paged->mode.pse36 = before.pse36;
	paged->registers_set = false;
	if (before.mode != mode->mode)
		write_fixed_tables(paged);
	set_pkru(paged);
}

void paged_start(struct paged *paged, const struct paged_mode *mode, const struct hv_mmu *mmu,
		 u32 pages)
{
	u64 size = (PAGED_PAGES + 2) * PAGE_SIZE;
	u64 *memory = pages_alloc(size, PAGE_SIZE);
	u64 i;

	paged->mode = *mode;
	paged->cr3 = TABLES;
	paged->taken = 0;
	paged->registers_set = false;
	paged->before = pages_alloc(ROOT_TWIN + PAGE_SIZE, PAGE_SIZE);
	box_start_on(&paged->box, mmu, pages, is_64_bit(paged) ? &programs_64 : &programs_32);
	set_cpuid(paged);
	for (i = 0; i < PAGE_SIZE / 8; i++)
		memory[i] = memory[size / 8 - 1 - i] = CANARY;
	paged->memory = (u8 *)memory + PAGE_SIZE;
	REQUIRE_EQ(paged_set_memory(paged, 0, false), 0);
	paged->rom = box_add_memory(&paged->box, 2, PAGED_ROM, PAGED_ROM_PAGES * PAGE_SIZE,
				    KVM_MEM_READONLY);
	if (mode->mode != PAGING_OFF)
		write_fixed_tables(paged);
	write_tss(paged);
	set_pkru(paged);
}

/* --- an access -------------------------------------------------------------------------------- */

static u64 read_table(void *paged, u64 gpa, u32 size)
{
	const u8 *bytes = paged_bytes(paged, gpa);
	u64 entry = BITS(8 * size - 1, 0);	/* as hv_walk_read() has it */

	if (bytes)
		memcpy(&entry, bytes, size);
	return entry;
}

struct walk_result paged_walk(struct paged *paged, const struct paged_access *access)
{
	const struct walk_access what = { .address = access->linear, .kind = access->kind };
	struct walk_cpu cpu = {
		.cr0 = cr0_of(paged), .cr3 = paged->cr3, .cr4 = cr4_of(paged),
		.efer = efer_of(paged), .rflags = access->ac ? RFLAGS_AC : 0,
		.pkru = paged->mode.pkru, .cpl = access->cpl,
		.physical_bits = paged->box.vcpu.widths.physical,
		.pages_1g = paged->box.vcpu.widths.pages_1g, .pse36 = paged->box.vcpu.widths.pse36,
		.pat = paged->box.vcpu.widths.pat,
	};
	u32 i;

	/* MOV to CR3 has loaded them, and no case changes them afterwards. */
	for (i = 0; i < 4 && paged->mode.mode == PAGING_PAE; i++)
		cpu.pdpte[i] = paged_entry(paged, paged->cr3 + i * 8);
	return walk(&cpu, &what, read_table, paged);
}

static bool is_memory(struct paged *paged, u64 gpa, enum access kind)
{
	return paged_bytes(paged, gpa) && !(kind == ACCESS_WRITE && gpa - PAGED_ROM <
					    PAGED_ROM_PAGES * PAGE_SIZE);
}

/* The guest's exception handler, with the frame on its stack. */
static void expect_exception(struct paged *paged, u8 vector, bool has_error, u64 *error, u64 *rip)
{
	const u8 *frame;
	u64 value = 0;

	REQUIRE_TRUE(EXPECT_VECTOR(&paged->box, vector));
	frame = paged_bytes(paged, box_regs(&paged->box).rsp);
	memcpy(&value, frame, width(paged));
	*error = has_error ? value & BITS(31, 0) : 0;
	*rip = 0;
	memcpy(rip, frame + (has_error ? width(paged) : 0), width(paged));
	paged->cpl = 0;
}

static void expect_device(struct paged *paged, const struct paged_access *access, u64 gpa)
{
	struct kvm_run *run = paged->box.vcpu.run;
	u64 data = DEVICE_DATA, got = 0;

	REQUIRE_EXIT(box_run(&paged->box), KVM_EXIT_MMIO);
	EXPECT_EQ(run->mmio.phys_addr, gpa);
	EXPECT_EQ(run->mmio.len, width(paged));
	EXPECT_EQ(run->mmio.is_write, access->kind == ACCESS_WRITE);
	memcpy(&got, run->mmio.data, width(paged));
	if (run->mmio.is_write)
		EXPECT_EQ(got, access->value & BITS(8 * width(paged) - 1, 0));
	memcpy(run->mmio.data, &data, width(paged));
}

/* The access is done: what it leaves in RAX and memory. */
static void expect_done(struct paged *paged, const struct paged_access *access, u64 gpa)
{
	bool memory = is_memory(paged, gpa, access->kind);
	u64 want = DEVICE_DATA, rip, error;

	if (!memory && access->kind == ACCESS_FETCH) {
		EXPECT_EXIT(box_run(&paged->box), KVM_EXIT_INTERNAL_ERROR);
		paged->registers_set = false;
		return;
	}
	if (!memory)
		expect_device(paged, access, gpa);
	if (memory && access->kind == ACCESS_READ)
		want = *(u64 *)paged_bytes(paged, gpa);
	expect_exception(paged, VECTOR_UD, false, &error, &rip);
	if (access->kind == ACCESS_FETCH)
		EXPECT_EQ(rip, access->linear);
	/* The handler has put the vector into AL. */
	if (access->kind == ACCESS_READ)
		EXPECT_EQ(box_regs(&paged->box).rax & ~0xffull & BITS(8 * width(paged) - 1, 0),
			  want & ~0xffull & BITS(8 * width(paged) - 1, 0));
	if (memory && access->kind == ACCESS_WRITE && twin(paged, gpa))
		memcpy(twin(paged, gpa), &access->value, width(paged));
}

static void expect_fault(struct paged *paged, const struct paged_access *access,
			 const struct walk_result *result)
{
	bool page_fault = result->kind == WALK_PAGE_FAULT;
	u64 error, rip;

	expect_exception(paged, page_fault ? VECTOR_PF : VECTOR_GP, true, &error, &rip);
	EXPECT_EQ(error, page_fault ? result->error_code : 0);
	if (page_fault)
		EXPECT_EQ(box_sregs(&paged->box).cr2, access->linear);
}

/* 5.8: puts into the copy what the access must have set, and takes over what it may have. */
static void expect_flags(struct paged *paged, const struct walk_result *result)
{
	u32 i;

	for (i = 0; i < result->steps; i++) {
		const struct walk_step *step = &result->step[i];
		u8 *copy = twin(paged, step->address);

		if (!copy || !is_memory(paged, step->address, ACCESS_WRITE))
			continue;
		*copy |= step->must_set;
		*copy = (*copy & ~step->may_set) |
			(*paged_bytes(paged, step->address) & step->may_set);
	}
}

static void note(struct paged *paged, const struct paged_access *access,
		 const struct walk_result *result)
{
	static const char *const kinds[] = { "read", "write", "fetch" };
	u32 i;

	case_note("access", "%s at %#llx, CPL %u, AC %u", kinds[access->kind],
		  (unsigned long long)access->linear, access->cpl, access->ac);
	case_note("registers", "CR0 %#llx CR3 %#llx CR4 %#llx EFER %#llx PKRU %#x",
		  (unsigned long long)cr0_of(paged), (unsigned long long)paged->cr3,
		  (unsigned long long)cr4_of(paged), (unsigned long long)efer_of(paged),
		  paged->mode.pkru);
	for (i = 0; i < result->steps; i++)
		case_note("entry", "level %u at %#llx: %#llx", result->step[i].level,
			  (unsigned long long)result->step[i].address,
			  (unsigned long long)result->step[i].value);
}

bool paged_try(struct paged *paged, const struct paged_access *access)
{
	static const enum program programs[] = { READ, WRITE, FETCH };
	const struct walk_result result = paged_walk(paged, access);
	const u8 *target = result.kind == WALK_DONE ? paged_bytes(paged, result.physical) : NULL;
	struct kvm_regs regs = { .rdi = access->linear, .rax = access->value,
				 .rflags = access->ac ? RFLAGS_AC : 0 };

	/* Only UD2 may be executed. */
	if (access->kind == ACCESS_FETCH && target && *(const u16 *)target != OPCODE_UD2)
		return true;
	if (access->cpl != paged->cpl || access->cpl || !paged->registers_set)
		set_registers(paged, access->cpl);
	copy_memory(paged);
	set_program(paged, programs[access->kind], &regs);
	if (result.kind == WALK_DONE) {
		/* The access may write to the very entries that translate it: after the flags. */
		expect_flags(paged, &result);
		expect_done(paged, access, result.physical);
	} else {
		expect_fault(paged, access, &result);
		expect_flags(paged, &result);
	}
	EXPECT_TRUE(memory_is_as_copied(paged));
	if (case_failed())
		note(paged, access, &result);
	return !case_failed();
}

bool paged_expect(struct paged *paged, const struct paged_access *access, s64 error)
{
	const struct walk_result result = paged_walk(paged, access);

	EXPECT_EQ(result.kind == WALK_DONE ? -1 : (s64)result.error_code, error);
	return paged_try(paged, access);
}
