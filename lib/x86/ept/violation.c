#include "ept/violation.h"

static const struct bit_name names[] = {
	{ VIOLATION_READ, "data read" }, { VIOLATION_WRITE, "data write" },
	{ VIOLATION_FETCH, "instruction fetch" }, { VIOLATION_READABLE, "readable" },
	{ VIOLATION_WRITABLE, "writable" }, { VIOLATION_EXECUTABLE, "executable" },
	{ VIOLATION_USER_EXECUTABLE, "user-executable" },
	{ VIOLATION_LINEAR_VALID, "linear address valid" },
	{ VIOLATION_TRANSLATED, "translated address" },
	{ VIOLATION_USER_MODE, "user-mode address" },
	{ VIOLATION_PAGE_WRITABLE, "read/write page" },
	{ VIOLATION_PAGE_EXECUTE_DISABLE, "execute-disable page" },
	{ VIOLATION_NMI_UNBLOCKING, "NMI unblocking" }, { VIOLATION_SHADOW_STACK, "shadow stack" },
	{ VIOLATION_LEAF_BIT_60, "bit 60" },
	{ VIOLATION_PAGING_VERIFICATION, "guest-paging verification" },
	{ VIOLATION_ASYNCHRONOUS, "asynchronous" }, { 0, NULL },
};

const char *violation_words(char *to, size_t size, u64 qualification)
{
	return format_bits(to, size, qualification, names);
}

/* 30.2.3 Information About NMI Unblocking Due to IRET: when bit 12 means something. */
static bool nmi_unblocking_is_defined(void)
{
	return (!vmcs_has_control(CONTROL_PIN_NMI_EXITING) ||
		vmcs_has_control(CONTROL_PIN_VIRTUAL_NMIS)) &&
	       !(vmread(ORIGINAL_EVENT_IDENTIFICATION) & BIT(31));
}

/* The bits of Table 30-7 that are defined when the access is as in `qualification`. */
static u64 defined_bits(u64 qualification)
{
	const u64 translated = VIOLATION_LINEAR_VALID | VIOLATION_TRANSLATED;
	u64 defined = BITS(5, 0) | translated | VIOLATION_SHADOW_STACK |
		      VIOLATION_PAGING_VERIFICATION | VIOLATION_ASYNCHRONOUS;

	if (vmcs_has_control(CONTROL_PROC2_MODE_BASED_EXECUTE_CONTROL_FOR_EPT))
		defined |= VIOLATION_USER_EXECUTABLE;
	if ((qualification & translated) == translated &&
	    capabilities()->ept_vpid_cap & EPT_CAP_ADVANCED_EXIT_INFO)
		defined |= VIOLATION_USER_MODE | VIOLATION_PAGE_WRITABLE |
			   VIOLATION_PAGE_EXECUTE_DISABLE;
	if (nmi_unblocking_is_defined())
		defined |= VIOLATION_NMI_UNBLOCKING;
	return defined;
}

void violation_expect(const char *file, u32 line, u64 qualification, u64 open,
		      u64 physical_address, u64 linear_address)
{
	u64 defined = defined_bits(qualification) & ~open;
	u64 got = vmread(EXIT_QUALIFICATION) & defined, want = qualification & defined;
	char words[2][200];

	if (got != want)
		case_fail(file, line, "vmread(EXIT_QUALIFICATION)",
			  violation_words(words[0], sizeof(words[0]), want),
			  violation_words(words[1], sizeof(words[1]), got));
	case_expect_equal(file, line, "vmread(GUEST_PHYSICAL_ADDRESS)",
			  vmread(GUEST_PHYSICAL_ADDRESS), physical_address);
	if (qualification & VIOLATION_LINEAR_VALID)
		case_expect_equal(file, line, "vmread(GUEST_LINEAR_ADDRESS)",
				  vmread(GUEST_LINEAR_ADDRESS), linear_address);
}
