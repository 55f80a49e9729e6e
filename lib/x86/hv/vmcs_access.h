/* Fields of the VMCS that is current, and what is in them. */
#ifndef HV_VMCS_ACCESS_H
#define HV_VMCS_ACCESS_H

#include "hv/hv.h"

/* Access rights of a guest segment: Table 27-2. */
#define HV_AR_TYPE(rights)	FIELD(rights, 3, 0)
#define HV_AR_S			BIT(4)
#define HV_AR_DPL(rights)	FIELD(rights, 6, 5)
#define HV_AR_P			BIT(7)
#define HV_AR_L			BIT(13)
#define HV_AR_DB			BIT(14)
#define HV_AR_G			BIT(15)
#define HV_AR_UNUSABLE		BIT(16)

/* INJECTED_EVENT_IDENTIFICATION: Table 27-18. */
enum {
	HV_EVENT_EXTERNAL_INTERRUPT = 0,
	HV_EVENT_NMI = 2,
	HV_EVENT_HARDWARE_EXCEPTION,
	HV_EVENT_SOFTWARE_INTERRUPT,
	HV_EVENT_PRIVILEGED_SOFTWARE_EXCEPTION,
	HV_EVENT_SOFTWARE_EXCEPTION,
};
#define HV_EVENT_ERROR_CODE	BIT(11)
#define HV_EVENT_VALID		BIT(31)
#define HV_EVENT(type, vector)	(HV_EVENT_VALID | (u64)(type) << 8 | (vector))

/* GUEST_PENDING_DEBUG_EXCEPTIONS: Table 27-4. */
#define HV_PENDING_BS		BIT(14)

/* The fields exist, so nothing can fail. */

static inline u64 vmcs_get(u64 field)
{
	u64 value;

	asm volatile("vmread %1, %0" : "=r" (value) : "r" (field) : "cc");
	return value;
}

static inline void vmcs_put(u64 field, u64 value)
{
	asm volatile("vmwrite %0, %1" : : "r" (value), "r" (field) : "cc");
}

/* Makes the vCPU's VMCS the current one. */
void hv_load(struct hv_vcpu *vcpu);

#endif
