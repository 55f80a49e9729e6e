/*
 * The world switch. u64 vmx_switch(struct vmx_switch *state, u64 launched):
 * 0 after a VM exit; RFLAGS with bit 63 set when VMLAUNCH or VMRESUME fell through, by VMfail
 * or by an exception that the fixup table caught.
 */
#define HOST_RSP_ENCODING 0x6c14

	.text
	.globl vmx_switch
vmx_switch:
	pushq %rbp
	pushq %rbx
	pushq %r12
	pushq %r13
	pushq %r14
	pushq %r15
	pushq %rdi
	movl $HOST_RSP_ENCODING, %eax
	cmpb $0, 136(%rdi)
	jne 5f
	vmwrite %rsp, %rax
6:	testq %rsi, %rsi	/* no MOV below changes the flags */
	movq 8(%rdi), %rbx
	movq 16(%rdi), %rcx
	movq 24(%rdi), %rdx
	movq 32(%rdi), %rsi
	movq 48(%rdi), %rbp
	movq 56(%rdi), %r8
	movq 64(%rdi), %r9
	movq 72(%rdi), %r10
	movq 80(%rdi), %r11
	movq 88(%rdi), %r12
	movq 96(%rdi), %r13
	movq 104(%rdi), %r14
	movq 112(%rdi), %r15
	movq 0(%rdi), %rax
	movq 40(%rdi), %rdi
	jnz 1f
	/* All six status flags set: 33.2 says which the instruction clears. */
	pushfq
	orl $0x8d5, (%rsp)
	popfq
3:	vmlaunch
	jmp 2f
1:	pushfq
	orl $0x8d5, (%rsp)
	popfq
4:	vmresume
	/* Still here: no guest ran, and RSP is as it was. */
2:	pushfq
	popq %rax
	btsq $63, %rax
	popq %rdi
	jmp out
	.pushsection .fixups, "ao", @progbits, vmx_switch
	.quad 3b, 2b
	.quad 4b, 2b
	.popsection

	/* HOST_RSP is to be as the VMCS has it; HOST_RIP is vmx_exit_with_any_rsp. */
5:	movq %rsp, own_rsp
	jmp 6b

	.globl vmx_exit_with_any_rsp
vmx_exit_with_any_rsp:
	movq %rsp, vmx_rsp_at_exit
	movq own_rsp, %rsp

	.globl vmx_exit
vmx_exit:
	/* RFLAGS as the exit loaded them; the guest's RDI; then the pointer pushed above. */
	pushfq
	pushq %rdi
	movq 16(%rsp), %rdi
	movq %rax, 0(%rdi)
	movq %rbx, 8(%rdi)
	movq %rcx, 16(%rdi)
	movq %rdx, 24(%rdi)
	movq %rsi, 32(%rdi)
	movq %rbp, 48(%rdi)
	movq %r8, 56(%rdi)
	movq %r9, 64(%rdi)
	movq %r10, 72(%rdi)
	movq %r11, 80(%rdi)
	movq %r12, 88(%rdi)
	movq %r13, 96(%rdi)
	movq %r14, 104(%rdi)
	movq %r15, 112(%rdi)
	leaq 16(%rsp), %rax
	movq %rax, 120(%rdi)
	popq %rax
	movq %rax, 40(%rdi)
	popq %rax
	movq %rax, 128(%rdi)
	popq %rdi
	xorl %eax, %eax
out:
	cld
	popq %r15
	popq %r14
	popq %r13
	popq %r12
	popq %rbx
	popq %rbp
	ret

/* Where every guest function starts: RAX is the function. */
	.globl vmx_guest_start
vmx_guest_start:
	call *%rax
	.globl vmx_guest_done
vmx_guest_done:
	vmcall
	jmp vmx_guest_done

	.local own_rsp
	.comm own_rsp, 8, 8
	.comm vmx_rsp_at_exit, 8, 8

	.section .note.GNU-stack, "", @progbits
