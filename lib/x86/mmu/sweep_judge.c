#include "case.h"
#include "mmu/pages.h"
#include "mmu/sweep_batch.h"
#include "sdm/bits.h"

/* --- plan -------------------------------------------------------------------- */

/* splitmix64, as case_random(), from a state that belongs to the sweep. */
static u64 next_random(struct sweep *sweep)
{
	u64 z = sweep->random += 0x9e3779b97f4a7c15;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
	z = (z ^ z >> 27) * 0x94d049bb133111eb;
	return z ^ z >> 31;
}

#define SLOT_SIZE	16

/* MOV $number, %EAX; RET; NOP; NOP: the data of a slot can be called, too. */
static u64 code_returning(u32 number)
{
	return 0xb8 | (u64)number << 8 | 0x9090c3ull << 40;
}

#define RETURNED_BEFORE(slot)	(0x51070000u + (slot))
#define DATA_BEFORE(slot)	code_returning(RETURNED_BEFORE(slot))
#define DATA_WRITTEN(slot)	code_returning(0xfadeu << 16 | (slot))

/* For implicit accesses: a writable data segment for CPL 3, with a limit that is the slot's own. */
#define LIMIT(slot)		(0x51000ull + (slot))
#define DESCRIPTOR(slot)	(FIELD(LIMIT(slot), 15, 0) | 0xf2ull << 40 | \
				 FIELD(LIMIT(slot), 19, 16) << 48)
#define DESCRIPTOR_ACCESSED	BIT(40)

static u64 data_before(const struct sweep *sweep, u32 slot)
{
	switch (sweep->kind) {
	case SWEEP_LSL:
		return DESCRIPTOR(slot) | DESCRIPTOR_ACCESSED;
	case SWEEP_LOAD:
		return DESCRIPTOR(slot);
	default:
		return DATA_BEFORE(slot);
	}
}

static volatile u64 *data_of(const struct sweep *sweep, u32 slot)
{
	return &sweep->data[((slot & 1) * PAGE_SIZE + slot * SLOT_SIZE) / sizeof(u64)];
}

/*
 * Slot `slot` has this entry of each table: another one of each, in another order at each level. At
 * the top half of the slots are in the upper half of the linear address space; its first 512 GBytes
 * only where a row is about that half, for there is a hypervisor that treats them differently. In
 * 32-bit and PAE paging the top is all of the PDEs, 1024 or 2048, of which the suite has the first.
 */
static u32 index_of(const struct sweep_row *row, enum paging_level level, u32 slot)
{
	static const struct {
		u32 factor, first;
	} place[] = {
		[LEVEL_PTE] = { 149, 23 }, [LEVEL_PDE] = { 91, 11 }, [LEVEL_PDPTE] = { 37, 5 },
		[LEVEL_PML4E] = { 61, 7 },
	};

	if (level < sweep_top(row))
		return (slot * place[level].factor + place[level].first) % 512;
	if (row->mode == PAGING_32_BIT)
		return 64 + 3 * slot;
	if (row->mode == PAGING_PAE)
		return 64 + 7 * slot;
	return row->upper_half ? 256 + slot : 64 + slot + (slot & SWEEP_SLOTS / 2);
}

static void *entry_of(const struct sweep *sweep, enum paging_level level, u32 index)
{
	const struct sweep_row *row = sweep->row;
	u64 *table = sweep->table[level];

	if (row->mode == PAGING_32_BIT)
		return (u32 *)table + index;
	if (row->mode == PAGING_PAE && level == sweep_top(row))
		table = (u64 *)(sweep->pdpt[index / 512] & PTE_ADDRESS);
	return &table[index % 512];
}

/* An entry that allows everything. */
static u64 plain_entry(const struct sweep *sweep, enum paging_level level)
{
	u64 flags = PTE_P | PTE_RW | PTE_US;

	if (level > sweep->row->size)
		return physical(sweep->table[level - 1]) | flags;
	return (physical(sweep->data) & ~(BIT(sweep_shift(sweep->row, level)) - 1)) | flags |
	       (level > LEVEL_PTE ? PTE_PS : 0);
}

/*
 * Slots with an odd number have the second frame, so that a frame that is of another slot shows. A
 * larger page has both frames, and its offset decides.
 */
static u64 odd_frame(enum paging_level level, u32 slot)
{
	return level == LEVEL_PTE && slot & 1 ? PAGE_SIZE : 0;
}

