/* Prints what the entry promises: mode, flags, segments, tree, mapping, zeroed bss. */
	.include "guest.inc"

	.macro SAY_VALUE name
	pushq %rax
	SAY "\name "
	popq %rax
	call say_hex
	SAY "\n"
	.endm

	GUEST_START
	movq %rdi, %rbx
	pushfq
	popq %rax
	SAY_VALUE "rflags"
	/* 48h is DEC EAX in 32-bit code, and the REX.W of one INC in 64-bit code */
	xorl %eax, %eax
	.byte 0x48, 0xff, 0xc0
	SAY_VALUE "long"
	movw %cs, %ax
	andl $3, %eax
	SAY_VALUE "cpl"
	/* the segments can be reloaded from the GDT */
	movw %ss, %ax
	movw %ax, %ds
	movw %ax, %es
	movw %ax, %ss
	pushq %rax
	movw %cs, %ax
	popq %rcx
	pushq %rax
	leaq 1f(%rip), %rax
	pushq %rax
	lretq
1:	SAY "segments reload\n"
	movl (%rbx), %eax
	bswapl %eax
	SAY_VALUE "tree"
	movq %rbx, %rax
	shrq $32, %rax
	SAY_VALUE "above"
	/* the last byte that is mapped: reads all ones, there is nothing */
	movl $0xfffffff0, %eax
	movl (%rax), %eax
	SAY_VALUE "mmio"
	movl $0xfd000000, %ecx
	movl $0x12345678, (%rcx)
	movl (%rcx), %eax
	SAY_VALUE "dropped"
	movl cleared, %eax
	SAY_VALUE "bss"
	POWER_OFF
	.section .bss
	.skip 8192
cleared:
	.skip 4
