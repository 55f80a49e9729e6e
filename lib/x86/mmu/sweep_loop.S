/*
 * The accesses of a sweep, and its page-fault handler: mmu/sweep.c. Few instructions, because some
 * hypervisors interpret them; position-independent, because user mode sees them elsewhere.
 *
 * RBX: the record, as the loop sees it; R12: to be added to it at CPL 0; RBP: how many are left;
 * R13: where to go on after an access; R14: the stack pointer there.
 */
	.set RECORD_LINEAR, 0
	.set RECORD_VALUE, 8
	.set RECORD_FAULT, 16
	.set RECORD_CR2, 24
	.set RECORD_RIP, 32
	.set RECORD_SIZE, 40

	.text
	/* All of it in one page: it is mapped for user mode as a whole. */
	.balign 512
	.globl sweep_loops
sweep_loops:
	.macro loop name, before, access, after
	.globl sweep_\name, sweep_\name\()_at
sweep_\name:
	leaq 2f(%rip), %r13
1:	movq RECORD_LINEAR(%rbx), %rdi
	\before
sweep_\name\()_at:
	\access
	\after
2:	addq $RECORD_SIZE, %rbx
	decq %rbp
	jnz 1b
	ud2
	.endm

	loop read, "", "movq (%rdi), %rax", "movq %rax, RECORD_VALUE(%rbx)"
	loop write, "movq RECORD_VALUE(%rbx), %rax", "movq %rax, (%rdi)", ""
	loop exchange, "movq RECORD_VALUE(%rbx), %rax", "xchgq %rax, (%rdi)", \
		"movq %rax, RECORD_VALUE(%rbx)"
	loop fetch, "", "call *%rdi", "movq %rax, RECORD_VALUE(%rbx)"
	.org sweep_loops + 512	/* fails if they are longer */

/* In place of the gate of #PF: notes the fault and goes on with the next access. */
	.globl sweep_page_fault
sweep_page_fault:
	popq %rax
	movq %rax, RECORD_FAULT(%rbx, %r12)
	movq %cr2, %rax
	movq %rax, RECORD_CR2(%rbx, %r12)
	movq (%rsp), %rax
	movq %rax, RECORD_RIP(%rbx, %r12)
	movq %r13, (%rsp)
	movq %r14, 24(%rsp)
	iretq

/* sweep_enter(const struct sweep_start *RDI): the loop, at whatever privilege. */
	.globl sweep_enter
sweep_enter:
	movq 40(%rdi), %rbx
	movq 48(%rdi), %rbp
	movq 56(%rdi), %r12
	movq 64(%rdi), %r14
	pushq 32(%rdi)		/* SS */
	pushq 24(%rdi)		/* RSP */
	pushq 16(%rdi)		/* RFLAGS */
	pushq 8(%rdi)		/* CS */
	pushq 0(%rdi)		/* RIP */
	iretq

	.section .note.GNU-stack, "", @progbits
