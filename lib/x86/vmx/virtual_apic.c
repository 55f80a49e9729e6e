#include "vmx/virtual_apic.h"
#include "mmu/pages.h"

void virtual_apic_start(struct virtual_apic *apic)
{
	*apic = (struct virtual_apic){ .page = page_alloc() };
	vmcs_set_control(CONTROL_PROC1_USE_TPR_SHADOW);
	vmcs_clear_control(CONTROL_PROC1_CR8_LOAD_EXITING);
	vmcs_clear_control(CONTROL_PROC1_CR8_STORE_EXITING);
	vmwrite(VIRTUAL_APIC_ADDRESS, physical(apic->page));
	vmwrite(TPR_THRESHOLD, 0);
}

void virtual_apic_map(struct virtual_apic *apic)
{
	apic->access_page = page_alloc();
	vmcs_set_control(CONTROL_PROC2_VIRTUALIZE_APIC_ACCESSES);
	vmwrite(APIC_ACCESS_ADDRESS, physical(apic->access_page));
	space_copy(&apic->guest);
	apic->guest_pte = space_map(&apic->guest, VIRTUAL_APIC_LINEAR, physical(apic->access_page),
				    PTE_P | PTE_RW, LEVEL_PTE);
	vmwrite(GUEST_CR3, physical(apic->guest.pml4));
}

void virtual_apic_deliver(void)
{
	u32 i;

	vmcs_set_control(CONTROL_PIN_EXTERNAL_INTERRUPT_EXITING);
	vmcs_set_control(CONTROL_PROC2_VIRTUAL_INTERRUPT_DELIVERY);
	for (i = 0; i < 4; i++)
		vmwrite(EOI_EXIT_BITMAP_0 + 2 * i, 0);
	vmwrite(GUEST_INTERRUPT_STATUS, 0);
}

static volatile u32 *register_of(const struct virtual_apic *apic, u32 first, u8 vector)
{
	return virtual_apic_register(apic, first + (vector / 32) * 0x10);
}

bool virtual_apic_vector(const struct virtual_apic *apic, u32 first, u8 vector)
{
	return *register_of(apic, first, vector) & BIT(vector % 32);
}

void virtual_apic_set_vector(const struct virtual_apic *apic, u32 first, u8 vector)
{
	*register_of(apic, first, vector) |= BIT(vector % 32);
}
