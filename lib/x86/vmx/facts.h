/*
 * The numbers of VMX as enumerators, from the tables in sdm/: nothing here needs a processor, so
 * that the models, which also run on the host, can use it.
 */
#ifndef VMX_FACTS_H
#define VMX_FACTS_H

#include "types.h"

/* Encodings of VMCS fields: Appendix B, Field Encoding in VMCS. */
enum vmcs_field {
#define VMCS_FIELD(encoding, name, lower, width, type, exists) name = encoding,
#include "sdm/vmcs_fields.def"
#undef VMCS_FIELD
};

/* The same fields, numbered from 0 in the order of the table: for arrays. */
enum vmcs_index {
#define VMCS_FIELD(encoding, name, lower, width, type, exists) INDEX_##name,
#include "sdm/vmcs_fields.def"
#undef VMCS_FIELD
	VMCS_FIELDS,
};

/* 33.4 VM Instruction Error Numbers. */
enum vmfail {
#define INSTRUCTION_ERROR(number, name, words) VMFAIL_##name = number,
#include "sdm/instruction_errors.def"
#undef INSTRUCTION_ERROR
};

/* GUEST_ACTIVITY_STATE: 27.4.2 Guest Non-Register State. */
enum { ACTIVITY_ACTIVE, ACTIVITY_HLT, ACTIVITY_SHUTDOWN, ACTIVITY_WAIT_FOR_SIPI };

/* GUEST_INTERRUPTIBILITY_STATE: Table 27-3. */
#define BLOCKING_BY_STI		BIT(0)
#define BLOCKING_BY_MOV_SS	BIT(1)
#define BLOCKING_BY_SMI		BIT(2)
#define BLOCKING_BY_NMI		BIT(3)
#define ENCLAVE_INTERRUPTION	BIT(4)

/* INJECTED_EVENT_IDENTIFICATION: Table 27-18. */
enum injected_type {
	EVENT_TYPE_EXTERNAL_INTERRUPT,
	EVENT_TYPE_1,
	EVENT_TYPE_NMI,
	EVENT_TYPE_HARDWARE_EXCEPTION,
	EVENT_TYPE_SOFTWARE_INTERRUPT,
	EVENT_TYPE_PRIVILEGED_SOFTWARE_EXCEPTION,
	EVENT_TYPE_SOFTWARE_EXCEPTION,
	EVENT_TYPE_OTHER,
};
#define INJECTED_ERROR_CODE	BIT(11)
#define INJECTED_NESTED		BIT(13)
#define INJECTED_VALID		BIT(31)
#define INJECTED_EVENT(type, vector)	(INJECTED_VALID | (u64)(type) << 8 | (vector))

/* GUEST_PENDING_DEBUG_EXCEPTIONS: Table 27-4. */
#define PENDING_BLD	BIT(11)
#define PENDING_ENABLED	BIT(12)
#define PENDING_BS	BIT(14)
#define PENDING_RTM	BIT(16)

/* Access rights of a guest segment: Table 27-2. */
#define RIGHTS_TYPE(rights)	FIELD(rights, 3, 0)
#define RIGHTS_S		BIT(4)
#define RIGHTS_DPL(rights)	FIELD(rights, 6, 5)
#define RIGHTS_P		BIT(7)
#define RIGHTS_L		BIT(13)
#define RIGHTS_DB		BIT(14)
#define RIGHTS_G		BIT(15)
#define RIGHTS_UNUSABLE		BIT(16)

#endif
