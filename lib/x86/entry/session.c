#include "entry/session.h"
#include "cpu/smp.h"
#include "ept/ept.h"
#include "mmu/pages.h"
#include "platform.h"
#include "string.h"
#include "vmx/control_rules.h"
#include "vmx/entry_reader.h"
#include "vmx/entry_rules.h"
#include "vmx/entry_words.h"
#include "vmx/vmx.h"

#define SIPI_VECTOR	0x9a

extern const u8 vmx_guest_done[];

/*
 * Fields that a control may bring into use have something valid, so that only one rule is broken;
 * here those in which a session wants something of its own.
 */
static void set_unused_fields(const struct entry_session *session, struct entry_input *in)
{
	static const u16 addresses[] = {
		INDEX_IO_BITMAP_A_ADDRESS, INDEX_IO_BITMAP_B_ADDRESS, INDEX_MSR_BITMAP_ADDRESS,
		INDEX_PML_ADDRESS,
		INDEX_SUB_PAGE_PERMISSION_TABLE_POINTER, INDEX_EPTP_LIST_ADDRESS,
		INDEX_VMREAD_BITMAP_ADDRESS, INDEX_VMWRITE_BITMAP_ADDRESS,
		INDEX_VIRTUALIZATION_EXCEPTION_INFORMATION_ADDRESS,
		INDEX_LOW_PASID_DIRECTORY_ADDRESS, INDEX_HIGH_PASID_DIRECTORY_ADDRESS,
		INDEX_POSTED_INTERRUPT_DESCRIPTOR_ADDRESS, INDEX_PID_POINTER_TABLE_ADDRESS,
		INDEX_HYPERVISOR_MANAGED_LINEAR_ADDRESS_TRANSLATION_POINTER,
	};
	static const u16 apic[] = { INDEX_VIRTUAL_APIC_ADDRESS, INDEX_APIC_ACCESS_ADDRESS };
	static const u16 lists[] = {
		INDEX_VM_EXIT_MSR_STORE_ADDRESS, INDEX_VM_EXIT_MSR_LOAD_ADDRESS,
		INDEX_VM_ENTRY_MSR_LOAD_ADDRESS,
	};
	u32 i;

	for (i = 0; i < ARRAY_SIZE(addresses); i++)
		if (vmcs_has_index(addresses[i]))
			in->field[addresses[i]] = physical(session->structures);
	for (i = 0; i < ARRAY_SIZE(apic); i++)
		if (vmcs_has_index(apic[i]))
			in->field[apic[i]] = physical(session->apic_page) + i * PAGE_SIZE;
	for (i = 0; i < ARRAY_SIZE(lists); i++)
		in->field[lists[i]] = physical(session->msr_list);
	if (session->ept_pointer)
		F(EPT_POINTER) = session->ept_pointer;
	/* What is not refused must not hang: no state but wait-for-SIPI is without this exit. */
	if (control_allowed(CONTROL_PIN_ACTIVATE_VMX_PREEMPTION_TIMER)) {
		ON(PIN, ACTIVATE_VMX_PREEMPTION_TIMER);
		F(VMX_PREEMPTION_TIMER_VALUE) = 1000;
	}
	F(GUEST_RIP) = (u64)vmx_guest_done;
	F(EXCEPTION_BITMAP) = BITS(31, 0);
	/* So that the delivery of an event raises an exception. */
	F(GUEST_IDTR_LIMIT) = 0;
	/* CR4.CET needs it. */
	F(HOST_CR0) |= CR0_WP;
	F(GUEST_CR0) |= CR0_WP;
}

/* IA32_SYSENTER_CS over and over: an MSR that takes any value and that nobody here uses. */
static void fill_msr_list(u64 *list)
{
	u32 i;

	for (i = 0; i < PAGE_SIZE / 16; i++)
		list[2 * i] = IA32_SYSENTER_CS;
}

static void poke(struct entry_scene *scene, u32 offset, u64 value)
{
	struct entry_session *session = scene->memory;

	session->page[offset / 8] = value;
}

void entry_session_start(struct entry_session *session)
{
	struct entry_scene scene;

	session->page = page_alloc();
	session->empty_page = page_alloc();
	session->structures = page_alloc();
	session->msr_list = page_alloc();
	session->apic_page = pages_alloc(2 * PAGE_SIZE, PAGE_SIZE);
	fill_msr_list(session->msr_list);
	session->startup_ipis = false;
	session->ept_pointer = 0;
	if (control_allowed(CONTROL_PROC2_ENABLE_EPT) && need_ept_vpid_cap(EPT_CAP_WALK_4))
		session->ept_pointer = physical(session->empty_page) | 3 << 3 |
				       (need_ept_vpid_cap(EPT_CAP_WB) ? 6 : 0);
	entry_this_cpu();
	memset(&session->valid, 0, sizeof(session->valid));
	vmcs_fill_fields_of_controls();
	entry_read_input(&session->valid, false, physical(this_vmx()->vmcs_region));
	session->written = session->valid;
	session->guest_unknown = false;
	set_unused_fields(session, &session->valid);
	entry_session_forget(session);
	entry_session_scene(session, &scene, BASE_64);
	session->clean = scene.in;
}

