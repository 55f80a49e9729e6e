/*
 * Where an application processor starts: SDM 11.4.4.2 Typical AP Initialization Sequence.
 *
 * smp.c copies what is between trampoline_start and trampoline_end to a page below 640 KiB and
 * sends its number as the vector of the start-up IPI. The code finds itself by CS, notes the
 * state in which it was started (struct smp_start_state, at the end of the page), and goes to
 * 64-bit mode on the tables and the stack that smp.c has prepared; then ap_main() in C.
 */
#define START_STATE	0xf00	/* in step with cpu/smp.h */

	.section .rodata
	.globl trampoline_start, trampoline_end
	.code16
	.balign 16
trampoline_start:
	/* In the order of struct smp_start_state; nothing is changed before it is noted. */
	movl %eax, %cs:START_STATE+0
	movl %ebx, %cs:START_STATE+4
	movl %ecx, %cs:START_STATE+8
	movl %edx, %cs:START_STATE+12
	movl %esi, %cs:START_STATE+16
	movl %edi, %cs:START_STATE+20
	movl %ebp, %cs:START_STATE+24
	movl %esp, %cs:START_STATE+28
	movw %cs, %cs:START_STATE+56
	movw %ds, %cs:START_STATE+58
	movw %es, %cs:START_STATE+60
	movw %ss, %cs:START_STATE+62
	movw %fs, %cs:START_STATE+64
	movw %gs, %cs:START_STATE+66
	sidtl %cs:START_STATE+68
	movw %cs, %ax
	movw %ax, %ds
	movw %ax, %ss
	movl $START_STATE, %esp
	pushfl
	popl START_STATE+32
	movl %cr0, %eax
	movl %eax, START_STATE+36
	movl %cr2, %eax
	movl %eax, START_STATE+40
	movl %cr3, %eax
	movl %eax, START_STATE+44
	movl %cr4, %eax
	movl %eax, START_STATE+48
	movl %dr7, %eax
	movl %eax, START_STATE+52
	cli
	cld
	lgdtl ap_gdt_pointer - trampoline_start
	movl $0x11, %eax		/* CR0: ET, PE; the caches on */
	movl %eax, %cr0
	ljmpl $0x18, $ap_start_32
ap_gdt_pointer:
	.short ap_gdt_end - ap_gdt - 1
	.long ap_gdt
trampoline_end:

	.text
	.code32
ap_start_32:
	movl $0x10, %eax
	movl %eax, %ds
	movl %eax, %es
	movl %eax, %ss
	movl $0x20, %eax		/* CR4.PAE */
	movl %eax, %cr4
	movl $boot_pml4, %eax
	movl %eax, %cr3
	movl $0xc0000080, %ecx		/* IA32_EFER.LME */
	rdmsr
	orl $0x100, %eax
	wrmsr
	movl $0x80000033, %eax		/* CR0: PG, NE, ET, MP, PE, as in boot/boot.c */
	movl %eax, %cr0
	ljmp $0x08, $ap_start_64
	.code64
ap_start_64:
	movq ap_stack, %rsp
	call ap_main
	ud2

	.data
	.balign 16
ap_gdt:
	.quad 0
	.quad 0x00af9b000000ffff	/* 64-bit code */
	.quad 0x00cf93000000ffff	/* data */
	.quad 0x00cf9b000000ffff	/* 32-bit code */
ap_gdt_end:
	.section .note.GNU-stack, "", @progbits
