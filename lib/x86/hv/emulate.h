/*
 * What the files of the emulator share: accesses to memory and registers, and groups of
 * instructions.
 */
#ifndef HV_EMULATE_H
#define HV_EMULATE_H

#include "hv/internal.h"

enum { ALU_ADD, ALU_OR, ALU_ADC, ALU_SBB, ALU_AND, ALU_SUB, ALU_XOR, ALU_CMP };

/* How the emulation of an instruction goes on. */
enum step { STEP_DONE, STEP_FAULT, STEP_USER, STEP_UNKNOWN };

struct job {
	struct hv_vcpu *vcpu;
	struct hv_instruction insn;
	struct hv_fault fault;
	u64 flags;
	u64 jump; /* from the next instruction to the one that follows */
	u64 hits; /* breakpoints met: bits 3:0 as in DR6 */
};

/* --- emulate_access.c ---------------------------------------------------------------- */

/*
 * Reads or writes an operand of at most 64 bytes, with all checks of segment, canonicality, paging
 * and alignment. `kind`: ACCESS_WRITE also for the read of an operand that will be written.
 * STEP_USER: some of the bytes are user space's, which has its exit.
 */
enum step emu_access_bytes(struct job *job, struct hv_memory_operand operand, u8 *bytes,
			   enum access kind, bool write);
/* The same for a value of at most 8 bytes. */
enum step emu_access(struct job *job, struct hv_memory_operand operand, u64 *value,
		     enum access kind, bool write);

/* What emu_access() would do before it reads or writes anything: checks, and their faults. */
enum step emu_check(struct job *job, struct hv_memory_operand operand, enum access kind);
/* A write of 4 or 8 bytes to the shadow stack. */
enum step emu_shadow_access(struct job *job, u64 linear, u64 value, u32 size);
/* An access to a port, which is user space's. */
enum step emu_port(struct job *job, const struct hv_port *port, u64 *value);

/* The memory operand of the instruction, with the instruction's operand size. */
enum step emu_read_operand(struct job *job, u64 *value, bool written_later);
enum step emu_write_operand(struct job *job, u64 value);

/* General registers, `size` bytes of them, as instructions number them; AH to BH where they are. */
u64 emu_get_register(struct job *job, u32 number, u32 size);
void emu_set_register(struct job *job, u32 number, u32 size, u64 value);
/* Adds to a register as wide as addresses are. */
void emu_move_register(struct job *job, u32 number, u64 by);
/* ModRM.reg with REX.R. */
u32 emu_modrm_register(const struct job *job);

/* --- emulate_string.c, emulate_stack.c ------------------------------------------------- */

/* MOVS, STOS, LODS; CMPS, SCAS: one element, with RCX and RIP of a repetition. */
enum step emu_string(struct job *job);
enum step emu_compare_string(struct job *job);
/* INS, OUTS: likewise, after an exit for their port. */
enum step emu_port_string(struct job *job);

/* POP to memory; CALL, JMP, PUSH (`reg` 2, 4, 6) with a memory operand. */
enum step emu_pop_to_memory(struct job *job);
enum step emu_indirect(struct job *job, u32 reg);

/* --- emulate_cet.c ------------------------------------------------------------------- */

/* Whether a near CALL pushes its return address on the shadow stack, too; and that push. */
bool emu_has_shadow_stack(const struct job *job);
enum step emu_shadow_push(struct job *job, u64 value, u32 size);
/* A near CALL or JMP through memory or a register: ENDBRANCH has to follow. */
void emu_track_branch(struct job *job);

#endif