const char *entry_session_scene(struct entry_session *session, struct entry_scene *scene,
				enum entry_base base)
{
	struct entry_state *state = &scene->in.state;

	memset(session->page, 0, PAGE_SIZE);
	memset(scene, 0, sizeof(*scene));
	scene->in = session->valid;
	state->resume = this_vmx()->launched;
	state->launch_state = state->resume ? LAUNCH_STATE_LAUNCHED : LAUNCH_STATE_CLEAR;
	scene->page = physical(session->page);
	scene->empty_page = physical(session->empty_page);
	scene->ept_pointer = session->ept_pointer;
	scene->poke = poke;
	scene->memory = session;
	return entry_set_base(scene, base);
}

/* --- every control that goes with the others ------------------------------------------ */

static bool makes_the_base_state(enum control control)
{
	switch (control) {
	case CONTROL_PROC2_ENABLE_EPT:
	case CONTROL_PROC2_UNRESTRICTED_GUEST:
	case CONTROL_ENTRY_IA_32E_MODE_GUEST:
	case CONTROL_PIN_ACTIVATE_VMX_PREEMPTION_TIMER:
		return true;
	default:
		return false;
	}
}

static bool accepted(const struct entry_input *in)
{
	struct entry_prediction prediction;

	entry_predict(in, &prediction);
	return entry_must_succeed(&prediction);
}

bool entry_session_is_valid(const struct entry_scene *scene)
{
	struct entry_prediction prediction;

	entry_predict(&scene->in, &prediction);
	if (entry_must_succeed(&prediction))
		return true;
	case_fail(NULL, 0, entry_base_words(scene->base), "a valid base state",
		  prediction.broken_count ? entry_rules[prediction.broken[0]].id : "uncertain");
	return false;
}

static void add_controls(struct entry_scene *scene)
{
	struct entry_input *in = &scene->in;
	char refused[500] = "", *p = refused, *end = refused + sizeof(refused);
	u32 round, i;

	/* Twice: some need others that come later in the table. */
	for (round = 0; round < 2; round++) {
		for (i = 0; i < CONTROLS_DEFINED; i++) {
			enum control control = all_controls[i];

			if (makes_the_base_state(control) || !control_allowed(control) ||
			    entry_control(in, control))
				continue;
			entry_set_control(in, control, true);
			if (accepted(in))
				continue;
			entry_set_control(in, control, false);
			if (round)
				p += format(p, end - p, "%s\"%s\"", *refused ? ", " : "",
					    control_words(control));
		}
	}
	if (*refused)
		tap_comment("%s, all controls but %s, which do not go with the others",
			    entry_base_words(scene->base), refused);
}

void entry_session_dress(struct entry_session *session, struct entry_scene *scene)
{
	struct entry_input *in = &scene->in;
	u64 *rich = session->rich[scene->base];
	u32 field;

	if (!rich[CONTROL_FIELD_PROC1]) {
		add_controls(scene);
		for (field = 0; field < CONTROL_FIELDS; field++)
			rich[field] = in->field[entry_control_field_index(field)];
	}
	for (field = 0; field < CONTROL_FIELDS; field++)
		in->field[entry_control_field_index(field)] = rich[field];
	F(VM_EXIT_MSR_STORE_COUNT) = 1;
	F(VM_EXIT_MSR_LOAD_COUNT) = 1;
	F(VM_ENTRY_MSR_LOAD_COUNT) = 1;
	F(VMCS_LINK_POINTER) = scene->page;
	POKE(0, (in->cpu->caps.basic & BITS(30, 0)) | (IS(PROC2, VMCS_SHADOWING) ? BIT(31) : 0));
}

void entry_session_load_all(struct entry_session *session)
{
	static struct entry_scene scene;

	entry_session_scene(session, &scene, BASE_64);
	entry_session_dress(session, &scene);
	session->clean = scene.in;
}

/* --- entries ----------------------------------------------------------------------------- */

void entry_session_write(struct entry_session *session, const struct entry_input *in)
{
	entry_write_fields(in, &session->written, session->guest_unknown);
	session->guest_unknown = false;
}

