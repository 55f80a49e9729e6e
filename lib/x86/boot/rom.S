/*
 * The last 4 KiB of a ROM below 4 GiB: from the reset vector to an image at 1 MiB with
 * no BIOS. mkrom puts the image and the device tree in front of it and fills in the
 * four words at rom_table.
 *
 * SDM 11.1.4 First Instruction Executed: CS base FFFF0000H, IP FFF0H, real-address mode.
 */
	.text
	.code16
	.globl rom_start
rom_start:			/* FFFFF000H; CS offset F000H */

	.code32
protected:
	movw $16, %ax
	movw %ax, %ds
	movw %ax, %es
	movw %ax, %ss
	movl $0x7000, %esp
	movl 0xffffffd0, %esi	/* image bytes in the ROM */
	movl $0x100000, %edi
	movl 0xffffffd4, %ecx	/* bytes to copy, a multiple of 4 */
	shrl $2, %ecx
	cld
	rep movsl
	movl 0xffffffd8, %ecx	/* bytes to clear behind them, a multiple of 4 */
	shrl $2, %ecx
	xorl %eax, %eax
	rep stosl
	movl 0xffffffdc, %ebx	/* device tree */
	movl $0x45584954, %eax
	movl 0xffffffe0, %edx	/* 32-bit entry point */
	jmp *%edx

	.balign 8
gdt:
	.quad 0
	.quad 0x00cf9b000000ffff
	.quad 0x00cf93000000ffff
gdt_end:
gdt_pointer:
	.short gdt_end - gdt - 1
	.long 0xfffff000 + (gdt - rom_start)

	.code16
real:
	cli
	/* A20: fast gate; machines without the port ignore it */
	inb $0x92, %al
	orb $2, %al
	andb $0xfe, %al
	outb %al, $0x92
	lgdtl %cs:(0xf000 + (gdt_pointer - rom_start))
	movl %cr0, %eax
	andl $0x9fffffff, %eax	/* caches on: CR0.CD and CR0.NW are set at reset */
	orl $1, %eax
	movl %eax, %cr0
	ljmpl $8, $0xfffff000 + (protected - rom_start)

	.org 0xfd0
rom_table:
	.long 0, 0, 0, 0, 0
	.org 0xff0
reset:
	jmp real
	.org 0xfff
	.byte 0
	.section .note.GNU-stack, "", @progbits
