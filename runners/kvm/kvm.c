/* The back end that drives Linux KVM through /dev/kvm. */
#include "backend.h"
#include "hide.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#include <asm/kvm_para.h>

/*
 * Intel CPUs without "unrestricted guest" run real mode with a task state segment and a page
 * table that KVM keeps in guest-physical memory: four pages in the hole below the ROM.
 */
#define KVM_IDENTITY_MAP 0xfeffc000ull
#define KVM_TSS 0xfeffd000ul

static int failed(struct backend *backend, const char *what)
{
	const int problem = errno;

	backend->failed = what;
	backend->advice = "";
	return -problem;
}

static int open_device(struct backend *backend)
{
	int result;

	backend->system = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	if (backend->system >= 0)
		return 0;
	result = failed(backend, "open /dev/kvm");
	if (result == -ENOENT || result == -ENODEV || result == -ENXIO)
		backend->advice = "load the module (modprobe kvm_intel or kvm_amd) and see that "
				  "virtualization is switched on in the firmware, or choose "
				  "another platform with --on";
	else if (result == -EACCES || result == -EPERM)
		backend->advice = "join the group of /dev/kvm (adduser USER kvm, then log in "
				  "again) or run as root";
	return result;
}

static int check_version(struct backend *backend)
{
	static const struct {
		int number;
		const char *name;
	} needed[] = {
		{ KVM_CAP_IRQCHIP, "KVM_CAP_IRQCHIP" },
		{ KVM_CAP_USER_MEMORY, "KVM_CAP_USER_MEMORY" },
		{ KVM_CAP_EXT_CPUID, "KVM_CAP_EXT_CPUID" },
		{ KVM_CAP_IMMEDIATE_EXIT, "KVM_CAP_IMMEDIATE_EXIT" },
	};

	if (ioctl(backend->system, KVM_GET_API_VERSION, 0) != KVM_API_VERSION) {
		errno = ENOTSUP;
		return failed(backend, "KVM_GET_API_VERSION (12 is needed)");
	}
	for (size_t i = 0; i < sizeof(needed) / sizeof(needed[0]); i++) {
		if (ioctl(backend->system, KVM_CHECK_EXTENSION, needed[i].number) > 0)
			continue;
		errno = ENOTSUP;
		return failed(backend, needed[i].name);
	}
	return 0;
}

static int kvm_create(struct backend *backend, uint32_t boot_apic_id)
{
	uint64_t identity_map = KVM_IDENTITY_MAP;
	int result = open_device(backend);

	if (!result)
		result = check_version(backend);
	if (result)
		return result;
	backend->vm = ioctl(backend->system, KVM_CREATE_VM, 0);
	if (backend->vm < 0)
		return failed(backend, "KVM_CREATE_VM");
	/* Unknown to back ends that have no use for them, which then fail harmlessly. */
	(void)ioctl(backend->vm, KVM_SET_IDENTITY_MAP_ADDR, &identity_map);
	(void)ioctl(backend->vm, KVM_SET_TSS_ADDR, KVM_TSS);
	if (ioctl(backend->vm, KVM_CREATE_IRQCHIP, 0))
		return failed(backend, "KVM_CREATE_IRQCHIP");
	if (boot_apic_id && ioctl(backend->vm, KVM_SET_BOOT_CPU_ID, (unsigned long)boot_apic_id))
		return failed(backend, "KVM_SET_BOOT_CPU_ID");
	return 0;
}

