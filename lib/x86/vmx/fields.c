/* Which VMCS fields this processor has: Appendix B, Field Encoding in VMCS. */
#include "vmx/capabilities.h"
#include "vmx/vmcs.h"

#define ALWAYS			true
#define ALLOWED(field, control)	control_allowed(CONTROL_##field##_##control)
/* A.6 Miscellaneous Data, bits 24:16: the number of CR3-target values. */
#define CR3_TARGETS(count)	(FIELD(capabilities()->misc, 24, 16) >= (count))

bool vmcs_field_exists(u32 encoding)
{
	/* The high half exists when its field does. */
	if (VMCS_FIELD_WIDTH(encoding) == VMCS_FIELD_WIDTH_64)
		encoding &= ~VMCS_FIELD_HIGH;
	switch (encoding) {
#define VMCS_FIELD(encoding, name, lower, width, type, exists) case encoding: return exists;
#include "sdm/vmcs_fields.def"
#undef VMCS_FIELD
	}
	return false;
}
