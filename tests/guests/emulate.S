/* Loads a number of the x87 FPU from where there is no memory: KVM's emulator does not know it. */
	.include "guest.inc"
	GUEST_START
	SAY "before\n"
	movl $0xd0000000, %eax
	flds (%rax)
	SAY "behind\n"
	POWER_OFF
