/* Makes a CPUID table say what the tree says about APIC IDs and topology. */
#ifndef VMM_CPUID_H
#define VMM_CPUID_H

#include <stdbool.h>
#include <stdint.h>

#include <linux/kvm.h>

/* As many entries as KVM takes; more than any CPU has. */
enum { CPUID_MAX_ENTRIES = 256 };

union cpuid_table {
	struct kvm_cpuid2 table;
	uint8_t room[sizeof(struct kvm_cpuid2) +
		     CPUID_MAX_ENTRIES * sizeof(struct kvm_cpuid_entry2)];
};

struct cpuid_topology {
	uint32_t apic_id;	/* of the CPU that gets the table */
	uint32_t highest_apic_id;
	uint32_t cpu_count;	/* all are cores of one package, one thread each */
	bool tsc_deadline;	/* the local APIC has the TSC-deadline timer */
};

void cpuid_set_topology(struct kvm_cpuid2 *table, const struct cpuid_topology *topology);

#endif
