/* Bits of control registers, flags and architectural MSRs, named as in the SDM. */
#ifndef SDM_BITS_H
#define SDM_BITS_H

#include "types.h"

#define CR0_PE		BIT(0)
#define CR0_MP		BIT(1)
#define CR0_EM		BIT(2)
#define CR0_TS		BIT(3)
#define CR0_ET		BIT(4)
#define CR0_NE		BIT(5)
#define CR0_WP		BIT(16)
#define CR0_AM		BIT(18)
#define CR0_NW		BIT(29)
#define CR0_CD		BIT(30)
#define CR0_PG		BIT(31)

#define CR3_LAM_U57	BIT(61)
#define CR3_LAM_U48	BIT(62)

#define CR4_VME		BIT(0)
#define CR4_PVI		BIT(1)
#define CR4_TSD		BIT(2)
#define CR4_DE		BIT(3)
#define CR4_PSE		BIT(4)
#define CR4_PAE		BIT(5)
#define CR4_MCE		BIT(6)
#define CR4_PGE		BIT(7)
#define CR4_PCE		BIT(8)
#define CR4_OSFXSR	BIT(9)
#define CR4_OSXMMEXCPT	BIT(10)
#define CR4_UMIP	BIT(11)
#define CR4_LA57	BIT(12)
#define CR4_VMXE	BIT(13)
#define CR4_SMXE	BIT(14)
#define CR4_FSGSBASE	BIT(16)
#define CR4_PCIDE	BIT(17)
#define CR4_OSXSAVE	BIT(18)
#define CR4_KL		BIT(19)
#define CR4_SMEP	BIT(20)
#define CR4_SMAP	BIT(21)
#define CR4_PKE		BIT(22)
#define CR4_CET		BIT(23)
#define CR4_PKS		BIT(24)
#define CR4_UINTR	BIT(25)
#define CR4_LASS	BIT(27)
#define CR4_LAM_SUP	BIT(28)
#define CR4_FRED	BIT(32)

#define EFER_SCE	BIT(0)
#define EFER_LME	BIT(8)
#define EFER_LMA	BIT(10)
#define EFER_NXE	BIT(11)

#define RFLAGS_CF	BIT(0)
#define RFLAGS_FIXED	BIT(1)
#define RFLAGS_PF	BIT(2)
#define RFLAGS_AF	BIT(4)
#define RFLAGS_ZF	BIT(6)
#define RFLAGS_SF	BIT(7)
#define RFLAGS_TF	BIT(8)
#define RFLAGS_IF	BIT(9)
#define RFLAGS_DF	BIT(10)
#define RFLAGS_OF	BIT(11)
#define RFLAGS_IOPL	BITS(13, 12)
#define RFLAGS_NT	BIT(14)
#define RFLAGS_RF	BIT(16)
#define RFLAGS_VM	BIT(17)
#define RFLAGS_AC	BIT(18)
#define RFLAGS_ID	BIT(21)
/* The six flags by which a VMX instruction reports: 33.2 Conventions. */
#define RFLAGS_STATUS	(RFLAGS_CF | RFLAGS_PF | RFLAGS_AF | RFLAGS_ZF | RFLAGS_SF | RFLAGS_OF)

#define DR7_FIXED	BIT(10)
#define DR7_GD		BIT(13)
#define DR6_FIXED	0xffff0ff0ull

#define DEBUGCTL_LBR	BIT(0)
#define DEBUGCTL_BTF	BIT(1)
#define DEBUGCTL_BLD	BIT(2)

#define FEATURE_CONTROL_LOCK		BIT(0)
#define FEATURE_CONTROL_VMX_IN_SMX	BIT(1)
#define FEATURE_CONTROL_VMX		BIT(2)

#define APIC_BASE_BSP		BIT(8)
#define APIC_BASE_X2APIC	BIT(10)
#define APIC_BASE_ENABLE	BIT(11)

/* Page-fault error code: 5.7 Page-Fault Exceptions. */
#define PF_P		BIT(0)
#define PF_WR		BIT(1)
#define PF_US		BIT(2)
#define PF_RSVD		BIT(3)
#define PF_ID		BIT(4)
#define PF_PK		BIT(5)
#define PF_SS		BIT(6)
#define PF_HLAT		BIT(7)
#define PF_SGX		BIT(15)

#endif
