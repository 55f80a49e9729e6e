/*
 * Starts the second CPU by INIT and SIPI; it prints its line and its APIC IDs, then the
 * first CPU prints its own and powers off.
 */
	.include "guest.inc"

	ap_page = 0x8000

	.macro SAY_TOPOLOGY
	movl $1, %eax
	xorl %ecx, %ecx
	cpuid
	movl %ebx, %eax
	andl $0xffff0000, %eax
	call say_hex
	SAY " leaf 1\n"
	xorl %eax, %eax
	cpuid
	cmpl $0xb, %eax
	jb 7f
	movl $0xb, %eax
	movl $1, %ecx
	cpuid
	movl %edx, %r9d
	movl %ebx, %eax
	call say_hex
	SAY " CPUs\n"
	movl %r9d, %eax
	call say_hex
	SAY " leaf 0b\n"
7:
	.endm

	GUEST_START
	leaq ap_start(%rip), %rsi
	movl $ap_page, %edi
	movl $(ap_end - ap_start), %ecx
	cld
	rep movsb

	movl $0xfee00000, %ebx
	movl $0x1ff, 0xf0(%rbx)		/* software-enable the APIC */
	movl $0x01000000, 0x310(%rbx)
	movl $0x4500, 0x300(%rbx)	/* INIT */
	movl $0x01000000, 0x310(%rbx)
	movl $(0x4600 | ap_page >> 12), 0x300(%rbx)
1:	pause
	cmpl $1, done(%rip)
	jne 1b
	SAY_TOPOLOGY
	SAY "first\n"
	POWER_OFF

	/* Copied to ap_page: from real mode straight to 64-bit mode. */
	.code16
ap_start:
	cli
	movw %cs, %ax
	movw %ax, %ds
	lgdtl ap_gdt_pointer - ap_start
	movl $0x20, %eax
	movl %eax, %cr4
	movl $0x1000, %eax		/* the page tables of the entry */
	movl %eax, %cr3
	movl $0xc0000080, %ecx
	rdmsr
	orw $0x100, %ax
	wrmsr
	movl $0x80000011, %eax
	movl %eax, %cr0
	ljmpl $8, $(ap_page + ap_long - ap_start)
	.balign 8
ap_gdt:
	.quad 0
	.quad 0x00af9b000000ffff
	.quad 0x00cf93000000ffff
ap_gdt_pointer:
	.short 23
	.long ap_page + ap_gdt - ap_start
	.code64
ap_long:
	movl $16, %eax
	movl %eax, %ss
	movl %eax, %ds
	movl %eax, %es
	movabsq $second, %rax
	jmp *%rax
ap_end:

second:
	leaq second_stack_end(%rip), %rsp
	SAY "second\n"
	SAY_TOPOLOGY
	movl $1, done(%rip)
1:	hlt
	jmp 1b

	.section .bss
	.balign 16
done:	.skip 16
	.skip 4096
second_stack_end:
