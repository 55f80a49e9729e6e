/* Reads ports with and without a device, in all widths; writes with REP OUTS. */
	.include "guest.inc"
	GUEST_START
	xorl %eax, %eax
	inb $0xe9, %al
	call say_hex
	SAY " console\n"
	xorl %eax, %eax
	movw $0x1234, %dx
	inb %dx, %al
	call say_hex
	SAY " byte\n"
	movw $0x1234, %dx
	xorl %eax, %eax
	inw %dx, %ax
	call say_hex
	SAY " word\n"
	movw $0x1234, %dx
	xorl %eax, %eax
	inl %dx, %eax
	call say_hex
	SAY " double word\n"
	movw $0x1234, %dx
	movl $0x12345678, %eax
	outl %eax, %dx
	.section .rodata
1:	.ascii "string\n"
	.section .text
	leaq 1b(%rip), %rsi
	movl $7, %ecx
	movw $0xe9, %dx
	cld
	rep outsb
	/* the wrong text does not power off, and does not spoil the right one */
	.section .rodata
1:	.ascii "ShutdoShut"
	.section .text
	leaq 1b(%rip), %rsi
	movl $10, %ecx
	movw $0x8900, %dx
	rep outsb
	SAY "still on\n"
	movw $0x8900, %dx
	movb $'x', %al
	outb %al, %dx
	POWER_OFF
