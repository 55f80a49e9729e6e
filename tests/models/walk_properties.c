/*
 * What must hold between the answers of walk() for related scenes. Each property changes a copy
 * of a scene in a way of which the SDM tells the effect, and compares the answers.
 */
#include "sdm/bits.h"
#include "walk_reference.h"
#include "walk_scene.h"

static bool is_done(const struct scene *scene)
{
	return scene->result.kind == WALK_DONE;
}

/* The same outcome, error code and, when done, page. */
static void require_same(const struct scene *one, const struct scene *other)
{
	const struct walk_result *a = &one->result, *b = &other->result;

	REQUIRE(one, other, a->kind == b->kind);
	REQUIRE(one, other, a->error_code == b->error_code);
	if (a->kind != WALK_DONE)
		return;
	REQUIRE(one, other, a->physical == b->physical);
	REQUIRE(one, other, a->page_size == b->page_size);
	REQUIRE(one, other, a->user_address == b->user_address);
	REQUIRE(one, other, a->writable == b->writable);
	REQUIRE(one, other, a->executable == b->executable);
	REQUIRE(one, other, a->global == b->global);
	REQUIRE(one, other, a->protection_key == b->protection_key);
	REQUIRE(one, other, a->pat_index == b->pat_index);
}

static void require_same_steps(const struct scene *one, const struct scene *other)
{
	u32 i;

	REQUIRE(one, other, one->result.steps == other->result.steps);
	for (i = 0; i < one->result.steps; i++) {
		const struct walk_step *a = &one->result.step[i], *b = &other->result.step[i];

		REQUIRE(one, other, a->address == b->address);
		REQUIRE(one, other, a->value == b->value);
		REQUIRE(one, other, a->level == b->level);
		REQUIRE(one, other, a->must_set == b->must_set);
		REQUIRE(one, other, a->may_set == b->may_set);
	}
}

static bool is_user(const struct scene *scene)
{
	return scene->access.wruss || (scene->cpu.cpl == 3 && !scene->access.implicit);
}

static void agrees_with_reference(const struct scene *scene)
{
	struct scene other = *scene;

	other.result = reference_walk(&other.cpu, &other.access, read_memory, &other.memory);
	REQUIRE(scene, &other, scene->result.mode == other.result.mode);
	require_same(scene, &other);
	require_same_steps(scene, &other);
}

/* 5.7: which bits of the error code go together. */
static void error_code_is_possible(const struct scene *scene)
{
	const struct walk_access *access = &scene->access;
	u32 error = scene->result.error_code;
	bool tells_fetches = scene->cpu.cr4 & CR4_SMEP ||
			     (scene->cpu.cr4 & CR4_PAE && scene->cpu.efer & EFER_NXE);

	if (scene->result.kind != WALK_PAGE_FAULT) {
		REQUIRE(scene, scene, error == 0);
		return;
	}
	REQUIRE(scene, scene, !(error & ~BITS(6, 0)));
	REQUIRE(scene, scene, !(error & PF_RSVD) || error & PF_P);
	REQUIRE(scene, scene, !(error & PF_PK) || (error & (PF_P | PF_RSVD)) == PF_P);
	REQUIRE(scene, scene, !(error & PF_PK) || access->kind != ACCESS_FETCH);
	REQUIRE(scene, scene, !(error & PF_PK) || scene->cpu.cr4 & (CR4_PKE | CR4_PKS));
	REQUIRE(scene, scene, !(error & PF_PK) || scene->result.mode >= PAGING_4_LEVEL);
	REQUIRE(scene, scene, !(error & PF_WR) == (access->kind != ACCESS_WRITE));
	REQUIRE(scene, scene, !(error & PF_US) == !is_user(scene));
	REQUIRE(scene, scene, !(error & PF_ID) == !(access->kind == ACCESS_FETCH && tells_fetches));
	REQUIRE(scene, scene, !(error & PF_SS) == !access->shadow_stack);
}

