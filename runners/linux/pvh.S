/*
 * What the ROM starts at 1 MiB: reads the memory from there on from the disk on the second ATA
 * channel, and enters the uncompressed Linux kernel in it by its PVH entry point. mklinux fills in
 * the words at its end; behind them lie the structures for the kernel. The disk begins with the
 * same code and words.
 *
 * A disk, because no `optramimage` is good for every Bochs: 2.7 puts a file larger than a block of
 * its memory into blocks at random, and 3.1 loads it to address 0, page over page.
 */
#define ATA		0x170
#define SECTOR_COUNT	(ATA + 2)
#define DEVICE		(ATA + 6)
#define COMMAND		(ATA + 7)
#define READ_SECTORS	0x20
#define DEVICE_LBA	0xe0
#define BUSY		0x80
#define DATA		0x08

	.text
	.code32
	.globl pvh_start
pvh_start:
	movl $0x100000, %edi
	xorl %ebx, %ebx		/* blocks of 256 sectors */
next_block:
	movw $DEVICE, %dx
	movb $DEVICE_LBA, %al
	outb %al, %dx
	movw $SECTOR_COUNT, %dx
	xorl %eax, %eax		/* 256 */
	outb %al, %dx
	incl %edx		/* the address of the first sector: a multiple of 256 */
	outb %al, %dx
	incl %edx
	movb %bl, %al
	outb %al, %dx
	incl %edx
	movb %bh, %al
	outb %al, %dx
	movw $COMMAND, %dx
	movb $READ_SECTORS, %al
	outb %al, %dx
	movl $256, %ebp
next_sector:
	inb %dx, %al
	testb $BUSY, %al
	jnz next_sector
	testb $DATA, %al
	jz next_sector
	movw $ATA, %dx
	movl $256, %ecx
	rep insw
	movw $COMMAND, %dx
	decl %ebp
	jnz next_sector
	incl %ebx
	cmpl 0x100000 + (blocks - pvh_start), %ebx
	jb next_block
	/* The PVH ABI: flat segments, paging off, EBX the physical address of the start info. */
	movl 0x100000 + (start_info - pvh_start), %ebx
	movl 0x100000 + (entry - pvh_start), %edx
	jmp *%edx

	.org 0x80
blocks:
	.long 0			/* how many blocks are read */
start_info:
	.long 0			/* physical addresses */
entry:
	.long 0
	.long 0
	.section .note.GNU-stack, "", @progbits
