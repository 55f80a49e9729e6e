/*
 * Tests of exit_test.c about the instruction at the saved RIP: its bytes and the length that volume
 * 2 gives them; 0 for one that does not exit for that reason.
 */

static const struct {
	u16 reason;
	u8 length;
	u8 size;
	const char *bytes;
} codes[] = {
#define CODE(reason, length, bytes) { reason, length, sizeof(bytes) - 1, bytes },
	CODE(EXIT_CPUID, 2, "\x0f\xa2")
	CODE(EXIT_CPUID, 5, "\x67\x66\xf3\x0f\xa2")
	CODE(EXIT_CPUID, 0, "\x0f\xa3")
	CODE(EXIT_CPUID, 8, "\x26\x2e\x36\x3e\x64\x65\x0f\xa2")
	CODE(EXIT_CPUID, 3, "\x26\x0f\xa2")
	CODE(EXIT_CPUID, 3, "\x2e\x0f\xa2")
	CODE(EXIT_CPUID, 3, "\x36\x0f\xa2")
	CODE(EXIT_CPUID, 3, "\x3e\x0f\xa2")
	CODE(EXIT_CPUID, 3, "\x64\x0f\xa2")
	CODE(EXIT_CPUID, 3, "\x65\x0f\xa2")
	CODE(EXIT_CPUID, 3, "\x40\x0f\xa2")
	CODE(EXIT_CPUID, 3, "\x4f\x0f\xa2")
	CODE(EXIT_CPUID, 0, "\x50\x0f\xa2")
	/* LOCK CPUID is #UD, which comes before an exit. */
	CODE(EXIT_CPUID, 0, "\xf0\x0f\xa2")
	CODE(EXIT_HLT, 1, "\xf4")
	CODE(EXIT_HLT, 15, "\x66\x66\x66\x66\x66\x66\x66\x66\x66\x66\x66\x66\x66\x66\xf4")
	CODE(EXIT_HLT, 0, "\x66\x66\x66\x66\x66\x66\x66\x66\x66\x66\x66\x66\x66\x66\x66")
	CODE(EXIT_HLT, 0, "\x90\xf4")
	/* invlpg (%rax), (%rsp), (,%rax), 0(%rbp), 1(%rip), 1(%r8,%r9), 1000(%rax), 1000(%r12) */
	CODE(EXIT_INVLPG, 3, "\x0f\x01\x38")
	CODE(EXIT_INVLPG, 4, "\x0f\x01\x3c\x24")
	CODE(EXIT_INVLPG, 8, "\x0f\x01\x3c\x05\0\0\0\0")
	CODE(EXIT_INVLPG, 4, "\x0f\x01\x7d\x00")
	CODE(EXIT_INVLPG, 7, "\x0f\x01\x3d\x01\0\0\0")
	CODE(EXIT_INVLPG, 6, "\x43\x0f\x01\x7c\x08\x01")
	CODE(EXIT_INVLPG, 7, "\x0f\x01\xb8\xe8\x03\0\0")
	CODE(EXIT_INVLPG, 9, "\x41\x0f\x01\xbc\x24\xe8\x03\0\0")
	/* 15 bytes, and one more, which is #GP */
	CODE(EXIT_INVLPG, 15, "\x66\x66\x66\x66\x66\x66\x66\x66\x0f\x01\xb8\0\0\0\0")
	CODE(EXIT_INVLPG, 0, "\x66\x66\x66\x66\x66\x66\x66\x66\x66\x0f\x01\xb8\0\0\0\0")
	/* swapgs, lidt (%rax) */
	CODE(EXIT_INVLPG, 0, "\x0f\x01\xf8")
	CODE(EXIT_INVLPG, 0, "\x0f\x01\x18")
	CODE(EXIT_GDTR_IDTR_ACCESS, 3, "\x0f\x01\x18")
	CODE(EXIT_GDTR_IDTR_ACCESS, 5, "\x0f\x01\x44\x24\x08")
	CODE(EXIT_GDTR_IDTR_ACCESS, 0, "\x0f\x01\xc1")
	CODE(EXIT_LDTR_TR_ACCESS, 3, "\x0f\x00\xc8")
	CODE(EXIT_LDTR_TR_ACCESS, 7, "\x0f\x00\x05\x01\0\0\0")
	CODE(EXIT_LDTR_TR_ACCESS, 0, "\x0f\x00\xe0")
	/* vmclear, vmptrld, vmxon, vmptrst, rdrand, rdseed of one opcode */
	CODE(EXIT_VMCLEAR, 4, "\x66\x0f\xc7\x30")
	CODE(EXIT_VMCLEAR, 0, "\x0f\xc7\x30")
	CODE(EXIT_VMPTRLD, 3, "\x0f\xc7\x30")
	CODE(EXIT_VMPTRLD, 0, "\x66\x0f\xc7\x30")
	CODE(EXIT_VMPTRLD, 0, "\x0f\xc7\xf0")
	CODE(EXIT_VMXON, 4, "\xf3\x0f\xc7\x30")
	CODE(EXIT_VMXON, 5, "\x66\xf3\x0f\xc7\x30")
	CODE(EXIT_VMXON, 5, "\xf3\x66\x0f\xc7\x30")
	CODE(EXIT_VMXON, 0, "\xf2\x0f\xc7\x30")
	CODE(EXIT_VMPTRST, 3, "\x0f\xc7\x38")
	CODE(EXIT_RDRAND, 4, "\x66\x0f\xc7\xf0")
	CODE(EXIT_RDRAND, 0, "\x0f\xc7\x30")
	CODE(EXIT_RDSEED, 4, "\x49\x0f\xc7\xff")
	CODE(EXIT_XSAVES, 4, "\x48\x0f\xc7\x28")
	CODE(EXIT_XRSTORS, 4, "\x0f\xc7\x5b\x40")
	CODE(EXIT_VMREAD, 3, "\x0f\x78\xc8")
	CODE(EXIT_VMREAD, 3, "\x0f\x78\xcc")
	CODE(EXIT_VMREAD, 3, "\x0f\x78\xcd")
	CODE(EXIT_VMREAD, 0, "\x0f\x79\xc8")
	CODE(EXIT_VMWRITE, 7, "\x0f\x79\x80\x01\0\0\0")
	/* mov %cr4, %rbp with mod 1, which counts as 3; clts; lmsw 8(%rax) */
	CODE(EXIT_CONTROL_REGISTER_ACCESS, 3, "\x0f\x20\x65")
	CODE(EXIT_CONTROL_REGISTER_ACCESS, 4, "\x44\x0f\x22\xc0")
	CODE(EXIT_CONTROL_REGISTER_ACCESS, 2, "\x0f\x06")
	CODE(EXIT_CONTROL_REGISTER_ACCESS, 4, "\x0f\x01\x70\x08")
	CODE(EXIT_CONTROL_REGISTER_ACCESS, 3, "\x0f\x01\xf0")
	CODE(EXIT_CONTROL_REGISTER_ACCESS, 0, "\x0f\x21\xc0")
	CODE(EXIT_MOV_DR, 3, "\x0f\x23\xf8")
	CODE(EXIT_IO_INSTRUCTION, 2, "\xe4\x80")
	CODE(EXIT_IO_INSTRUCTION, 3, "\x66\xe7\x80")
	CODE(EXIT_IO_INSTRUCTION, 1, "\xec")
	CODE(EXIT_IO_INSTRUCTION, 2, "\xf3\x6f")
	CODE(EXIT_IO_INSTRUCTION, 0, "\xe8\x00")
	CODE(EXIT_WRMSR, 3, "\x0f\x01\xc6")
	CODE(EXIT_WRMSR, 0, "\xf3\x0f\x01\xc6")
	CODE(EXIT_WRMSRLIST, 4, "\xf3\x0f\x01\xc6")
	CODE(EXIT_RDMSRLIST, 4, "\xf2\x0f\x01\xc6")
	CODE(EXIT_PAUSE, 2, "\xf3\x90")
	CODE(EXIT_PAUSE, 0, "\x90")
	CODE(EXIT_INVEPT, 5, "\x66\x0f\x38\x80\x00")
	CODE(EXIT_INVVPID, 6, "\x66\x0f\x38\x81\x40\x08")
	CODE(EXIT_INVPCID, 5, "\x66\x0f\x38\x82\x03")
	CODE(EXIT_INVPCID, 0, "\x0f\x38\x82\x03")
	CODE(EXIT_TPAUSE, 5, "\x66\x41\x0f\xae\xf1")
	CODE(EXIT_UMWAIT, 4, "\xf2\x0f\xae\xf3")
	CODE(EXIT_UMWAIT, 0, "\xf3\x0f\xae\xf3")
	CODE(EXIT_ENQCMD_PASID_TRANSLATION_FAILURE, 5, "\xf2\x0f\x38\xf8\x02")
	/* int3, int1, and int $3, which is a software interrupt */
	CODE(EXIT_EXCEPTION_OR_NMI, 1, "\xcc")
	CODE(EXIT_EXCEPTION_OR_NMI, 1, "\xf1")
	CODE(EXIT_EXCEPTION_OR_NMI, 0, "\xcd\x03")
#undef CODE
};

