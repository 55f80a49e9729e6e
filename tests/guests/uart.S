/* Prints through a 16550 UART at 3F8H as a driver does, and powers off with a value. */
	.include "guest.inc"
	GUEST_START
	movw $0x3fb, %dx
	movb $0x80, %al
	outb %al, %dx			/* DLAB: the next two are the divisor */
	movw $0x3f8, %dx
	movb $'A', %al
	outb %al, %dx
	inb %dx, %al
	movb %al, %bl
	movw $0x3fb, %dx
	movb $3, %al
	outb %al, %dx
	leaq text(%rip), %rsi
1:	movw $0x3fd, %dx
	inb %dx, %al
	testb $0x20, %al
	jz 1b
	lodsb
	testb %al, %al
	jz 2f
	movw $0x3f8, %dx
	outb %al, %dx
	jmp 1b
2:	movw $0x3f8, %dx
	movb %bl, %al
	outb %al, %dx
	movw $0x3ff, %dx
	movb $'7', %al
	outb %al, %dx
	xorl %eax, %eax
	inb %dx, %al
	movw $0x3f8, %dx
	outb %al, %dx
	movw $0xf4, %dx
	movb $0x30, %al			/* not the value */
	outb %al, %dx
	movb $'\n', %al
	movw $0x3f8, %dx
	outb %al, %dx
	movw $0xf4, %dx
	movb $0x31, %al
	outb %al, %dx
1:	hlt
	jmp 1b
	.section .rodata
text:	.asciz "uart "