void sweep_place_slots(struct sweep *sweep)
{
	const struct sweep_row *row = sweep->row;
	enum paging_level size = row->size, top = sweep_top(row), level;
	u32 slot, width = sweep_shift(row, top) + 9;

	for (level = size; level <= top; level++)
		sweep->plain[level] = plain_entry(sweep, level);
	for (slot = 0; slot < SWEEP_SLOTS; slot++) {
		u64 linear = 0;

		for (level = size; level <= top; level++) {
			u32 index = index_of(row, level, slot);

			linear |= (u64)index << sweep_shift(row, level);
			sweep->slot[slot].entry[level] = entry_of(sweep, level, index);
		}
		if (!sweep_is_legacy(row) && linear & BIT(width - 1))
			linear |= BITS(63, width);
		linear += physical(data_of(sweep, slot)) % BIT(sweep_shift(row, size));
		sweep->record[slot].linear = linear;
	}
}

/*
 * Bits that must not matter: 5.5.4, tables 5-15 to 5-20. And A and D, which decide nothing. G of an
 * entry that references a table is not among them: it is for cases of its own, because processors
 * are known that reserve it.
 */
static void set_noise(struct sweep *sweep)
{
	bool legacy = sweep_is_legacy(sweep->row);
	const u64 high = legacy ? 0 : BITS(58, 52), key = legacy ? 0 : PTE_KEY(15);
	const u64 always = high | BITS(11, 9) | PTE_A | PTE_D;
	enum paging_level size = sweep->row->size, level;

	sweep->noise[size] = always | PTE_G;
	if (!(sweep->cpu.cr4 & (CR4_PKE | CR4_PKS)))
		sweep->noise[size] |= key;
	for (level = size + 1; level <= sweep_top(sweep->row); level++)
		sweep->noise[level] = always | key;
}

/* Puts set `number` of the theme into the slot, if there is one and the platform wants it. */
static bool plan_slot(struct sweep *sweep, u32 slot, u64 number)
{
	const enum paging_level size = sweep->row->size, top = sweep->entries.top;
	const bool narrow = sweep->row->mode == PAGING_32_BIT;
	struct sweep_entries *entries = &sweep->entries;
	struct sweep_slot *place = &sweep->slot[slot];
	u64 noise = next_random(sweep);
	enum paging_level level;

	entries->random = noise * 0x9e3779b97f4a7c15;
	for (level = size; level <= top; level++, noise = noise >> 13 | noise << 51)
		entries->entry[level] = (sweep->plain[level] ^ odd_frame(level, slot)) |
					(noise & sweep->noise[level]);
	if (!sweep->row->theme->change(entries, number))
		return false;
	/* A set with bits that entries of 4 bytes do not have. */
	for (level = size; narrow && level <= top; level++)
		if (entries->entry[level] >> 32)
			return false;
	sweep->possible++;
	if (sweep->percent < 100 && next_random(sweep) % 100 >= sweep->percent)
		return false;
	for (level = size; level <= top; level++) {
		place->before[level] = entries->entry[level];
		sweep_set(narrow, place->entry[level], entries->entry[level]);
	}
	*data_of(sweep, slot) = data_before(sweep, slot);
	sweep->record[slot].value = DATA_WRITTEN(slot);
	sweep->record[slot].fault = SWEEP_NO_FAULT;
	return true;
}

static void plan(struct sweep *sweep)
{
	const u64 count = sweep->row->theme->count(sweep->row);

	set_noise(sweep);
	for (sweep->count = 0; sweep->count < SWEEP_SLOTS && sweep->next < count; sweep->next++)
		if (plan_slot(sweep, sweep->count, sweep->next))
			sweep->count++;
}

/* --- judge ------------------------------------------------------------------- */

static const struct {
	const char *name;
	struct walk_access access;	/* but for its address */
} kinds[SWEEP_KINDS] = {
	[SWEEP_READ] = { "read", { .kind = ACCESS_READ } },
	[SWEEP_WRITE] = { "write", { .kind = ACCESS_WRITE } },
	[SWEEP_EXCHANGE] = { "exchange", { .kind = ACCESS_WRITE } },
	[SWEEP_FETCH] = { "fetch", { .kind = ACCESS_FETCH } },
	[SWEEP_WRSS] = { "wrss", { .kind = ACCESS_WRITE, .shadow_stack = true } },
	[SWEEP_WRUSS] = { "wruss", { .kind = ACCESS_WRITE, .shadow_stack = true, .wruss = true } },
	[SWEEP_LSL] = { "lsl", { .kind = ACCESS_READ, .implicit = true } },
	[SWEEP_LOAD] = { "load", { .kind = ACCESS_WRITE, .implicit = true } },
};

static bool is_write(enum sweep_kind kind)
{
	return kinds[kind].access.kind == ACCESS_WRITE;
}