static void test_code(void **state)
{
	static struct scene scene;
	u32 i, length;

	(void)state;
	make_scene(&scene, SCENE_cpuid);
	scene.x.code_bytes = INSTRUCTION_BYTES;
	for (i = 0; i < ARRAY_SIZE(codes); i++) {
		scene.x.outcome = OUTCOME_EXIT(codes[i].reason);
		memset(scene.x.code, 0, sizeof(scene.x.code));
		memcpy(scene.x.code, codes[i].bytes, codes[i].size);
		length = exit_code_length(&scene.x);
		if (length != codes[i].length)
			fail_msg("code %u: %u bytes, not %u", i, length, codes[i].length);
	}
}

/* Where the bytes at RIP say nothing. */
static void test_code_matters(void **state)
{
	static struct scene scene;

	(void)state;
	make_scene(&scene, SCENE_cpuid);
	assert_true(exit_code_matters(&scene.x));
	make_scene(&scene, SCENE_int3);
	assert_true(exit_code_matters(&scene.x));
	make_scene(&scene, SCENE_gp);
	assert_false(exit_code_matters(&scene.x));
	make_scene(&scene, SCENE_ept_violation);
	assert_false(exit_code_matters(&scene.x));
	make_scene(&scene, SCENE_invlpg_32);
	assert_false(exit_code_matters(&scene.x));
	make_scene(&scene, SCENE_bad_msr);
	assert_false(exit_code_matters(&scene.x));
}
