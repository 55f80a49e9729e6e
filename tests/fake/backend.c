/*
 * A back end of the VMM (runners/kvm/backend.h) that runs no guest, for machines without KVM: it
 * takes the place of kvm.c. The first CPU prints what is in the file $FAKE_CONSOLE, then does what
 * $FAKE_END says: "off" switches the machine off; a number stops it with KVM_EXIT_INTERNAL_ERROR
 * and that suberror, RIP at a load that KVM's emulator does not know; "exit N" stops it with the
 * exit reason N.
 */
#include "backend.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
	CONSOLE_PORT = 0xe9,
	OFF_PORT = 0x8900,
	CODE = 0x9000,		/* guest-physical, and linear */
	RUN_SIZE = 0x2000,
	DATA_OFFSET = 0x1000,	/* of string I/O, in the page behind struct kvm_run */
	CHUNK = 512,
	BYTES_VALID = 1,	/* KVM_INTERNAL_ERROR_EMULATION_FLAG_INSTRUCTION_BYTES */
};

static const uint8_t load[] = { 0xd9, 0x04, 0x25, 0x00, 0x00, 0x00, 0xd0 }; /* flds 0xd0000000 */

static struct {
	uint8_t *memory;
	struct kvm_regs regs;
	struct kvm_sregs sregs;
	FILE *console;
	const char *end;
} fake;

static int create(struct backend *backend, uint32_t boot_apic_id)
{
	(void)boot_apic_id;
	fake.end = getenv("FAKE_END");
	fake.console = fopen(getenv("FAKE_CONSOLE"), "r");
	backend->failed = "the file of FAKE_CONSOLE";
	backend->advice = "";
	return fake.end && fake.console ? 0 : -ENOENT;
}

static int add_memory(struct backend *backend, uint32_t slot, const struct memory_range *range,
		      uint8_t **host)
{
	(void)backend;
	*host = calloc(1, range->size);
	if (!*host)
		return -ENOMEM;
	if (slot == 0) {
		fake.memory = *host;
		memcpy(fake.memory + CODE, load, sizeof(load));
	}
	return 0;
}

static int add_vcpu(struct backend *backend, uint32_t apic_id, struct vcpu *vcpu)
{
	(void)backend;
	vcpu->apic_id = apic_id;
	vcpu->run_size = RUN_SIZE;
	vcpu->run = calloc(1, RUN_SIZE);
	return vcpu->run ? 0 : -ENOMEM;
}

static int get_cpuid(struct backend *backend, struct kvm_cpuid2 *table, bool *tsc_deadline)
{
	(void)backend;
	table->nent = 0;
	*tsc_deadline = false;
	return 0;
}

static int set_cpuid(struct backend *backend, struct vcpu *vcpu, const struct kvm_cpuid2 *table)
{
	(void)backend;
	(void)vcpu;
	(void)table;
	return 0;
}

static int get_state(struct backend *backend, struct vcpu *vcpu, struct kvm_regs *regs,
		     struct kvm_sregs *sregs)
{
	(void)backend;
	(void)vcpu;
	*regs = fake.regs;
	*sregs = fake.sregs;
	return 0;
}

static int set_state(struct backend *backend, struct vcpu *vcpu, const struct kvm_regs *regs,
		     const struct kvm_sregs *sregs)
{
	(void)backend;
	(void)vcpu;
	fake.regs = *regs;
	fake.sregs = *sregs;
	return 0;
}

static int translate(struct backend *backend, struct vcpu *vcpu,
		     struct kvm_translation *translation)
{
	(void)backend;
	(void)vcpu;
	translation->physical_address = translation->linear_address;
	translation->valid = 1;
	return 0;
}

static void output(struct kvm_run *run, uint16_t port, const char *bytes, size_t count)
{
	run->exit_reason = KVM_EXIT_IO;
	run->io.direction = KVM_EXIT_IO_OUT;
	run->io.size = 1;
	run->io.port = port;
	run->io.count = (uint32_t)count;
	run->io.data_offset = DATA_OFFSET;
	memcpy((char *)run + DATA_OFFSET, bytes, count);
}

static void give_up(struct kvm_run *run, uint32_t suberror)
{
	/* No two segments alike: the longest report there is. */
	fake.sregs.ds.base = 1;
	fake.sregs.es.base = 2;
	fake.sregs.fs.base = 3;
	fake.sregs.gs.base = 4;
	fake.sregs.tr.base = 5;
	fake.sregs.ldt.base = 6;
	fake.regs.rip = CODE;
	fake.regs.r15 = 0x12345678;
	run->exit_reason = KVM_EXIT_INTERNAL_ERROR;
	run->internal.suberror = suberror;
	run->internal.ndata = 1;
	run->internal.data[0] = 0xfeed;
	if (suberror != KVM_INTERNAL_ERROR_EMULATION)
		return;
	run->emulation_failure.ndata = 4;
	run->emulation_failure.flags = BYTES_VALID;
	run->emulation_failure.insn_size = sizeof(load);
	memcpy(run->emulation_failure.insn_bytes, load, sizeof(load));
}

static int run(struct backend *backend, struct vcpu *vcpu)
{
	struct kvm_run *shared = vcpu->run;
	char bytes[CHUNK];
	size_t count;

	(void)backend;
	/* The other CPUs have nothing to do: they end with the process. */
	while (vcpu->apic_id)
		pause();
	count = fread(bytes, 1, sizeof(bytes), fake.console);
	if (count)
		output(shared, CONSOLE_PORT, bytes, count);
	else if (strcmp(fake.end, "off") == 0)
		output(shared, OFF_PORT, "Shutdown", 8);
	else if (strncmp(fake.end, "exit ", 5) == 0)
		shared->exit_reason = (uint32_t)strtoul(fake.end + 5, NULL, 0);
	else
		give_up(shared, (uint32_t)strtoul(fake.end, NULL, 0));
	return 0;
}

const struct backend_functions kvm_functions = {
	.create = create,
	.add_memory = add_memory,
	.add_vcpu = add_vcpu,
	.get_cpuid = get_cpuid,
	.set_cpuid = set_cpuid,
	.get_state = get_state,
	.set_state = set_state,
	.translate = translate,
	.run = run,
};