static bool another_host(const struct entry_session *session)
{
	static const u16 host[] = {
#define VMCS_FIELD(encoding, name, lower, width, type, exists) HOST_FIELD_##type(INDEX_##name)
#define HOST_FIELD_HOST(index)	index,
#define HOST_FIELD_GUEST(index)
#define HOST_FIELD_CONTROL(index)
#define HOST_FIELD_EXIT_INFO(index)
#include "sdm/vmcs_fields.def"
#undef VMCS_FIELD
	};
	u32 i;

	for (i = 0; i < ARRAY_SIZE(host); i++)
		if (session->written.field[host[i]] != session->valid.field[host[i]])
			return true;
	return false;
}

static void note_exit(struct entry_session *session, outcome_t outcome)
{
	session->guest_unknown |= outcome_kind(outcome) == OUTCOME_KIND_EXIT;
}

/* What an entry has changed, and the way back to the usual host. */
static void entered(struct entry_session *session, outcome_t outcome)
{
	enum outcome_kind kind = outcome_kind(outcome);

	note_exit(session, outcome);
	if (kind != OUTCOME_KIND_EXIT && kind != OUTCOME_KIND_ENTRY_FAILURE)
		return;
	if (!another_host(session))
		return;
	entry_session_write(session, &session->clean);
	note_exit(session, resume_unaudited());
}

/* VMLAUNCH or VMRESUME; a HOST_RSP of the scene's own counts, too, where the exit leads back. */
static outcome_t enter_written(struct entry_session *session, const struct entry_input *in,
			       bool audited)
{
	const u64 *valid = session->valid.field;
	bool other_stack = F(HOST_RSP) != valid[INDEX_HOST_RSP] &&
			   F(HOST_RIP) == valid[INDEX_HOST_RIP];
	outcome_t outcome;

	if (other_stack) {
		vmx_keep_host_rsp(true);
		vmwrite(HOST_RSP, F(HOST_RSP));
	}
	outcome = audited ? resume() : resume_unaudited();
	if (other_stack)
		vmx_keep_host_rsp(false);
	return outcome;
}

static outcome_t enter_session(struct entry_session *session, const struct entry_input *in,
			       bool audited)
{
	bool waits = session->startup_ipis && F(GUEST_ACTIVITY_STATE) == ACTIVITY_WAIT_FOR_SIPI;
	outcome_t outcome;

	entry_session_write(session, in);
	session->audited = audited;
	if (waits)
		smp_begin_startup_ipis(SIPI_VECTOR);
	outcome = enter_written(session, in, audited);
	if (waits)
		EXPECT(smp_stop_startup_ipis(), OUTCOME_DONE);
	entered(session, outcome);
	return outcome;
}

outcome_t entry_session_enter(struct entry_session *session, const struct entry_input *in)
{
	return enter_session(session, in, this_platform()->audit_all);
}

outcome_t entry_session_enter_audited(struct entry_session *session, const struct entry_input *in)
{
	return enter_session(session, in, true);
}

/*
 * Tables that map nothing: without a translation there is no instruction to execute. With VPIDs one
 * of an earlier guest may still be cached, 31.4; of this EPT pointer there never was any.
 */
static bool maps_nothing(const struct entry_session *session, const struct entry_input *in)
{
	u64 page = physical(session->empty_page);

	if (WITH_EPT)
		return (F(EPT_POINTER) & BITS(51, 12)) == page;
	return PAGED && !IS(PROC2, ENABLE_VPID) && !IS(PROC3, ENABLE_HLAT) &&
	       (F(GUEST_CR3) & BITS(51, 12)) == page;
}

void entry_session_predict(const struct entry_session *session, const struct entry_input *in,
			   struct entry_prediction *prediction)
{
	entry_predict(in, prediction);
	prediction->executes_nothing = maps_nothing(session, in);
}

/* IRET of a guest with virtual NMIs, in the VMCS of vmcs_set_defaults(): 28.3. */
void entry_session_forget(struct entry_session *session)
{
	struct entry_input *in = &session->valid;
	const u64 pin = in->field[INDEX_PIN_BASED_VM_EXECUTION_CONTROLS];

	if (!control_allowed(CONTROL_PIN_VIRTUAL_NMIS))
		return;
	ON(PIN, NMI_EXITING);
	ON(PIN, VIRTUAL_NMIS);
	/* It has as long as it needs. */
	OFF(PIN, ACTIVATE_VMX_PREEMPTION_TIMER);
	entry_session_write(session, in);
	in->field[INDEX_PIN_BASED_VM_EXECUTION_CONTROLS] = pin;
	REQUIRE(enter_unaudited(unblock_nmis), GUEST_DONE);
	session->guest_unknown = true;
	/* VMLAUNCH is the way in again: 27.11.3. */
	REQUIRE(vmclear((u64)this_vmx()->vmcs_region), OUTCOME_DONE);
	REQUIRE(vmptrld((u64)this_vmx()->vmcs_region), OUTCOME_DONE);
	this_vmx()->launched = false;
}
