/* What the front end asks of whatever runs the guest: KVM by ioctl, or the bundled core. */
#ifndef VMM_BACKEND_H
#define VMM_BACKEND_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <linux/kvm.h>

#include "cpuid.h"
#include "machine.h"

struct vcpu {
	struct kvm_run *run;
	size_t run_size;	/* bytes mapped at `run` */
	uint32_t apic_id;
	int handle;		/* of the back end */
};

/*
 * Every function returns 0 or a negative errno value, and then leaves in `failed` the name of
 * the request that failed, and in `advice` what the user can do, or "".
 */
struct backend {
	const struct backend_functions *functions;
	const char *failed, *advice;
	bool is_sentence;	/* `failed` says all, the error value nothing more */
	int system, vm;		/* handles of the back end */
};

struct backend_functions {
	/* Makes an empty VM with local APICs and an I/O APIC; CPU `boot_apic_id` starts it. */
	int (*create)(struct backend *backend, uint32_t boot_apic_id);
	/* Host memory for `range`, all zero; `slot` counts from 0. */
	int (*add_memory)(struct backend *backend, uint32_t slot, const struct memory_range *range,
			  uint8_t **host);
	int (*add_vcpu)(struct backend *backend, uint32_t apic_id, struct vcpu *vcpu);
	/* Everything the guest's CPUID can say here; room for CPUID_MAX_ENTRIES. */
	int (*get_cpuid)(struct backend *backend, struct kvm_cpuid2 *table, bool *tsc_deadline);
	int (*set_cpuid)(struct backend *backend, struct vcpu *vcpu,
			 const struct kvm_cpuid2 *table);
	int (*get_state)(struct backend *backend, struct vcpu *vcpu, struct kvm_regs *regs,
			 struct kvm_sregs *sregs);
	int (*set_state)(struct backend *backend, struct vcpu *vcpu, const struct kvm_regs *regs,
			 const struct kvm_sregs *sregs);
	int (*translate)(struct backend *backend, struct vcpu *vcpu,
			 struct kvm_translation *translation);
	/* Takes VMX capabilities (capabilities.h) from a CPU that has its CPUID; may be NULL. */
	int (*hide)(struct backend *backend, struct vcpu *vcpu, const char *names);
	/* Runs the guest until something is left for user space, which `vcpu->run` says. */
	int (*run)(struct backend *backend, struct vcpu *vcpu);
};

extern const struct backend_functions kvm_functions;

#endif
