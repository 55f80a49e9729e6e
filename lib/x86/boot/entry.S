/*
 * The three ways into an image. All end in entry_common: 64-bit mode, own page tables,
 * own stack, interrupts off, and boot_main(tree) in C.
 *
 *  - direct 64-bit entry (our VMM, the core): RDI = device tree;
 *  - ROM: 32-bit protected mode, EAX = "EXIT", EBX = device tree;
 *  - Multiboot 1 and 2: 32-bit protected mode; the tree is the first module.
 */

#define MULTIBOOT1_MAGIC	0x1badb002
#define MULTIBOOT1_LOADED	0x2badb002
#define MULTIBOOT2_MAGIC	0xe85250d6
#define MULTIBOOT2_LOADED	0x36d76289
#define ROM_LOADED		0x45584954

/* Modules page-aligned, and the address fields are valid: QEMU refuses a 64-bit ELF without. */
#define MULTIBOOT1_FLAGS	0x00010001

/*
 * Builds the first 4 GiB, identity-mapped with 2-MByte pages that user mode may use as well
 * (present, writable, user, accessed, dirty): cases that need less build their own. Not data of the
 * image, which would be 24 KiB larger; the memory is zero, like all that has no data. In 32-bit and
 * in 64-bit mode; changes EAX, ECX and EDI.
 */
	.macro build_boot_tables
	movl $boot_pdpt + 0x27, boot_pml4
	movl $boot_pd + 0x27, boot_pdpt
	movl $boot_pd + 0x1027, boot_pdpt + 8
	movl $boot_pd + 0x2027, boot_pdpt + 16
	movl $boot_pd + 0x3027, boot_pdpt + 24
	movl $0xe7, %eax
	movl $boot_pd, %edi
	movl $2048, %ecx
1:	movl %eax, (%edi)
	addl $0x200000, %eax
	addl $8, %edi
	loop 1b
	.endm

	.section .multiboot, "a"
	.balign 8
multiboot1:
	.long MULTIBOOT1_MAGIC
	.long MULTIBOOT1_FLAGS
	.long -(MULTIBOOT1_MAGIC + MULTIBOOT1_FLAGS)
	.long multiboot1
	.long image_start
	.long image_data_end
	.long image_end
	.long entry_32

	.balign 8
multiboot2:
	.long MULTIBOOT2_MAGIC
	.long 0
	.long multiboot2_end - multiboot2
	.long -(MULTIBOOT2_MAGIC + (multiboot2_end - multiboot2))
	/* address tag */
	.balign 8
	.short 2, 0
	.long 24
	.long multiboot2
	.long image_start
	.long image_data_end
	.long image_end
	/* entry address tag */
	.balign 8
	.short 3, 0
	.long 12
	.long entry_32
	/* modules on page boundaries */
	.balign 8
	.short 6, 0
	.long 8
	/* end */
	.balign 8
	.short 0, 0
	.long 8
multiboot2_end:

	.text
	.code32
	.globl entry_32
entry_32:
	cli
	cld
	movl $boot_stack_end, %esp
	movl %eax, %ebp		/* which loader */
	movl %ebx, %edi		/* and its argument */

	/* No 64-bit mode, no image: CPUID.80000001H:EDX[29]. */
	movl $0x80000000, %eax
	cpuid
	cmpl $0x80000001, %eax
	jb no_64_bit_mode
	movl $0x80000001, %eax
	cpuid
	btl $29, %edx
	jnc no_64_bit_mode
	movl %edi, %ebx		/* CPUID took the loader's argument */
	build_boot_tables

	movl %cr4, %eax
	orl $0x20, %eax		/* CR4.PAE */
	movl %eax, %cr4
	movl $boot_pml4, %eax
	movl %eax, %cr3
	movl $0xc0000080, %ecx	/* IA32_EFER.LME */
	rdmsr
	orl $0x100, %eax
	wrmsr
	movl $0x80000011, %eax	/* CR0: PG, ET, PE */
	movl %eax, %cr0
	lgdt boot_gdt_pointer
	ljmp $8, $entry_32_long

/* Says so on port E9H and COM1, switches QEMU and Bochs off, at last ends in a triple fault. */
no_64_bit_mode:
	movl $no_64_bit_text, %esi
1:	lodsb
	testb %al, %al
	jz 2f
	outb %al, $0xe9
	movw $0x3f8, %dx
	outb %al, %dx
	jmp 1b
2:	xorl %eax, %eax
	outb %al, $0xf4
	movl $shutdown_text, %esi
	movw $0x8900, %dx
	movl $8, %ecx
	rep outsb
	lidt no_idt
	int3

	.code64
entry_32_long:
	xorl %edi, %edi
	movl %ebx, %ebx
	cmpl $ROM_LOADED, %ebp
	je rom
	cmpl $MULTIBOOT1_LOADED, %ebp
	je module1
	cmpl $MULTIBOOT2_LOADED, %ebp
	je module2
	jmp entry_common
rom:
	movl %ebx, %edi
	jmp entry_common

	/* Multiboot 1 information: flags bit 3, mods_count at 20, mods_addr at 24. */
module1:
	testl $8, (%rbx)
	jz entry_common
	cmpl $0, 20(%rbx)
	je entry_common
	movl 24(%rbx), %ebx
	movl (%rbx), %edi
	jmp entry_common

	/* Multiboot 2 information: tags from offset 8; type 3 is a module, type 0 the end. */
module2:
	addl $8, %ebx
1:	movl (%rbx), %eax
	testl %eax, %eax
	jz entry_common
	cmpl $3, %eax
	je 2f
	movl 4(%rbx), %eax
	addl $7, %eax
	andl $~7, %eax
	addl %eax, %ebx
	jmp 1b
2:	movl 8(%rbx), %edi
	jmp entry_common

	.globl entry_direct
entry_direct:
	cld
	movq %rdi, %rbx
	build_boot_tables
	movq %rbx, %rdi
entry_common:
	cli
	cld
	movabsq $boot_stack_end, %rsp
	movq $boot_pml4, %rax
	movq %rax, %cr3
	lgdt boot_gdt_pointer
	pushq $8
	pushq $1f
	lretq
1:	movl $16, %eax
	movl %eax, %ds
	movl %eax, %es
	movl %eax, %ss
	xorl %eax, %eax
	movl %eax, %fs
	movl %eax, %gs
	call boot_main
	ud2

	.section .rodata
no_64_bit_text:
	.asciz "Bail out! this processor has no 64-bit mode, which every image needs\n"
shutdown_text:
	.ascii "Shutdown"
no_idt:
	.short 0
	.long 0

	.data
	.balign 16
boot_gdt:
	.quad 0
	.quad 0x00af9b000000ffff	/* 64-bit code */
	.quad 0x00cf93000000ffff	/* data */
boot_gdt_end:
boot_gdt_pointer:
	.short boot_gdt_end - boot_gdt - 1
	.quad boot_gdt

	.section .bss, "aw", @nobits
	.balign 16
	.skip 4096
boot_stack_end:
	.balign 4096
	.globl boot_pml4
boot_pml4:
	.skip 4096
boot_pdpt:
	.skip 4096
boot_pd:
	.skip 4 * 4096
	.section .note.GNU-stack, "", @progbits
