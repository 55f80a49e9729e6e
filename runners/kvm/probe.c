/* Whether a back end can run a guest at all: the only test that means something is to do it. */
#include "probe.h"

#include <errno.h>
#include <string.h>

#include "entry.h"
#include "memory.h"

enum {
	PROBE_MEMORY = 0x10000,
	PROBE_CODE = ENTRY_END,
	PROBE_PORT = 0xe9,
};

/* Hides what the guest shall lack. The CPU gets all that its CPUID can say first. */
static int hide(struct backend *backend, struct vcpu *vcpu, const char *without)
{
	union cpuid_table table;
	bool tsc_deadline;
	int result = backend->functions->get_cpuid(backend, &table.table, &tsc_deadline);

	if (!result)
		result = backend->functions->set_cpuid(backend, vcpu, &table.table);
	if (!result)
		result = backend->functions->hide(backend, vcpu, without);
	return result;
}

/*
 * Makes a VM with one CPU that lacks `without`, names as in capabilities.h or NULL, whose guest
 * writes to a port, and waits for that.
 * Returns 0, or a negative errno value, which `backend` explains; -ENOTSUP when it ran but
 * something else came out than the guest does.
 */
int probe_guest(struct backend *backend, const char *without)
{
	static const uint8_t code[] = { 0xe6, PROBE_PORT };	/* out %al, $PROBE_PORT */
	const struct backend_functions *functions = backend->functions;
	struct memory memory = { .slots[0].guest.size = PROBE_MEMORY, .count = 1 };
	struct vcpu vcpu;
	struct kvm_regs regs;
	struct kvm_sregs sregs;
	int result = functions->create(backend, 0);

	if (!result)
		result = functions->add_memory(backend, 0, &memory.slots[0].guest,
					       &memory.slots[0].host);
	if (!result)
		result = functions->add_vcpu(backend, 0, &vcpu);
	if (!result && without)
		result = hide(backend, &vcpu, without);
	if (!result)
		result = functions->get_state(backend, &vcpu, &regs, &sregs);
	if (result)
		return result;

	entry_write_tables(&memory);
	memcpy(memory_at(&memory, PROBE_CODE, sizeof(code)), code, sizeof(code));
	entry_set_state(&regs, &sregs, PROBE_CODE, 0);
	result = functions->set_state(backend, &vcpu, &regs, &sregs);
	if (!result)
		result = functions->run(backend, &vcpu);
	if (result)
		return result;
	if (vcpu.run->exit_reason == KVM_EXIT_IO && vcpu.run->io.port == PROBE_PORT)
		return 0;
	backend->failed = "KVM_RUN of a guest of one instruction";
	backend->advice = "this KVM starts no guest; see the kernel log (dmesg)";
	return -ENOTSUP;
}