struct judged {
	struct sweep *sweep;
	u32 slot;
	enum paging_level level;	/* of the entry that the model read last */
	bool differs;
};

/* For the reader: the entry less the address that it has when nothing is wrong with it. */
static u64 without_address(const struct sweep *sweep, enum paging_level level, u32 slot,
			   u64 entry)
{
	return entry ^ ((sweep->plain[level] ^ odd_frame(level, slot)) & PTE_ADDRESS);
}

static void mismatch(struct judged *judged, u32 aspect, u64 expected, u64 got)
{
	struct sweep *sweep = judged->sweep;
	struct sweep_mismatch *m = sweep->mismatch;
	enum paging_level level;

	judged->differs = true;
	for (; m < sweep->mismatch + sweep->mismatch_count; m++)
		if (m->aspect == aspect && m->kind == sweep->kind &&
		    (m->cpl == 3) == (sweep->cpu.cpl == 3) &&
		    (aspect != ASPECT_OUTCOME || (m->expected == expected && m->got == got)))
			break;
	if (m < sweep->mismatch + sweep->mismatch_count) {
		m->count++;
		return;
	}
	if (sweep->mismatch_count == SWEEP_MISMATCHES)
		return;
	sweep->mismatch_count++;
	*m = (struct sweep_mismatch){
		.count = 1, .aspect = aspect, .expected = expected, .got = got,
		.switches = sweep->entries.switches, .cpl = sweep->cpu.cpl, .kind = sweep->kind,
		.pkru = sweep->cpu.pkru, .pkrs = sweep->cpu.pkrs,
		.linear = sweep->record[judged->slot].linear,
	};
	for (level = sweep->row->size; level <= sweep_top(sweep->row); level++)
		m->before[level] = without_address(sweep, level, judged->slot,
						   sweep->slot[judged->slot].before[level]);
}

/* For the model, which reads from the top down: the entries as they were planned, nothing else. */
static u64 read_planned(void *memory, u64 address, u32 size __maybe_unused)
{
	struct judged *judged = memory;
	const struct sweep_slot *place = &judged->sweep->slot[judged->slot];

	judged->level--;
	return physical(place->entry[judged->level]) == address ? place->before[judged->level] : 0;
}

static outcome_t outcome_of(const struct sweep_record *record)
{
	if (record->fault == SWEEP_NO_FAULT)
		return OUTCOME_DONE;
	return outcome_kind(record->fault) ? record->fault :
					     OUTCOME_FAULT(VECTOR_PF, record->fault);
}

static void judge_fault(struct judged *judged, const struct sweep_record *record)
{
	u64 rip = judged->sweep->kind == SWEEP_FETCH ? record->linear : judged->sweep->loop_at;

	/* Which bytes of a descriptor it takes at a time is the processor's business. */
	u64 bytes = sweep_is_implicit(judged->sweep->kind) ? BITS(2, 0) : 0;

	if ((record->cr2 & ~bytes) != record->linear)
		mismatch(judged, ASPECT_CR2, record->linear, record->cr2);
	if (record->rip != rip)
		mismatch(judged, ASPECT_RIP, rip, record->rip);
}

/* What was read or returned, and what is in memory now. */
static void judge_data(struct judged *judged, const struct sweep_record *record, bool done)
{
	const struct sweep *sweep = judged->sweep;
	u32 slot = judged->slot;
	u64 value = DATA_WRITTEN(slot), data = data_before(sweep, slot);
	/* Where the two differ, in as many bytes as an access has. */
	u64 change = (DATA_WRITTEN(slot) ^ DATA_BEFORE(slot)) & sweep->access_mask;

	if (done && (sweep->kind == SWEEP_READ || sweep->kind == SWEEP_EXCHANGE))
		value ^= change;
	if (done && sweep->kind == SWEEP_FETCH)
		value = RETURNED_BEFORE(slot) | (value & ~sweep->access_mask);
	if (done && sweep->kind == SWEEP_LSL)
		value = LIMIT(slot) | (value & ~sweep->access_mask);
	if (done && sweep->kind == SWEEP_LOAD)
		data |= DESCRIPTOR_ACCESSED;
	else if (done && is_write(sweep->kind))
		data ^= change;
	if (record->value != value)
		mismatch(judged, ASPECT_VALUE, value, record->value);
	if (*data_of(sweep, slot) != data)
		mismatch(judged, ASPECT_DATA, data, *data_of(sweep, slot));
}

