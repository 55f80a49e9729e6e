/* Builds the VM that a tree describes, and handles what its CPUs leave to user space. */
#include "vm.h"

#include <string.h>

#include "entry.h"
#include "loader.h"
#include "report.h"

enum { MAX_INSTRUCTION = 15 };

static int add_memory(struct vm *vm)
{
	for (size_t i = 0; i < vm->machine.range_count; i++) {
		struct memory_slot *slot = &vm->memory.slots[i];
		int result;

		slot->guest = vm->machine.ranges[i];
		result = vm->backend.functions->add_memory(&vm->backend, (uint32_t)i, &slot->guest,
							   &slot->host);
		if (result)
			return result;
		vm->memory.count = i + 1;
	}
	return 0;
}

/* The highest place below 4 GiB: out of the way of the image and of what it puts behind it. */
static int place_tree(const struct vm *vm, const struct loaded_image *image, struct blob tree,
		      uint64_t *address)
{
	if (memory_find_top(&vm->memory, tree.size, ENTRY_MAPPED, &image->extent, address) ||
	    *address < ENTRY_END)
		return -1;
	memcpy(memory_at(&vm->memory, *address, tree.size), tree.bytes, tree.size);
	return 0;
}

/* Everything that guest memory holds at the start. Returns one of enum vm_problem. */
static int fill_memory(struct vm *vm, struct blob elf, struct blob tree, uint64_t *entry,
		       uint64_t *tree_address, struct text *error)
{
	struct loaded_image image;

	if (entry_write_tables(&vm->memory)) {
		text_print(error, "no memory at 0x%x-0x%x, where the first page tables go",
			   ENTRY_START, ENTRY_END - 1);
		return VM_BAD_TREE;
	}
	if (load_elf(&image, &vm->memory, elf.bytes, elf.size, error))
		return VM_BAD_IMAGE;
	if (place_tree(vm, &image, tree, tree_address)) {
		text_print(error, "beside the image, no memory below 4 GiB for the %llu bytes of "
			   "the tree", (unsigned long long)tree.size);
		return VM_BAD_TREE;
	}
	*entry = image.entry;
	return VM_FINE;
}

static int add_vcpu(struct vm *vm, const union cpuid_table *supported,
		    const struct cpuid_topology *topology)
{
	const struct backend_functions *functions = vm->backend.functions;
	struct vcpu *vcpu = &vm->vcpus[vm->vcpu_count];
	union cpuid_table own = *supported;
	int result;

	cpuid_set_topology(&own.table, topology);
	result = functions->add_vcpu(&vm->backend, topology->apic_id, vcpu);
	if (!result)
		result = functions->set_cpuid(&vm->backend, vcpu, &own.table);
	if (!result && vm->machine.without)
		result = functions->hide(&vm->backend, vcpu, vm->machine.without);
	if (!result)
		vm->vcpu_count++;
	return result;
}

static int add_vcpus(struct vm *vm)
{
	const struct machine *machine = &vm->machine;
	struct cpuid_topology topology = { .cpu_count = (uint32_t)machine->cpu_count };
	union cpuid_table supported;
	int result = vm->backend.functions->get_cpuid(&vm->backend, &supported.table,
						      &topology.tsc_deadline);

	for (size_t i = 0; i < machine->cpu_count; i++) {
		if (machine->apic_ids[i] > topology.highest_apic_id)
			topology.highest_apic_id = machine->apic_ids[i];
	}
	for (size_t i = 0; i < machine->cpu_count && !result; i++) {
		topology.apic_id = machine->apic_ids[i];
		result = add_vcpu(vm, &supported, &topology);
	}
	return result;
}

static int set_entry(struct vm *vm, uint64_t entry, uint64_t tree)
{
	const struct backend_functions *functions = vm->backend.functions;
	struct kvm_regs regs;
	struct kvm_sregs sregs;
	int result = functions->get_state(&vm->backend, &vm->vcpus[0], &regs, &sregs);

	if (result)
		return result;
	entry_set_state(&regs, &sregs, entry, tree);
	return functions->set_state(&vm->backend, &vm->vcpus[0], &regs, &sregs);
}

/*
 * Builds in `vm` the machine that `tree` describes, loads `elf` and prepares the first CPU;
 * the others wait for INIT and SIPI. Console bytes will go to `console`.
 * Returns VM_FINE; VM_BAD_TREE or VM_BAD_IMAGE with words in `error`; or a negative errno
 * value when the back end failed, which `vm->backend` then explains.
 */
int vm_create(struct vm *vm, const struct backend_functions *functions, struct blob elf,
	      struct blob tree, struct text *console, struct text *error)
{
	uint64_t entry, tree_address;
	int result;

	memset(vm, 0, sizeof(*vm));
	vm->backend.functions = functions;
	if (machine_read(&vm->machine, tree.bytes, tree.size, error))
		return VM_BAD_TREE;
	if (vm->machine.without && !functions->hide) {
		text_print(error, "node cpus: exitpath,without: nothing can be hidden here");
		return VM_BAD_TREE;
	}
	devices_init(&vm->devices, &vm->machine, console);

