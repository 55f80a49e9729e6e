/* Jumps to a place that is mapped and is no memory: KVM cannot emulate what it cannot read. */
	.include "guest.inc"
	GUEST_START
	SAY "before\n"
	movl $0xd0000000, %eax
	jmp *%rax