/* 5.8: what must be set is set, what may be is or is not, and all else is as it was. */
static void judge_entries(struct judged *judged, const struct walk_result *result)
{
	const struct sweep *sweep = judged->sweep;
	const struct sweep_slot *place = &sweep->slot[judged->slot];
	const struct walk_step *step = result->step, *end = step + result->steps;
	const enum paging_level size = sweep->row->size;
	const bool narrow = sweep->row->mode == PAGING_32_BIT;
	enum paging_level level;

	for (level = sweep->entries.top; level >= size; level--) {
		u64 got = sweep_get(narrow, place->entry[level]), want = place->before[level];

		if (step < end) {
			want |= step->must_set | (got & step->may_set);
			step++;
		}
		if (got != want)
			mismatch(judged, ASPECT_ENTRY + level,
				 without_address(sweep, level, judged->slot, want),
				 without_address(sweep, level, judged->slot, got));
	}
}

static void walk_as_planned(struct judged *judged, const struct walk_access *access,
			    struct walk_result *result)
{
	judged->level = judged->sweep->entries.top + 1;
	walk_into(&judged->sweep->cpu, access, read_planned, judged, result);
}

/*
 * What the access of a record must come to. A descriptor is read before its accessed flag is
 * written: what stops the read has the last word, and the flags that the read has set stay set.
 */
static void predict(struct judged *judged, u64 linear, struct walk_result *result)
{
	struct walk_access access = kinds[judged->sweep->kind].access;
	struct walk_result read;

	access.address = linear;
	walk_as_planned(judged, &access, result);
	if (judged->sweep->kind != SWEEP_LOAD || result->kind == WALK_DONE)
		return;
	access.kind = ACCESS_READ;
	walk_as_planned(judged, &access, &read);
	if (read.kind == WALK_DONE) {
		read.kind = result->kind;
		read.error_code = result->error_code;
	}
	*result = read;
}

static void judge_slot(struct sweep *sweep, u32 slot)
{
	struct sweep_record *record = &sweep->record[slot];
	struct judged judged = { .sweep = sweep, .slot = slot };
	outcome_t expected = OUTCOME_DONE, got = outcome_of(record);
	struct walk_result result;
	bool done;

	predict(&judged, record->linear, &result);
	done = result.kind == WALK_DONE;
	if (!done)
		expected = OUTCOME_FAULT(VECTOR_PF, result.error_code);
	if (got != expected) {
		mismatch(&judged, ASPECT_OUTCOME, expected, got);
	} else {
		if (!done)
			judge_fault(&judged, record);
		if (done && result.physical != physical(data_of(sweep, slot)))
			mismatch(&judged, ASPECT_TRANSLATION, result.physical,
				 physical(data_of(sweep, slot)));
		judge_data(&judged, record, done);
		judge_entries(&judged, &result);
	}
	sweep->checked++;
	sweep->differ += judged.differs;
}

void sweep_step(void *argument)
{
	struct sweep *sweep = argument;
	u32 slot;

	for (slot = 0; slot < sweep->count; slot++)
		judge_slot(sweep, slot);
	plan(sweep);
}

/* --- report ------------------------------------------------------------------ */

static const struct bit_name entry_bits[] = {
	{ PTE_P, "P" }, { PTE_RW, "R/W" }, { PTE_US, "U/S" }, { PTE_A, "A" }, { PTE_D, "D" },
	{ PTE_PS, "PS" }, { PTE_G, "G" }, { PTE_XD, "XD" }, { 0, NULL },
};

static const struct bit_name switch_names[] = {
	{ SWEEP_WP, "WP" }, { SWEEP_NXE, "NXE" }, { SWEEP_SMEP, "SMEP" }, { SWEEP_SMAP, "SMAP" },
	{ SWEEP_AC, "AC" }, { SWEEP_PGE, "PGE" }, { SWEEP_PKE, "PKE" }, { SWEEP_PKS, "PKS" },
	{ SWEEP_PSE, "PSE" }, { SWEEP_CET, "CET" }, { 0, NULL },
};

static const char *const level_names[] = {
	[LEVEL_PTE] = "PTE", [LEVEL_PDE] = "PDE", [LEVEL_PDPTE] = "PDPTE", [LEVEL_PML4E] = "PML4E",
	[LEVEL_PML5E] = "PML5E",
};