static int kvm_add_memory(struct backend *backend, uint32_t slot, const struct memory_range *range,
			  uint8_t **host)
{
	struct kvm_userspace_memory_region region = {
		.slot = slot,
		.guest_phys_addr = range->start,
		.memory_size = range->size,
	};
	/* Nothing is reserved or zeroed before the guest touches it. */
	void *bytes = mmap(NULL, range->size, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (bytes == MAP_FAILED) {
		const int result = failed(backend, "mmap of guest memory");

		backend->advice = "describe less memory in the tree";
		return result;
	}
	region.userspace_addr = (uintptr_t)bytes;
	if (ioctl(backend->vm, KVM_SET_USER_MEMORY_REGION, &region))
		return failed(backend, "KVM_SET_USER_MEMORY_REGION");
	*host = bytes;
	return 0;
}

/*
 * Without this a guest can use paravirtual MSRs that its CPUID does not announce. Kernels before
 * 5.7 cannot be asked, and always allow it.
 */
static void enforce_pv_features(int vcpu)
{
	struct kvm_enable_cap enforce = { .cap = KVM_CAP_ENFORCE_PV_FEATURE_CPUID, .args = { 1 } };

	(void)ioctl(vcpu, KVM_ENABLE_CAP, &enforce);
}

static int kvm_add_vcpu(struct backend *backend, uint32_t apic_id, struct vcpu *vcpu)
{
	const int size = ioctl(backend->system, KVM_GET_VCPU_MMAP_SIZE, 0);
	void *run;

	if (size < (int)sizeof(struct kvm_run))
		return failed(backend, "KVM_GET_VCPU_MMAP_SIZE");
	/* KVM takes the number of a virtual CPU as its APIC ID. */
	vcpu->handle = ioctl(backend->vm, KVM_CREATE_VCPU, (unsigned long)apic_id);
	if (vcpu->handle < 0)
		return failed(backend, "KVM_CREATE_VCPU");
	enforce_pv_features(vcpu->handle);
	run = mmap(NULL, (size_t)size, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu->handle, 0);
	if (run == MAP_FAILED)
		return failed(backend, "mmap of a virtual CPU");
	vcpu->run = run;
	vcpu->run_size = (size_t)size;
	vcpu->apic_id = apic_id;
	return 0;
}

/* The leaves in which KVM describes itself are in its table, the bit that announces them is not. */
static void announce_hypervisor(struct kvm_cpuid2 *table)
{
	struct kvm_cpuid_entry2 *features = NULL;
	bool leaves = false;

	for (uint32_t i = 0; i < table->nent; i++) {
		if (table->entries[i].function == 1)
			features = &table->entries[i];
		leaves |= table->entries[i].function == KVM_CPUID_SIGNATURE;
	}
	if (features && leaves)
		features->ecx |= 1u << 31;
}

static int kvm_get_cpuid(struct backend *backend, struct kvm_cpuid2 *table, bool *tsc_deadline)
{
	table->nent = CPUID_MAX_ENTRIES;
	if (ioctl(backend->system, KVM_GET_SUPPORTED_CPUID, table))
		return failed(backend, "KVM_GET_SUPPORTED_CPUID");
	announce_hypervisor(table);
	*tsc_deadline = ioctl(backend->vm, KVM_CHECK_EXTENSION, KVM_CAP_TSC_DEADLINE_TIMER) > 0;
	return 0;
}

static int kvm_set_cpuid(struct backend *backend, struct vcpu *vcpu,
			 const struct kvm_cpuid2 *table)
{
	if (ioctl(vcpu->handle, KVM_SET_CPUID2, table))
		return failed(backend, "KVM_SET_CPUID2");
	return 0;
}

static int kvm_get_state(struct backend *backend, struct vcpu *vcpu, struct kvm_regs *regs,
			 struct kvm_sregs *sregs)
{
	if (ioctl(vcpu->handle, KVM_GET_REGS, regs))
		return failed(backend, "KVM_GET_REGS");
	if (ioctl(vcpu->handle, KVM_GET_SREGS, sregs))
		return failed(backend, "KVM_GET_SREGS");
	return 0;
}

static int kvm_set_state(struct backend *backend, struct vcpu *vcpu, const struct kvm_regs *regs,
			 const struct kvm_sregs *sregs)
{
	if (ioctl(vcpu->handle, KVM_SET_SREGS, sregs))
		return failed(backend, "KVM_SET_SREGS");
	if (ioctl(vcpu->handle, KVM_SET_REGS, regs))
		return failed(backend, "KVM_SET_REGS");
	return 0;
}

static int kvm_translate(struct backend *backend, struct vcpu *vcpu,
			 struct kvm_translation *translation)
{
	if (ioctl(vcpu->handle, KVM_TRANSLATE, translation))
		return failed(backend, "KVM_TRANSLATE");
	return 0;
}

static int kvm_run(struct backend *backend, struct vcpu *vcpu)
{
	if (ioctl(vcpu->handle, KVM_RUN, 0))
		return failed(backend, "KVM_RUN");
	return 0;
}

const struct backend_functions kvm_functions = {
	.create = kvm_create,
	.add_memory = kvm_add_memory,
	.add_vcpu = kvm_add_vcpu,
	.get_cpuid = kvm_get_cpuid,
	.set_cpuid = kvm_set_cpuid,
	.get_state = kvm_get_state,
	.set_state = kvm_set_state,
	.translate = kvm_translate,
	.hide = kvm_hide,
	.run = kvm_run,
};
