/*
 * A Multiboot 1 image of 32-bit code with the address fields of ours: says on port E9h whether
 * its first module is a device tree, and powers off as runners/qemu/machine.dts says; with HANG
 * it never does.
 */
	.set MAGIC, 0x1badb002
	.set FLAGS, 0x00010001

	.section .text
	.globl _start
header:
	.balign 8
	.long MAGIC, FLAGS, -(MAGIC + FLAGS)
	.long header, header, 0, 0, _start
	.code32
_start:
	movl $no_tree, %esi
	testl $8, (%ebx)
	jz 1f
	cmpl $1, 20(%ebx)
	jne 1f
	movl 24(%ebx), %eax
	movl (%eax), %eax
	cmpl $0xedfe0dd0, (%eax)	/* D00DFEEDH, big-endian */
	jne 1f
	movl $tree, %esi
1:	movw $0xe9, %dx
2:	lodsb
	testb %al, %al
	jz 3f
	outb %al, %dx
	jmp 2b
3:
#ifdef HANG
	jmp 3b
#endif
	movb $0x31, %al
	outb %al, $0xf4
4:	hlt
	jmp 4b
no_tree:
	.asciz "no tree\n"
tree:
	.asciz "tree\n"
	.section .note.GNU-stack, "", @progbits
