/*
 * The virtual APIC of a guest: 32 APIC Virtualization and Virtual Interrupts. The processor keeps
 * its registers in the virtual-APIC page; a guest reaches them in memory at VIRTUAL_APIC_LINEAR, by
 * CR8 or by MSRs.
 *
 *	struct virtual_apic apic;
 *
 *	virtual_apic_start(&apic);
 *	virtual_apic_map(&apic);
 *	*virtual_apic_register(&apic, APIC_TASK_PRIORITY) = 0x50;
 */
#ifndef VMX_VIRTUAL_APIC_H
#define VMX_VIRTUAL_APIC_H

#include "cpu/apic.h"
#include "mmu/build.h"
#include "vmx/vmx.h"

/* Where a guest finds the APIC-access page: nothing else is there. */
#define VIRTUAL_APIC_LINEAR	0x123456789000ull

struct virtual_apic {
	u8 *page;			/* the virtual-APIC page */
	u8 *access_page;		/* the APIC-access page, once there is one */
	struct address_space guest;	/* likewise; GUEST_CR3 refers to it */
	u64 *guest_pte;			/* of VIRTUAL_APIC_LINEAR */
};

/*
 * "Use TPR shadow" with a virtual-APIC page of zeros and TPR threshold 0, in the current VMCS. No
 * access to CR8 exits; other controls stay as they are.
 */
void virtual_apic_start(struct virtual_apic *apic);

/* "Virtualize APIC accesses": an APIC-access page of zeros, mapped by a 4-KByte page. */
void virtual_apic_map(struct virtual_apic *apic);

/* "Virtual-interrupt delivery", with "external-interrupt exiting" for 29.2.1.1. No EOI exits. */
void virtual_apic_deliver(void);

/* The 32-bit register at `offset`, 0 to FFCH, in the virtual-APIC page. */
static inline volatile u32 *virtual_apic_register(const struct virtual_apic *apic, u32 offset)
{
	return (volatile u32 *)(apic->page + offset);
}

/* Bit `vector` of VISR or VIRR: `first` is the first of the eight registers (32.1.1). */
bool virtual_apic_vector(const struct virtual_apic *apic, u32 first, u8 vector);
void virtual_apic_set_vector(const struct virtual_apic *apic, u32 first, u8 vector);

/* 27.4.2 Guest Non-Register State, guest interrupt status: RVI in bits 7:0, SVI in bits 15:8. */
#define INTERRUPT_STATUS(rvi, svi)	((u64)(rvi) | (u64)(svi) << 8)

#define TPR_SHADOW	PROC1(USE_TPR_SHADOW)
#define APIC_ACCESSES	TPR_SHADOW, PROC2(VIRTUALIZE_APIC_ACCESSES)
#define VIRTUAL_INTERRUPTS	TPR_SHADOW, PROC2(VIRTUAL_INTERRUPT_DELIVERY), \
				PIN(EXTERNAL_INTERRUPT_EXITING)

#endif
