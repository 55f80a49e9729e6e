#include "entry/check.h"
#include "mmu/pages.h"
#include "string.h"
#include "vmx/entry_reader.h"
#include "vmx/vmx.h"

extern const u8 vmx_guest_done[];

/* What the trials of one case share. */
struct session {
	const struct entry_check *check;
	struct ept ept;
	bool has_ept;
	struct entry_input valid;	/* vmcs_set_defaults(), and addresses in fields without use */
	u64 *page, *empty_page;
	u32 made;			/* trials */
	const char *why_not;
};

/* Fields that a control may bring into use: something valid, so that only one rule is broken. */
static void set_unused_fields(const struct session *session, struct entry_input *in)
{
	static const u16 addresses[] = {
		INDEX_IO_BITMAP_A_ADDRESS, INDEX_IO_BITMAP_B_ADDRESS, INDEX_MSR_BITMAP_ADDRESS,
		INDEX_VIRTUAL_APIC_ADDRESS, INDEX_APIC_ACCESS_ADDRESS, INDEX_PML_ADDRESS,
		INDEX_SUB_PAGE_PERMISSION_TABLE_POINTER, INDEX_EPTP_LIST_ADDRESS,
		INDEX_VMREAD_BITMAP_ADDRESS, INDEX_VMWRITE_BITMAP_ADDRESS,
		INDEX_VIRTUALIZATION_EXCEPTION_INFORMATION_ADDRESS,
		INDEX_LOW_PASID_DIRECTORY_ADDRESS, INDEX_HIGH_PASID_DIRECTORY_ADDRESS,
		INDEX_POSTED_INTERRUPT_DESCRIPTOR_ADDRESS, INDEX_PID_POINTER_TABLE_ADDRESS,
		INDEX_HYPERVISOR_MANAGED_LINEAR_ADDRESS_TRANSLATION_POINTER,
		INDEX_VM_EXIT_MSR_STORE_ADDRESS, INDEX_VM_EXIT_MSR_LOAD_ADDRESS,
		INDEX_VM_ENTRY_MSR_LOAD_ADDRESS,
	};
	u64 empty = physical(session->empty_page);
	u32 i;

	for (i = 0; i < ARRAY_SIZE(addresses); i++)
		if (vmcs_has_index(addresses[i]))
			in->field[addresses[i]] = empty;
	if (vmcs_has_index(INDEX_VIRTUAL_PROCESSOR_IDENTIFIER))
		F(VIRTUAL_PROCESSOR_IDENTIFIER) = 1;
	if (vmcs_has_index(INDEX_TSC_MULTIPLIER))
		F(TSC_MULTIPLIER) = BIT(48);
	if (session->has_ept)
		F(EPT_POINTER) = session->ept.pointer;
	/* What is not refused must not hang: no state but wait-for-SIPI is without this exit. */
	if (control_allowed(CONTROL_PIN_ACTIVATE_VMX_PREEMPTION_TIMER)) {
		ON(PIN, ACTIVATE_VMX_PREEMPTION_TIMER);
		F(VMX_PREEMPTION_TIMER_VALUE) = 100000;
	}
	/* A guest that runs executes VMCALL; any exception exits as well. */
	F(GUEST_RIP) = (u64)vmx_guest_done;
	F(EXCEPTION_BITMAP) = BITS(31, 0);
	/* So that the delivery of an event raises one. */
	F(GUEST_IDTR_LIMIT) = 0;
}

static void poke(struct entry_scene *scene, u32 offset, u64 value)
{
	struct session *session = scene->memory;

	session->page[offset / 8] = value;
}

static void start(struct session *session, const struct entry_check *check)
{
	memset(session, 0, sizeof(*session));
	session->check = check;
	session->page = page_alloc();
	session->empty_page = page_alloc();
	if (control_allowed(CONTROL_PROC2_ENABLE_EPT) && need_ept_vpid_cap(EPT_CAP_WALK_4)) {
		ept_build(&session->ept);
		session->ept.pointer = ept_pointer(&session->ept, 0);
		session->has_ept = true;
	}
	entry_this_cpu();
	entry_read_input(&session->valid, false, physical(this_vmx()->vmcs_region));
	set_unused_fields(session, &session->valid);
}

/* A fresh scene in a base state; NULL, or what this processor lacks for it. */
static const char *set_scene(struct session *session, struct entry_scene *scene, enum entry_base base)
{
	memset(session->page, 0, PAGE_SIZE);
	memset(scene, 0, sizeof(*scene));
	scene->in = session->valid;
	scene->page = physical(session->page);
	scene->empty_page = physical(session->empty_page);
	scene->ept_pointer = session->has_ept ? session->ept.pointer : 0;
	scene->poke = poke;
	scene->memory = session;
	return entry_set_base(scene, base);
}

/* The VMCS as the scene has it. A former entry has changed the state of the guest. */
static void write_scene(const struct entry_scene *scene)
{
	static struct entry_input found;

	entry_read_input(&found, false, scene->in.state.current_vmcs);
	entry_write_fields(&scene->in, &found);
}

static void judge(const struct session *session, const struct entry_scene *scene, u32 n,
		  outcome_t outcome)
{
	const struct entry_prediction *predicted = &this_vmx()->audit.predicted;
	u32 rule = session->check->rule;
	char what[100], words[120];
	bool right;

	format(what, sizeof(what), "trial %u, %s", n + 1, entry_base_words(scene->base));
	if (rule == ENTRY_RULES) {
		if (outcome_kind(outcome) != OUTCOME_KIND_EXIT)
			case_fail(NULL, 0, what, "the guest runs",
				  outcome_words(words, sizeof(words), outcome));
		return;
	}
	right = entry_result_allows(entry_rules[rule].result, scene->in.state.resume, outcome);
	if (!right)
		case_fail(NULL, 0, what, entry_rules[rule].words,
			  outcome_words(words, sizeof(words), outcome));
	if (!entry_breaks(predicted, rule))
		case_fail(NULL, 0, what, "the model names the rule", predicted->broken_count ?
			  entry_rules[predicted->broken[0]].id : "no rule");
}

/* All trials from one base state. */
static void try_base(struct session *session, enum entry_base base)
{
	static struct entry_scene scene;
	const char *answer;
	u32 n;

	for (n = 0;; n++) {
		answer = set_scene(session, &scene, base);
		if (!answer)
			answer = session->check->change(&scene, n);
		if (answer) {
			if (answer != entry_no_more && answer != entry_other_base)
				session->why_not = answer;
			return;
		}
		write_scene(&scene);
		judge(session, &scene, n, resume());
		session->made++;
		/* One failure tells the story; the emulator may be in a strange state by now. */
		if (case_failed())
			return;
	}
}

void entry_check(const struct case_def *this_case)
{
	static struct session session;
	enum entry_base base;

	start(&session, this_case->row);
	for (base = 0; base < ENTRY_BASES && !case_failed(); base++)
		try_base(&session, base);
	if (!session.made && session.why_not)
		case_skip("%s", session.why_not);
	EXPECT_TRUE(session.made > 0);
}
