/*
 * The accesses of a sweep, and its page-fault handler: mmu/sweep.c. Few instructions, because some
 * hypervisors interpret them; position-independent, because user mode sees them elsewhere.
 *
 * R12: to be added to the record at CPL 0; R13: where to go on after an access; R14: the stack
 * pointer there.
 */
#define RECORD	%rbx
#define LEFT	%rbp
#define LINEAR	%rdi
#define VALUE	%rax
#define WRSS	wrssq
#define WRUSS	wrussq
#include "mmu/sweep_accesses.inc"

	.text
	loops sweep_, 512

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
	movq 64(%rdi), %r13
	movq 72(%rdi), %r14
	pushq 32(%rdi)		/* SS */
	pushq 24(%rdi)		/* RSP */
	pushq 16(%rdi)		/* RFLAGS */
	pushq 8(%rdi)		/* CS */
	pushq 0(%rdi)		/* RIP */
	iretq

	.section .note.GNU-stack, "", @progbits
