/* VM exits, their handlers and exits to user space: dispatch.c, exits.c and others by theme. */
#ifndef HV_EXITS_H
#define HV_EXITS_H

#include "hv/hv.h"

/* An access to a port. */
struct hv_port {
	u32 size;		/* bytes */
	bool in;
	u16 number;
};

/* What a handler returns: go on in the guest, or leave to user space by vcpu->run. */
enum hv_next { HV_GUEST, HV_USER };

typedef enum hv_next hv_handler(struct hv_vcpu *vcpu);

enum hv_next hv_dispatch(struct hv_vcpu *vcpu, u32 reason);

hv_handler hv_exit_cpuid, hv_exit_hlt, hv_exit_triple_fault, hv_exit_io, hv_exit_cr,
	   hv_exit_rdmsr, hv_exit_wrmsr, hv_exit_vmcall, hv_exit_memory, hv_exit_invlpg,
	   hv_exit_invpcid, hv_exit_stepped, hv_exit_log_full,
	   hv_exit_interrupt_window, hv_exit_nmi_window, hv_exit_external_interrupt,
	   hv_exit_preemption_timer, hv_exit_mov_dr, hv_exit_xsetbv, hv_exit_mwait,
	   hv_exit_monitor, hv_exit_exception_or_nmi, hv_exit_task_switch, hv_exit_gp, hv_exit_ud,
	   hv_exit_nothing;

/* KVM_EXIT_INTERNAL_ERROR: an instruction that the core does not know, with its bytes ... */
enum hv_next hv_emulation_failure(struct hv_vcpu *vcpu);
/* ... or anything else (KVM_INTERNAL_ERROR_...), with `count` values, at most 16. */
enum hv_next hv_internal_error(struct hv_vcpu *vcpu, u32 suberror, const u64 *values, u32 count);

/* Exit to user space for `reason` (KVM_EXIT_...), and what to do when it runs the vCPU again. */
enum hv_next hv_user(struct hv_vcpu *vcpu, u32 reason, int (*complete)(struct hv_vcpu *vcpu));

/*
 * Guest debugging by user space, guest_debug.c: the guest has made a step, which is an exit to user
 * space if that wants steps; or it has run into a breakpoint.
 */
enum hv_next hv_debug_stepped(struct hv_vcpu *vcpu);
/* The guest's own DR0 to DR3 and DR7 are as after a reset; user space's breakpoints stay. */
void hv_debug_reset(struct hv_vcpu *vcpu);
/* Exits by the monitor trap flag, for one or both of them. */
enum hv_steps { HV_STEPS_FOR_DEBUGGER = 1, HV_STEPS_FOR_MMU = 2 };
void hv_want_steps(struct hv_vcpu *vcpu, enum hv_steps who, bool on);
/* A primary processor-based control that is the core's to choose. */
void hv_set_proc1(struct hv_vcpu *vcpu, enum control control, bool on);
bool hv_debug_wants(const struct hv_vcpu *vcpu, u8 vector);
enum hv_next hv_debug_exception(struct hv_vcpu *vcpu, u8 vector, u64 dr6);

/* An exit and what the core has made of it, for vcpu->trace. */
void hv_trace_note(struct hv_vcpu *vcpu, const struct hv_trace_entry *entry);

/* Breakpoints of DR7 that an access meets, bits 3:0; and what waits to be a debug exception. */
enum hv_break { HV_BREAK_READ, HV_BREAK_WRITE, HV_BREAK_IO, HV_BREAK_EXECUTE };
u64 hv_breakpoints(const struct hv_vcpu *vcpu, enum hv_break kind, u64 address, u32 size);
void hv_add_pending_debug(u64 hits);
/* The debug exceptions that come before the next instruction, as bits of DR6; 0: none. */
u64 hv_pending_debug(void);
/*
 * A debug exception has exited, and will be the guest's: DR6 and DR7 as its delivery leaves them.
 */
void hv_note_debug_exception(void);

/* The instruction that exited, or was emulated, is done: RIP, interrupt shadow, single step. */
void hv_skip(struct hv_vcpu *vcpu, u64 length);
void hv_skip_exiting(struct hv_vcpu *vcpu);
/* Blocking by STI or MOV SS ends, as behind the next instruction and when an event is delivered. */
void hv_end_shadow(void);
/* One element of a repeated string instruction is done, and more are left. */
void hv_repeat(struct hv_vcpu *vcpu);

/* Exit to user space for `count` accesses to `port`, with the bytes at hv_port_data(). */
enum hv_next hv_port_to_user(struct hv_vcpu *vcpu, const struct hv_port *port, u32 count,
			     int (*complete)(struct hv_vcpu *vcpu));
u8 *hv_port_data(struct hv_vcpu *vcpu);
/* The port of INS or OUTS whose exit this is; false: it is another exit. */
bool hv_port_of_string(struct hv_port *port);
/* The I/O breakpoints that an access to it meets: bits 3:0 as in DR6. */
u64 hv_port_breakpoints(const struct hv_vcpu *vcpu, const struct hv_port *port);

#endif
