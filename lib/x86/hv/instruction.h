/* Instructions of the guest that the core has to know: decode.c, emulate.c, native.c, alu.c. */
#ifndef HV_INSTRUCTION_H
#define HV_INSTRUCTION_H

#include "hv/events.h"
#include "hv/exits.h"

struct hv_instruction {
	u8 bytes[15];
	u32 available;		/* bytes that could be read */
	u32 length;
	u32 opcode;		/* 0F xx: 0x0fxx; 0F 38 xx: 0x0f38xx */
	u32 opcode_at, modrm_at;	/* offsets in `bytes` */
	u8 rex, modrm;
	u8 prefix;		/* F2H or F3H, else 66H, else 0 */
	bool vex, wide_vector;	/* wide_vector: VEX.L */
	u8 operand_size, address_size;	/* bytes: 2, 4, 8 */
	u8 segment;		/* of the memory operand: SEGMENT_..., also by default */
	bool rep, lock, has_modrm, is_string;
	bool no_track;		/* 3EH among the prefixes */
	bool by_stack_pointer;	/* RSP is the base of the memory operand */
	u64 offset;		/* of the memory operand in its segment */
	u64 immediate;		/* sign-extended */
	u32 immediate_size;
};

/* Decodes the instruction at RIP; false for one that the core does not know. */
bool hv_decode(struct hv_vcpu *vcpu, struct hv_instruction *instruction);

/*
 * Decodes the instruction at RIP if it is one of those that do something else in real-address mode
 * than in protected mode; else false. `offset` and `immediate` also hold a far pointer.
 */
bool hv_decode_real(struct hv_vcpu *vcpu, struct hv_instruction *instruction);

/* Segment base plus offset, cut to the width of the mode. */
u64 hv_linear(const struct hv_vcpu *vcpu, u8 segment, u64 offset);

/* An operand in memory. */
struct hv_memory_operand {
	u8 segment;		/* SEGMENT_... */
	u64 offset;
	u32 size;		/* bytes */
};

/*
 * The linear address of an operand, if the instruction may use it so. False: `fault`, which is
 * #SS(0) in the stack segment, else #GP(0), for
 *
 *	a null selector, the type (6.4), the limit of expand-up and expand-down segments (6.3)
 *	in 64-bit mode: an address that is not canonical (chapter 4)
 *
 * `write` also for the read of an operand that will be written. Paging, and then alignment, come
 * after this.
 */
bool hv_operand_address(const struct hv_vcpu *vcpu, const struct hv_memory_operand *operand,
			bool write, u64 *linear, struct hv_fault *fault);

/* 7.15, Interrupt 17, Alignment Check Exception (#AC): whether `size` bytes at `linear` are one. */
bool hv_is_misaligned(u64 linear, u32 size);
#define HV_FAULT_AC	((struct hv_fault){ .vector = VECTOR_AC, .has_error = true })

/* Emulates the instruction at RIP, which accesses MMIO. */
enum hv_next hv_emulate(struct hv_vcpu *vcpu);

/* How an instruction uses its memory operand. */
enum hv_operand { HV_OPERAND_UNKNOWN, HV_OPERAND_READ, HV_OPERAND_WRITE, HV_OPERAND_MODIFY };

/*
 * Executes the instruction itself, on this processor and with the guest's registers, on a copy of
 * its memory operand. hv_native_operand() says whether it can be, and how many bytes (at most
 * HV_NATIVE_SIZE) the operand has. False: `fault`, with registers as they were.
 */
#define HV_NATIVE_SIZE	64
enum hv_operand hv_native_operand(const struct hv_instruction *instruction, u32 *size);
bool hv_native_run(struct hv_vcpu *vcpu, const struct hv_instruction *instruction, u8 *operand,
		   u64 *flags, struct hv_fault *fault);

/*
 * x87 instructions change more than general registers: what an instruction that will be executed
 * once more must find as it was. Volume 1, Table 10-2, Format of an FXSAVE Area.
 */
struct hv_x87 {
	u16 control, status;
	u8 tags, reserved;
	u16 opcode;
	u64 instruction, operand;	/* unless `wide`, 32 bits and above them a selector */
	u8 rest[512 - 24];
	bool wide;
} __attribute__((aligned(16)));

bool hv_is_x87(const struct hv_instruction *instruction);
/* Whether an x87 instruction that was executed has stored its result; `before`: saved before it. */
bool hv_x87_has_stored(const struct hv_x87 *before);
void hv_x87_save(struct hv_x87 *x87);
void hv_x87_restore(const struct hv_x87 *x87);

/* `operation` 0 to 7: ADD OR ADC SBB AND SUB XOR CMP; flags in and out. `size`: bytes. */
u64 hv_alu(u32 operation, u32 size, u64 to, u64 from, u64 *flags);

#endif
