/*
 * The accesses of a sweep in 32-bit code, and its handlers: mmu/sweep_legacy.c. As in
 * mmu/sweep_loop.S, but for the registers:
 *
 * ECX: to be added to the record at CPL 0; ESI: where to go on after an access; EDX: the stack
 * pointer there.
 */
#define RECORD	%ebx
#define LEFT	%ebp
#define LINEAR	%edi
#define VALUE	%eax
#define WRSS	wrssd
#define WRUSS	wrussd
#include "mmu/sweep_accesses.inc"

	.set START_RECORD, 20
	.set START_LEFT, 24
	.set START_TO_SUPERVISOR, 28
	.set START_RESUME, 32
	.set START_SLOTS, 36
	.set START_LDT, 40

	.set SELECTOR_DATA, 0x10
	.set SELECTOR_SPARE, 0x68
	.set SELECTOR_LDT, 0x70

	.text
	.code32
	loops sweep_legacy_, 256

/*
 * #PF: notes the fault and goes on with the next access. The frame has ESP and SS from CPL 3 alone.
 */
	.globl sweep_legacy_page_fault
sweep_legacy_page_fault:
	popl %eax
	movl %eax, RECORD_FAULT(%ebx, %ecx)
	movl $0, RECORD_FAULT+4(%ebx, %ecx)
	movl %cr2, %eax
	movl %eax, RECORD_CR2(%ebx, %ecx)
	movl $0, RECORD_CR2+4(%ebx, %ecx)
	movl (%esp), %eax
	movl %eax, RECORD_RIP(%ebx, %ecx)
	movl $0, RECORD_RIP+4(%ebx, %ecx)
	testl $3, 4(%esp)
	jz 1f
	movl %esi, (%esp)
	movl %edx, 12(%esp)
	iretl
1:	addl $8, %esp
	popfl
	movl %edx, %esp
	jmp *%esi

/*
 * #UD, which ends a loop, and any exception that must not be: back to the script with EAX. With an
 * LDT for each slot a loop has one access; what is left is then the number of slots.
 */
	.globl sweep_legacy_end, sweep_legacy_other
sweep_legacy_other:
	orl $0x80000000, %ebp
sweep_legacy_end:
	cmpl $0, sweep_legacy_slots
	je 2f
	testl %ebp, %ebp
	jnz 1f
	decl sweep_legacy_slots
	jz 2f
	movl $SELECTOR_DATA, %eax
	movl %eax, %ds
	movl sweep_legacy_start, %eax
	movl sweep_legacy_esp, %esp
	jmp sweep_legacy_slot
1:	andl $0x80000000, %ebp
	orl sweep_legacy_slots, %ebp
2:	movl $SELECTOR_DATA, %eax
	movl %eax, %ds
	movl %eax, %es
	movl %ebp, %eax
	movl sweep_legacy_esp, %esp
	pushl $2
	popfl
	popl %ebx
	ret

/* The operation of a script: EAX is a struct sweep_legacy_start. */
	.globl sweep_legacy_run
sweep_legacy_run:
	pushl %ebx
	movl %esp, sweep_legacy_esp
	lidt sweep_legacy_idt
	movl $SELECTOR_SPARE, %ecx
	ltr %cx
	movl %eax, sweep_legacy_start
	movl START_SLOTS(%eax), %edx
	movl %edx, sweep_legacy_slots
	movl START_RECORD(%eax), %ebx
	movl START_TO_SUPERVISOR(%eax), %ecx
sweep_legacy_slot:
	cmpl $0, sweep_legacy_slots
	je 3f
	/* The base of the LDT: bits 23:0 and 31:24. */
	movl START_LDT(%eax), %esi
	movl RECORD_LINEAR(%ebx, %ecx), %edx
	movw %dx, 2(%esi)
	shrl $16, %edx
	movb %dl, 4(%esi)
	movb %dh, 7(%esi)
	movl $SELECTOR_LDT, %edx
	lldt %dx
3:	movl START_LEFT(%eax), %ebp
	movl START_RESUME(%eax), %esi
	movl 12(%eax), %edx
	testl $3, 4(%eax)
	jnz 1f
	/* CPL 0 keeps SS: IRET pops no stack pointer. */
	movl %edx, %esp
	jmp 2f
1:	pushl 16(%eax)		/* SS */
	pushl %edx		/* ESP */
2:	pushl 8(%eax)		/* EFLAGS */
	pushl 4(%eax)		/* CS */
	pushl (%eax)		/* EIP */
	movl 16(%eax), %eax
	movl %eax, %ds
	movl %eax, %es
	iretl
	.code64

	.bss
	.balign 8
sweep_legacy_esp:
	.skip 4
sweep_legacy_start:
	.skip 4
sweep_legacy_slots:
	.skip 4
	.balign 8
	.globl sweep_legacy_idt
sweep_legacy_idt:
	.skip 16

	.section .note.GNU-stack, "", @progbits