	result = functions->create(&vm->backend, vm->machine.apic_ids[0]);
	if (!result)
		result = add_memory(vm);
	if (!result)
		result = fill_memory(vm, elf, tree, &entry, &tree_address, error);
	if (!result)
		result = add_vcpus(vm);
	if (!result)
		result = set_entry(vm, entry, tree_address);
	return result;
}

/* Wider accesses are those of single bytes at consecutive ports, as on the ISA bus. */
static void handle_io(struct vm *vm, struct kvm_run *run)
{
	uint8_t *data = (uint8_t *)run + run->io.data_offset;

	for (uint32_t i = 0; i < run->io.count; i++) {
		for (unsigned int byte = 0; byte < run->io.size; byte++, data++) {
			const uint16_t port = (uint16_t)(run->io.port + byte);

			if (run->io.direction == KVM_EXIT_IO_OUT)
				devices_write(&vm->devices, port, *data);
			else
				*data = devices_read(&vm->devices, port);
		}
	}
}

/*
 * Does what the back end left to user space in `vcpu->run`. One caller at a time: the
 * devices and the console belong to all CPUs.
 */
enum vm_next vm_handle_exit(struct vm *vm, struct vcpu *vcpu)
{
	struct kvm_run *run = vcpu->run;

	switch (run->exit_reason) {
	case KVM_EXIT_IO:
		handle_io(vm, run);
		return vm->devices.off ? VM_OFF : VM_GO_ON;
	case KVM_EXIT_MMIO:
		if (!run->mmio.is_write)
			memset(run->mmio.data, 0xff, sizeof(run->mmio.data));
		return VM_GO_ON;
	case KVM_EXIT_INTR:
	case KVM_EXIT_IRQ_WINDOW_OPEN:
		return VM_GO_ON;
	default:
		vm_note(vm);
		text_print(vm->devices.console, REPORT_PREFIX "the machine stopped: CPU %u: ",
			   vcpu->apic_id);
		report_exit(vm->devices.console, run);
		vm_report_state(vm, vcpu, false);
		return VM_BROKEN;
	}
}

/* Says on the console that running `vcpu` failed with the errno value `problem`, `words`. */
void vm_report_failure(struct vm *vm, struct vcpu *vcpu, int problem, const char *words)
{
	vm_note(vm);
	text_print(vm->devices.console,
		   REPORT_PREFIX "the machine stopped: CPU %u: %s failed with error %u (%s)\n",
		   vcpu->apic_id, vm->backend.failed, (unsigned int)problem, words);
	vm_report_state(vm, vcpu, false);
}

/* Starts a new line on the console, unless the guest has just ended one. */
void vm_note(struct vm *vm)
{
	if (vm->devices.console->last && vm->devices.console->last != '\n')
		text_char(vm->devices.console, '\n');
}

/* Copies up to `size` bytes at linear `address`; returns how many there are. */
static unsigned int read_linear(struct vm *vm, struct vcpu *vcpu, uint64_t address, uint8_t *bytes,
				unsigned int size)
{
	unsigned int count = 0;

	while (count < size) {
		struct kvm_translation at = { .linear_address = address + count };
		const uint8_t *host;

		if (vm->backend.functions->translate(&vm->backend, vcpu, &at) || !at.valid)
			break;
		host = memory_at(&vm->memory, at.physical_address, 1);
		if (!host)
			break;
		do {
			bytes[count++] = *host++;
		} while (count < size && (address + count) % PAGE_SIZE_4K);
	}
	return count;
}

/* KVM on AMD CPUs resets a CPU that triple faults before it tells. */
static bool is_reset_state(const struct kvm_regs *regs, const struct kvm_sregs *sregs)
{
	return regs->rip == 0xfff0 && sregs->cs.base == 0xffff0000;
}

/*
 * Prints registers and instruction bytes of a CPU that does not run to the console; only
 * where it is when `brief`.
 */
void vm_report_state(struct vm *vm, struct vcpu *vcpu, bool brief)
{
	struct text *console = vm->devices.console;
	uint8_t bytes[MAX_INSTRUCTION];
	struct kvm_regs regs;
	struct kvm_sregs sregs;
	uint64_t address;

	if (vm->backend.functions->get_state(&vm->backend, vcpu, &regs, &sregs)) {
		text_print(console, REPORT_PREFIX "its registers cannot be read: %s failed\n",
			   vm->backend.failed);
		return;
	}
	if (is_reset_state(&regs, &sregs)) {
		text_print(console, REPORT_PREFIX "CPU %u is as after a reset\n", vcpu->apic_id);
		return;
	}
	if (brief)
		report_place(console, &regs);
	else
		report_state(console, &regs, &sregs);
	address = regs.rip + (sregs.cs.l ? 0 : sregs.cs.base);
	report_bytes(console, address, bytes,
		     read_linear(vm, vcpu, address, bytes, sizeof(bytes)));
}
