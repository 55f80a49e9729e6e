/* The way to lower privilege, and what runs there first: cpu/user.c. */
	.text
/* user_iret(const struct user_start *RDI, u64 data selector in RSI) */
	.globl user_iret
user_iret:
	/* A data segment of the new privilege: IRET makes one of higher privilege null. */
	movl %esi, %ds
	movl %esi, %es
	movq 40(%rdi), %rsi	/* function */
	movq 48(%rdi), %rax	/* argument */
	/* Not popped from there: should IRET fault, what lies below it is still needed. */
	pushq 32(%rdi)		/* SS */
	pushq 24(%rdi)		/* RSP */
	pushq 16(%rdi)		/* RFLAGS */
	pushq 8(%rdi)		/* CS */
	pushq 0(%rdi)		/* RIP */
	movq %rax, %rdi
	xorl %eax, %eax
	xorl %ebp, %ebp
	iretq

	.globl user_call_64
user_call_64:
	call *%rsi
	.globl user_return_64
user_return_64:
	ud2

	.code32
	.globl user_call_32
user_call_32:
	call *%esi
	.globl user_return_32
user_return_32:
	ud2
	.code64
	.section .note.GNU-stack, "", @progbits
