/*
 * What the ROM starts at 1 MiB: enters an uncompressed Linux kernel by its PVH entry point.
 * mklinux fills in the four words at its end; behind them lie the structures for the kernel.
 *
 * Bochs 2.7 reads the file of `optramimage` into one run of host memory, but gives out that memory
 * in blocks of 128 KiB, in the order in which the guest first touches them. So the first thing to
 * do is to touch all of the file's blocks in ascending order; this code lies in the first one.
 */
	.text
	.code32
	.globl pvh_start
pvh_start:
	movl $0x100000, %edi
	movl 0x100000 + (blocks - pvh_start), %ecx
1:
	movl (%edi), %eax
	addl $0x20000, %edi
	loop 1b
	/* The PVH ABI: flat segments, paging off, EBX the physical address of the start info. */
	movl 0x100000 + (start_info - pvh_start), %ebx
	movl 0x100000 + (entry - pvh_start), %edx
	jmp *%edx

	.org 0x40
blocks:
	.long 0			/* how many blocks the file fills */
start_info:
	.long 0			/* physical addresses */
entry:
	.long 0
	.long 0
	.section .note.GNU-stack, "", @progbits