/* 5.5: a PML5E that only passes on is as if it were not there. */
static void five_levels_as_four(const struct scene *scene)
{
	const u64 pml5 = 0xffff0000;
	struct scene other = *scene;
	u64 pml4 = scene->cpu.cr3 & BITS(51, 12);

	if (scene->result.mode != PAGING_4_LEVEL || scene->result.kind == WALK_NOT_CANONICAL)
		return;
	if (pml4 >> scene->cpu.physical_bits)
		return;
	if (uses_page(&scene->memory, pml5))
		return;
	other.cpu.cr4 |= CR4_LA57;
	other.cpu.cr3 = pml5;
	patch(&other.memory, pml5 + FIELD(scene->access.address, 56, 48) * 8, pml4 | P | RW | US,
	      ~0ull);
	walk_scene(&other);
	require_same(scene, &other);
	/* The PML5E is used, whatever comes after it. */
	REQUIRE(scene, &other, other.result.steps == scene->result.steps + 1);
}

/* 5.4, 5.5: below the PDPTEs PAE and 4-level paging differ in bits 62:52 of the entries alone. */
static void pae_as_four_levels(const struct scene *scene)
{
	const u64 pml4 = 0xffff0000, pdpt = 0xffff1000;
	struct scene pae = *scene, other;
	u32 i;

	if (scene->result.mode != PAGING_PAE)
		return;
	pae.memory.clear = BITS(62, 52);
	pae.cpu.pat = true;
	pae.cpu.cr4 &= ~(CR4_PKE | CR4_PKS | CR4_LA57);
	walk_scene(&pae);
	other = pae;
	if (uses_page(&pae.memory, pml4) || uses_page(&pae.memory, pdpt))
		return;
	other.cpu.efer |= EFER_LME;
	other.cpu.cr3 = pml4;
	patch(&other.memory, pml4, pdpt | P | RW | US, ~0ull);
	for (i = 0; i < 4; i++)
		patch(&other.memory, pdpt + i * 8, pae.cpu.pdpte[i] | RW | US, ~0ull);
	walk_scene(&other);
	require_same(&pae, &other);
}

/* 5.6.1: who may write may read. */
static void reads_need_no_more_than_writes(const struct scene *scene)
{
	struct scene other = *scene;

	if (!is_done(scene) || scene->access.kind != ACCESS_WRITE || scene->access.wruss)
		return;
	other.access.kind = ACCESS_READ;
	walk_scene(&other);
	require_same(scene, &other);
}

/* Fewer rights in an entry that is used never make an access possible. */
static void fewer_rights_never_help(const struct scene *scene)
{
	u64 fewer[] = { RW, US, XD };
	u32 i, j;

	if (scene->result.kind != WALK_PAGE_FAULT || scene->access.shadow_stack)
		return;
	for (i = 0; i < scene->result.steps; i++) {
		for (j = 0; j < ARRAY_SIZE(fewer); j++) {
			struct scene other = *scene;
			u64 set = fewer[j] == XD ? XD : 0;

			/* Supervisor mode may gain by it: SMEP, SMAP, other keys. */
			if (fewer[j] == US && !is_user(scene))
				continue;
			if (fewer[j] == XD && scene->result.mode == PAGING_32_BIT)
				continue;
			patch(&other.memory, scene->result.step[i].address, set, fewer[j]);
			walk_scene(&other);
			REQUIRE(scene, &other, !is_done(&other));
		}
	}
}

/* 5.6.1: without SMEP, SMAP and keys supervisor mode may do all that user mode may. */
static void supervisor_may_more(const struct scene *scene)
{
	struct scene user = *scene, supervisor;

	if (scene->access.shadow_stack)
		return;
	user.cpu.cpl = 3;
	user.access.implicit = false;
	user.cpu.cr4 &= ~(CR4_SMEP | CR4_SMAP);
	walk_scene(&user);
	supervisor = user;
	supervisor.cpu.cpl = 0;
	walk_scene(&supervisor);
	if (is_done(&user))
		require_same(&user, &supervisor);
	else
		REQUIRE(&user, &supervisor, is_done(&supervisor) ||
			(supervisor.result.error_code & ~PF_PK) ==
			(user.result.error_code & ~(PF_US | PF_PK)));
}

