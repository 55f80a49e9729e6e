/*
 * Very many VM entries, each from a scene (vmx/entry_scene.h) of its own: what they share on this
 * processor. Pages, a valid VMCS to change, and what the VMCS holds at the moment, so that only
 * fields that differ are written.
 *
 *	entry_session_start(&session);
 *	why_not = entry_session_scene(&session, &scene, BASE_PAE);
 *	scene.in.field[INDEX_GUEST_CR4] = 0;
 *	entry_session_predict(&session, &scene.in, &prediction);
 *	if (!entry_hazard(&session, &scene.in, &prediction))
 *		outcome = entry_session_enter(&session, &scene.in);
 */
#ifndef ENTRY_SESSION_H
#define ENTRY_SESSION_H

#include "vmx/entry_reader.h"
#include "vmx/entry_scene.h"

struct entry_session {
	struct entry_input valid;	/* vmcs_set_defaults(), and fields without use filled */
	struct entry_input written;	/* what the VMCS holds */
	struct entry_input clean;	/* to enter with when another host state has been loaded */
	bool guest_unknown;		/* an exit has saved the guest since */
	u64 *page, *empty_page;		/* of the scenes */
	u64 *structures;		/* what else a VMCS points to; processors may write there */
	u64 *msr_list;			/* 256 entries that can be stored and loaded */
	u64 *apic_page;			/* APIC-access page and virtual-APIC page, of their own */
	bool audited;			/* the last entry was */
	bool startup_ipis;		/* come from processor 1 when a guest is to wait for one */
	u64 ept_pointer;		/* of tables that map nothing; 0: no EPT here */
	u64 rich[ENTRY_BASES][CONTROL_FIELDS];	/* entry_session_dress(); 0: not known yet */
};

/* To be called with the VMCS of vmcs_set_defaults() as the current one. */
void entry_session_start(struct entry_session *session);

/* A fresh scene in a base state. Returns NULL, or what this processor lacks for it. */
const char *entry_session_scene(struct entry_session *session, struct entry_scene *scene,
				enum entry_base base);

/*
 * Turns on, in a scene that has just been set, every control that this processor has and that the
 * model accepts there, but those that make up the base state; and the lists of MSRs and the link
 * pointer: so that every field of the VMCS counts.
 */
void entry_session_dress(struct entry_session *session, struct entry_scene *scene);

/*
 * From now on the way back from another host loads all that an exit can load. Without this only
 * what vmcs_set_defaults() asks for.
 */
void entry_session_load_all(struct entry_session *session);

/* Fails the case when the model sees anything wrong with a scene that should be valid. */
bool entry_session_is_valid(const struct entry_scene *scene);

/* Writes the fields that the VMCS does not hold yet. */
void entry_session_write(struct entry_session *session, const struct entry_input *in);

/*
 * The same, then VMLAUNCH or VMRESUME: how it ended. The host is as before. Without the audit,
 * unless the run is to audit all (struct platform, audit_all).
 */
outcome_t entry_session_enter(struct entry_session *session, const struct entry_input *in);

/* The same with the audit, which costs far more than the entry. */
outcome_t entry_session_enter_audited(struct entry_session *session, const struct entry_input *in);

/*
 * What the entry must end in: entry_predict(), and what the session knows of the memory that it
 * gives a guest.
 */
void entry_session_predict(const struct entry_session *session, const struct entry_input *in,
			   struct entry_prediction *prediction);

/*
 * Ends what a machine keeps of guests that ran before although the VMCS says otherwise: the
 * blocking of virtual NMIs (vmx/exit-pending:virtual_nmi_blocking_is_loaded). So that what one case
 * or walk does is not found by the next.
 */
void entry_session_forget(struct entry_session *session);

/*
 * Why an entry that the model predicts so must not be made, in words that complete "the guest
 * would ..." or "the host would ..."; NULL: it may. An exit, and a failure by the guest state as
 * well, load whatever host the VMCS has, and a guest that never exits ends the run.
 */
const char *entry_hazard(const struct entry_session *session, const struct entry_input *in,
			 const struct entry_prediction *prediction);

/*
 * The same for the host alone, whatever the model predicts: for who would rather not bet on the
 * processor's checks of the host state.
 */
const char *entry_host_hazard(const struct entry_session *session, const struct entry_input *in);

/*
 * The same for machines of which the device tree says exitpath,addresses-need-memory or
 * exitpath,long-mode-needs-protection, whatever the SDM says: random walks would end there, each
 * with the same known deviation.
 */
const char *entry_machine_hazard(const struct entry_input *in,
				 const struct entry_prediction *prediction);

#endif