/* Everything that a case of its own needs: state, access, entries from the top. */
static void describe(char *to, size_t size, const struct sweep *sweep,
		     const struct sweep_mismatch *m)
{
	static const char *const aspects[] = { "outcome", "CR2", "RIP", "value read", "memory",
					       "translation" };
	char words[100];
	enum paging_level level;
	size_t n;

	n = format(to, size, "%s of %s at CPL %u of %#lx; ",
		   m->aspect < ASPECT_ENTRY ? aspects[m->aspect] :
					      level_names[m->aspect - ASPECT_ENTRY],
		   kinds[m->kind].name, m->cpl, m->linear);
	n += format(to + n, size - n, "switches %s",
		    format_bits(words, sizeof(words), m->switches & ~(SWEEP_KEYS_1 | SWEEP_KEYS_2),
				switch_names));
	if (m->switches & (SWEEP_PKE | SWEEP_PKS))
		n += format(to + n, size - n, ", PKRU %#x, IA32_PKRS %#x", m->pkru, m->pkrs);
	for (level = sweep_top(sweep->row); level >= sweep->row->size; level--)
		n += format(to + n, size - n, "; %s %s", level_names[level],
			    format_bits(words, sizeof(words), m->before[level], entry_bits));
}

static void words_of(char *to, size_t size, const struct sweep_mismatch *m, u64 value)
{
	if (m->aspect == ASPECT_OUTCOME)
		outcome_words(to, size, value);
	else if (m->aspect >= ASPECT_ENTRY)
		format_bits(to, size, value, entry_bits);
	else
		format_number(to, size, value);
}

/* An outcome as a part of a way: "done", "pf-p-w-rsvd", "pf" where the error code is 0. */
static void outcome_id(char *to, size_t size, outcome_t outcome)
{
	static const struct bit_name bits[] = {
		{ PF_P, "-p" }, { PF_WR, "-w" }, { PF_US, "-u" }, { PF_RSVD, "-rsvd" },
		{ PF_ID, "-i" }, { PF_PK, "-pk" }, { PF_SS, "-ss" }, { 0, NULL },
	};
	const struct bit_name *bit;
	size_t n;

	if (outcome == OUTCOME_DONE) {
		format(to, size, "done");
	} else if (outcome != OUTCOME_FAULT(VECTOR_PF, (u32)outcome)) {
		format(to, size, "other");
	} else {
		n = format(to, size, "pf");
		for (bit = bits; bit->name; bit++)
			if (outcome & bit->bit)
				n += format(to + n, size - n, "%s", bit->name);
	}
}

/*
 * The id of a sort of mismatch, for the lists of known deviations: the access, and what differs, or
 * the outcomes expected and got: "read.user.pf-p-u.pf-p-u-pk", "write.supervisor.pte".
 */
static void way_of(char *to, size_t size, const struct sweep_mismatch *m)
{
	static const char *const aspects[] = {
		[ASPECT_CR2] = "cr2", [ASPECT_RIP] = "rip", [ASPECT_VALUE] = "value",
		[ASPECT_DATA] = "memory", [ASPECT_TRANSLATION] = "translation",
		[ASPECT_ENTRY + LEVEL_PTE] = "pte",
		[ASPECT_ENTRY + LEVEL_PDE] = "pde", [ASPECT_ENTRY + LEVEL_PDPTE] = "pdpte",
		[ASPECT_ENTRY + LEVEL_PML4E] = "pml4e", [ASPECT_ENTRY + LEVEL_PML5E] = "pml5e",
	};
	char expected[40], got[40];
	size_t n;

	n = format(to, size, "%s.%s.", kinds[m->kind].name, m->cpl == 3 ? "user" : "supervisor");
	if (m->aspect != ASPECT_OUTCOME) {
		format(to + n, size - n, "%s", aspects[m->aspect]);
		return;
	}
	outcome_id(expected, sizeof(expected), m->expected);
	outcome_id(got, sizeof(got), m->got);
	format(to + n, size - n, "%s.%s", expected, got);
}

void sweep_report(const struct sweep *sweep)
{
	const struct sweep_mismatch *m = sweep->mismatch;
	char what[480], expected[100], got[100], way[120];

	if (sweep->percent < 100)
		tap_comment("%lu of %lu accesses checked: exitpath,sweep = <%u> percent",
			    sweep->checked, sweep->possible, sweep->percent);
	else
		tap_comment("%lu accesses checked", sweep->checked);
	for (; m < sweep->mismatch + sweep->mismatch_count; m++) {
		way_of(way, sizeof(way), m);
		tap_comment("exitpath differs: %s: %lu accesses", way, m->count);
		describe(what, sizeof(what), sweep, m);
		words_of(expected, sizeof(expected), m, m->expected);
		words_of(got, sizeof(got), m, m->got);
		case_fail(NULL, 0, what, expected, got);
	}
	/* Some sorts have got no line of their own. */
	if (sweep->mismatch_count == SWEEP_MISMATCHES)
		tap_comment("exitpath differs: more");
	if (sweep->differ)
		case_note("accesses",
			  "%lu of %lu differ from the model; the first of each sort are shown",
			  sweep->differ, sweep->checked);
}