/* 5.6.1: CPL 0, 1 and 2 are one for paging, and implicit accesses do not depend on CPL. */
static void supervisor_is_supervisor(const struct scene *scene)
{
	struct scene other = *scene;

	if (is_user(scene))
		return;
	for (other.cpu.cpl = 0; other.cpu.cpl < (scene->access.implicit ? 4 : 3); other.cpu.cpl++) {
		walk_scene(&other);
		require_same(scene, &other);
		require_same_steps(scene, &other);
	}
}

/* 5.6.1: SMEP, SMAP and AC are nothing to user mode, SMAP nothing to fetches, SMEP to data. */
static void smep_and_smap_have_limits(const struct scene *scene)
{
	static const u64 cr4[] = { 0, CR4_SMEP, CR4_SMAP, CR4_SMEP | CR4_SMAP };
	struct scene other = *scene;
	bool fetch = scene->access.kind == ACCESS_FETCH;
	u32 i;

	for (i = 0; i < ARRAY_SIZE(cr4); i++) {
		u64 free = is_user(scene) ? CR4_SMEP | CR4_SMAP : fetch ? CR4_SMAP : CR4_SMEP;

		/* SMEP makes bit 4 of the error code mean something. */
		if (fetch)
			free &= ~CR4_SMEP;
		other.cpu.cr4 = (scene->cpu.cr4 & ~free) | (cr4[i] & free);
		other.cpu.rflags ^= is_user(scene) || fetch ? RFLAGS_AC : 0;
		walk_scene(&other);
		require_same(scene, &other);
	}
}

/* 5.6.1: SMEP and SMAP only take away, AC only gives. */
static void smep_and_smap_only_deny(const struct scene *scene)
{
	struct scene other = *scene;

	other.cpu.cr4 &= ~(CR4_SMEP | CR4_SMAP);
	walk_scene(&other);
	REQUIRE(scene, &other, !is_done(scene) || is_done(&other));
	other = *scene;
	other.cpu.rflags |= RFLAGS_AC;
	walk_scene(&other);
	REQUIRE(scene, &other, !is_done(scene) || is_done(&other));
}

/* 5.6.1: CR0.WP takes supervisor writes away, and changes nothing else. */
static void wp_only_denies(const struct scene *scene)
{
	struct scene with = *scene, without;

	if (scene->access.shadow_stack)
		return;
	with.cpu.cr0 |= CR0_WP;
	walk_scene(&with);
	without = with;
	without.cpu.cr0 &= ~CR0_WP;
	walk_scene(&without);
	if (is_done(&with) || is_user(scene) || scene->access.kind != ACCESS_WRITE)
		require_same(&with, &without);
	else if (!is_done(&without))
		REQUIRE(&with, &without, (with.result.error_code & ~PF_PK) ==
			(without.result.error_code & ~PF_PK));
}

/* 5.6.2: keys take away, and bit 5 of the error code says so. */
static void keys_only_deny(const struct scene *scene)
{
	struct scene other = *scene;

	other.cpu.cr4 &= ~(CR4_PKE | CR4_PKS);
	walk_scene(&other);
	if (!(scene->result.error_code & PF_PK))
		require_same(scene, &other);
	else if (!is_done(&other))
		REQUIRE(scene, &other, other.result.error_code ==
			(scene->result.error_code & ~PF_PK));
	/* The registers matter only when they are enabled; with all rights they deny nothing. */
	other.cpu.pkru = ~other.cpu.pkru;
	other.cpu.pkrs = ~other.cpu.pkrs;
	walk_scene(&other);
	REQUIRE(scene, &other, !(other.result.error_code & PF_PK));
	other = *scene;
	other.cpu.pkru = other.cpu.pkrs = 0;
	walk_scene(&other);
	REQUIRE(scene, &other, !(other.result.error_code & PF_PK));
}

