/*
 * VMCS fields by their SDM names (Appendix B), and how software in VMX root operation gets
 * at them. vmread() and vmwrite() are for fields that must exist: a failure ends the case.
 */
#ifndef VMX_VMCS_H
#define VMX_VMCS_H

#include "vmx/controls.h"
#include "vmx/facts.h"
#include "vmx/instructions.h"

/* Bits of the encoding: 27.11.2 VMREAD, VMWRITE, and Encodings of VMCS Fields. */
#define VMCS_FIELD_HIGH		1u		/* the high half of a 64-bit field */
#define VMCS_FIELD_TYPE(f)	FIELD(f, 11, 10) /* 0 control, 1 exit info, 2 guest, 3 host */
#define VMCS_FIELD_WIDTH(f)	FIELD(f, 14, 13) /* 0 16-bit, 1 64-bit, 2 32-bit, 3 natural */

enum { VMCS_FIELD_CONTROL, VMCS_FIELD_EXIT_INFO, VMCS_FIELD_GUEST, VMCS_FIELD_HOST };
enum { VMCS_FIELD_WIDTH_16, VMCS_FIELD_WIDTH_64, VMCS_FIELD_WIDTH_32, VMCS_FIELD_WIDTH_NATURAL };

const char *vmcs_field_name(u32 encoding);

/*
 * Whether this processor must have the field, by Appendix B and the capability MSRs. False for an
 * encoding that is none of a field.
 */
bool vmcs_field_exists(u32 encoding);

u64 vmread_at(const char *file, u32 line, u64 field);
void vmwrite_at(const char *file, u32 line, u64 field, u64 value);
#define vmread(field)		vmread_at(__FILE__, __LINE__, field)
#define vmwrite(field, value)	vmwrite_at(__FILE__, __LINE__, field, value)

/* One control bit of the current VMCS. Setting a secondary or tertiary one activates its field. */
void vmcs_set_control(enum control control);
void vmcs_clear_control(enum control control);
bool vmcs_has_control(enum control control);

/* Back to what enter() needs and nothing more, in all control fields; bitmaps all zero. */
void vmcs_clear_optional_controls(void);

/* Fills the current VMCS: that, this processor as the host, and a 64-bit guest like it. */
void vmcs_set_defaults(void);
void vmcs_set_host_defaults(void);
void vmcs_set_guest_defaults(void);

#endif
