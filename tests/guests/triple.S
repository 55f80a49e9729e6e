/* Leaves a line without its end and triple faults: UD2 with an empty IDT. */
	.include "guest.inc"
	GUEST_START
	SAY "before"
	movl $0x12345678, %r15d
	lidt empty(%rip)
	.globl fault_here
fault_here:
	ud2
	.section .rodata
empty:
	.fill 10, 1, 0