/* 5.6.1: IA32_EFER.NXE is nothing to entries with XD = 0, save for bit 4 of the error code. */
static void nxe_needs_xd(const struct scene *scene)
{
	struct scene with = *scene, without;

	with.memory.clear = scene->result.mode == PAGING_32_BIT ? 0 : XD;
	with.cpu.efer |= EFER_NXE;
	walk_scene(&with);
	without = with;
	without.cpu.efer &= ~EFER_NXE;
	walk_scene(&without);
	if (scene->access.kind == ACCESS_FETCH)
		with.result.error_code |= without.result.error_code |= PF_ID;
	require_same(&with, &without);
	require_same_steps(&with, &without);
}

/* 5.8: the flags are for software; only D makes a shadow-stack page. */
static void flags_have_no_effect(const struct scene *scene)
{
	struct scene other = *scene;
	u64 flags = scene->access.shadow_stack ? A : A | D;
	u32 i;

	for (i = 0; i < scene->result.steps; i++)
		patch(&other.memory, scene->result.step[i].address, flags, 0);
	walk_scene(&other);
	require_same(scene, &other);
	for (i = 0; i < scene->result.steps; i++)
		patch(&other.memory, scene->result.step[i].address, 0, flags);
	walk_scene(&other);
	require_same(scene, &other);
}

/* Once the processor has set what it must, the same access finds all of it set. */
static void flags_are_set_once(const struct scene *scene)
{
	struct scene other = *scene;
	u32 i;

	for (i = 0; i < scene->result.steps; i++)
		patch(&other.memory, scene->result.step[i].address,
		      scene->result.step[i].must_set, 0);
	walk_scene(&other);
	require_same(scene, &other);
	REQUIRE(scene, &other, other.result.steps == scene->result.steps);
	for (i = 0; i < other.result.steps; i++) {
		const struct walk_step *step = &other.result.step[i];

		REQUIRE(scene, &other, (step->value & step->must_set) == step->must_set);
		REQUIRE(scene, &other, !(step->must_set & step->may_set));
		REQUIRE(scene, &other, !((step->must_set | step->may_set) & ~(A | D)));
	}
}

/* Bits 11:9 are ignored in every entry, PWT and PCD choose a memory type only. */
static void ignored_bits_are_ignored(const struct scene *scene)
{
	struct scene other = *scene;
	u32 i;

	for (i = 0; i < scene->result.steps; i++) {
		const struct walk_step *step = &scene->result.step[i];
		bool leaf = is_done(scene) && i == scene->result.steps - 1;
		u64 ignored = BITS(11, 9) | (leaf ? 0 : BITS(4, 3));

		patch(&other.memory, step->address, ~step->value & ignored, step->value & ignored);
	}
	/* An entry that serves as table and as leaf has changed its type as a leaf. */
	walk_scene(&other);
	other.result.pat_index = scene->result.pat_index;
	require_same(scene, &other);
}

/* 5.2: the page offset goes through, and nothing else depends on it. */
static void offset_goes_through(const struct scene *scene)
{
	struct scene other = *scene;
	u64 change = scene->result.page_size ? scene->result.page_size - 1 : 0xfff;

	/* The upper bits of a large page's offset select nothing when the page is one. */
	change &= scene->access.address * 0x9e3779b97f4a7c15;
	if (!is_done(scene))
		change &= 0xfff;
	other.access.address ^= change;
	walk_scene(&other);
	other.result.physical ^= change;
	require_same(scene, &other);
	require_same_steps(scene, &other);
}

/* More physical-address bits reserve fewer bits of entries. */
static void wider_addresses_reserve_less(const struct scene *scene)
{
	struct scene other = *scene;

	if (scene->cpu.physical_bits == 52)
		return;
	other.cpu.physical_bits++;
	walk_scene(&other);
	if (!(scene->result.error_code & PF_RSVD))
		require_same(scene, &other);
}

/* 5.10.2.4: CR4.PGE decides about global pages only. */
static void pge_is_for_global_pages(const struct scene *scene)
{
	struct scene other = *scene;

	other.cpu.cr4 ^= CR4_PGE;
	walk_scene(&other);
	REQUIRE(scene, &other, !(scene->result.global && other.result.global));
	other.result.global = scene->result.global;
	require_same(scene, &other);
}

static u64 next(u64 *seed)
{
	*seed = *seed * 6364136223846793005 + 1442695040888963407;
	return *seed >> 33;
}

