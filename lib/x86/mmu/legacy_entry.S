/*
 * The 32-bit side of mmu/legacy.c: takes one job after another from legacy_jobs, each with the
 * IDT of the mode of the moment, and comes back to 64-bit mode at the end. See struct legacy_job.
 */
#define JOB_CODE	0
#define JOB_A		4
#define JOB_B		8
#define JOB_VALUE	12
#define JOB_VECTOR	16
#define JOB_ERROR	20
#define JOB_CR2		24
#define JOB_SIZE	28

#define CR0_PG		0x80000000
#define CR4_PCIDE	0x20000
#define IA32_EFER	0xc0000080
#define EFER_LMA	0x400
#define CODE64		0x08
#define CODE32		0x18

	.text
	.code64
	.globl legacy_enter
legacy_enter:
	pushq %rbx
	pushq %rbp
	pushq %r12
	pushq %r13
	pushq %r14
	pushq %r15
	movq %rsp, legacy_stack
	sidt legacy_idt_64
	pushq $CODE32
	pushq $legacy_next
	lretq

	.code32
	.globl legacy_next
legacy_next:
	movl legacy_stack, %esp
	movl legacy_job, %ebx
	cmpl legacy_jobs_end, %ebx
	jae legacy_leave
	/* Gates have 16 bytes in IA-32e mode, 8 outside: 7.11 and 7.14.1. */
	movl $IA32_EFER, %ecx
	rdmsr
	testl $EFER_LMA, %eax
	jnz 1f
	lidt legacy_idt_32
	jmp 2f
1:	lidt legacy_idt_64
2:	movl JOB_A(%ebx), %eax
	movl JOB_B(%ebx), %edx
	call *JOB_CODE(%ebx)
	movl legacy_job, %ebx
	movl %eax, JOB_VALUE(%ebx)
legacy_finish_job:
	addl $JOB_SIZE, legacy_job
	jmp legacy_next

/* A fault outside IA-32e mode: the stack has vector, error code, EIP, CS, EFLAGS. */
legacy_fault:
	cld
	movl legacy_job, %ebx
	popl JOB_VECTOR(%ebx)
	popl JOB_ERROR(%ebx)
	movl %cr2, %eax
	movl %eax, JOB_CR2(%ebx)
	cmpl legacy_required, %ebx
	jae legacy_finish_job
	movl legacy_jobs_end, %eax
	movl %eax, legacy_job
	jmp legacy_next

/* Back to 64-bit mode, by way of no paging: 12.8.5 Initializing IA-32e Mode, and 12.8.5.4. */
legacy_leave:
	movl %cr0, %eax
	testl $CR0_PG, %eax
	jz 1f
	movl %cr4, %ecx
	andl $~CR4_PCIDE, %ecx
	movl %ecx, %cr4
	andl $~CR0_PG, %eax
	movl %eax, %cr0
1:	movl legacy_cr4, %eax
	movl %eax, %cr4
	movl legacy_cr3, %eax
	movl %eax, %cr3
	movl $IA32_EFER, %ecx
	movl legacy_efer, %eax
	xorl %edx, %edx
	wrmsr
	movl legacy_cr0, %eax
	movl %eax, %cr0
	ljmp $CODE64, $1f
	.code64
1:	lidt legacy_idt_64
	movq legacy_stack, %rsp
	popq %r15
	popq %r14
	popq %r13
	popq %r12
	popq %rbp
	popq %rbx
	ret

/* The operations of mmu/legacy.h: operands in EAX and EDX, the result in EAX. */
	.macro operation name, instructions:vararg
	.globl legacy_\name
legacy_\name:
	\instructions
	ret
	.endm

	.code32
	operation set_cr0, movl %eax, %cr0
	operation set_cr3, movl %eax, %cr3
	operation set_cr4, movl %eax, %cr4
	operation get_cr0, movl %cr0, %eax
	operation get_cr2, movl %cr2, %eax
	operation get_cr3, movl %cr3, %eax
	operation get_cr4, movl %cr4, %eax
	operation read, movl (%eax), %eax
	operation write, movl %edx, (%eax)
	operation fetch, call *%eax
	operation invlpg, invlpg (%eax)
	.globl legacy_set_efer, legacy_get_efer
legacy_set_efer:
	movl $IA32_EFER, %ecx
	xorl %edx, %edx
	wrmsr
	ret
legacy_get_efer:
	movl $IA32_EFER, %ecx
	rdmsr
	ret


	.altmacro
	.macro legacy_stub vector
	.balign 16
	/* SDM 7.13: #DF #TS #NP #SS #GP #PF #AC #CP push an error code */
	.if !(\vector == 8 || (\vector >= 10 && \vector <= 14) || \vector == 17 || \vector == 21)
	pushl $0
	.endif
	pushl $\vector
	jmp legacy_fault
	.endm

	.balign 16
	.globl legacy_stubs
legacy_stubs:
	vector = 0
	.rept 32
	legacy_stub %vector
	vector = vector + 1
	.endr
	.code64
	.section .note.GNU-stack, "", @progbits