static u64 next_type(u64 *seed)
{
	static const u8 types[] = {
		MEMORY_TYPE_WB, MEMORY_TYPE_UC, MEMORY_TYPE_WT, MEMORY_TYPE_WB,
		MEMORY_TYPE_WP, MEMORY_TYPE_WC, MEMORY_TYPE_WB, MEMORY_TYPE_WT,
	};

	return types[next(seed) & 7];
}

/* Registers that are made up of the scene's address, the ranges of the MTRRs near its page. */
static struct memory_type_registers any_types(const struct scene *scene)
{
	u64 seed = (scene->access.address ^ scene->cpu.cr3) * 0x9e3779b97f4a7c15, choice;
	struct memory_type_registers registers = { .mtrrcap = next(&seed) & (BIT(8) | BITS(2, 0)) };
	u32 i;

	choice = next(&seed);
	registers.def_type = next_type(&seed) | (choice & 7 ? BIT(11) : 0) |
			     (choice & BIT(3) ? BIT(10) : 0);
	for (i = 0; i < 8; i++) {
		choice = next(&seed) & 3 ? next_type(&seed) : MEMORY_TYPE_UC_MINUS;
		registers.pat |= choice << 8 * i;
	}
	for (i = 0; i < 8 * MTRR_FIXED_REGISTERS; i++)
		registers.fixed[i / 8] |= next_type(&seed) << 8 * (i % 8);
	for (i = 0; i < MTRR_VARIABLE_MAX; i++) {
		choice = next(&seed);
		registers.variable[i].base = scene->result.physical & BITS(51, 12);
		registers.variable[i].base ^= choice & 1 ? BIT(12 + choice / 8 % 40) : 0;
		registers.variable[i].base |= next_type(&seed);
		registers.variable[i].mask = BITS(51, 12 + choice / 512 % 40) |
					     (choice & 6 ? BIT(11) : 0);
	}
	return registers;
}

static void types_agree_with_reference(const struct scene *scene)
{
	struct memory_type_registers registers = any_types(scene);
	struct scene other = *scene;
	u32 i;

	other.cpu.cr4 |= scene->access.address & 1 ? CR4_PCIDE : 0;
	for (i = 0; i < scene->result.steps; i++)
		REQUIRE(scene, &other,
			walk_step_memory_type(&registers, &other.cpu, &other.access,
					      &other.result, i) ==
			reference_memory_type(&registers, &other.cpu, &other.access,
					      &other.result, i));
	if (is_done(scene))
		REQUIRE(scene, &other, walk_memory_type(&registers, &other.result) ==
			reference_memory_type(&registers, &other.cpu, &other.access, &other.result,
					      other.result.steps));
}

const struct property properties[] = {
	{ "agrees with the reference", agrees_with_reference },
	{ "the error code is possible", error_code_is_possible },
	{ "5-level paging with a plain PML5E is 4-level paging", five_levels_as_four },
	{ "PAE paging is 4-level paging below the PDPTEs", pae_as_four_levels },
	{ "reads need no more than writes", reads_need_no_more_than_writes },
	{ "fewer rights never help", fewer_rights_never_help },
	{ "supervisor mode may more than user mode", supervisor_may_more },
	{ "CPL 0 to 2 and implicit accesses are supervisor mode", supervisor_is_supervisor },
	{ "SMEP and SMAP have limits", smep_and_smap_have_limits },
	{ "SMEP and SMAP only deny, AC only allows", smep_and_smap_only_deny },
	{ "WP only denies", wp_only_denies },
	{ "keys only deny", keys_only_deny },
	{ "NXE needs XD", nxe_needs_xd },
	{ "accessed and dirty flags have no effect", flags_have_no_effect },
	{ "flags are set once", flags_are_set_once },
	{ "ignored bits are ignored", ignored_bits_are_ignored },
	{ "the page offset goes through", offset_goes_through },
	{ "wider addresses reserve less", wider_addresses_reserve_less },
	{ "PGE is for global pages", pge_is_for_global_pages },
	{ "memory types agree with the reference", types_agree_with_reference },
};

const u32 property_count = ARRAY_SIZE(properties);
