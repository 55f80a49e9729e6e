/* The back end that is the bundled core, called as functions of the same image. */
#include "backend.h"

#include "hv/hv.h"
#include "mmu/pages.h"

#include "core.h"

/*
 * The core's own pages for the VM: MMU tables, and for each vCPU three, or four with
 * page-modification logging (hv_vm_create()).
 */
#define POOL_SIZE	(4ull << 20)

/* So that EPT can map guest memory by large pages. */
#define MEMORY_ALIGNMENT	(2ull << 20)

static struct hv_pool pool;
static struct hv_vm vm;
static struct hv_vcpu vcpus[MACHINE_MAX_CPUS];
static uint32_t vcpu_count;

const struct hv_mmu *core_mmu;

static int result_of(struct backend *backend, int result, const char *what)
{
	if (result) {
		backend->failed = what;
		backend->advice = "";
	}
	return result;
}

static int core_create(struct backend *backend, uint32_t boot_apic_id)
{
	int result;

	(void)boot_apic_id;	/* the first one that is added */
	hv_start(page_alloc());
	hv_pool_init(&pool, pages_alloc(POOL_SIZE, PAGE_SIZE), POOL_SIZE);
	result = hv_vm_create(&vm, core_mmu, &pool, pool.left);
	if (result)
		return result_of(backend, result, "hv_vm_create");
	return result_of(backend, hv_vm_create_irqchip(&vm), "hv_vm_create_irqchip");
}

static int core_add_memory(struct backend *backend, uint32_t slot, const struct memory_range *range,
			   uint8_t **host)
{
	/* The place in a 2-MByte page is the same for guest and host. */
	const uint64_t offset = range->start % MEMORY_ALIGNMENT;
	uint8_t *bytes = pages_alloc(range->size + offset, MEMORY_ALIGNMENT);
	const struct kvm_userspace_memory_region region = {
		.slot = slot,
		.guest_phys_addr = range->start,
		.memory_size = range->size,
		.userspace_addr = physical(bytes) + offset,
	};

	*host = bytes + offset;
	return result_of(backend, hv_vm_set_memory(&vm, &region), "hv_vm_set_memory");
}

static int core_add_vcpu(struct backend *backend, uint32_t apic_id, struct vcpu *vcpu)
{
	struct hv_vcpu *own = &vcpus[vcpu_count];
	const int result = hv_vcpu_create(&vm, own, apic_id);

	if (result)
		return result_of(backend, result, "hv_vcpu_create");
	*vcpu = (struct vcpu){ .run = own->run, .run_size = PAGE_SIZE, .apic_id = apic_id,
			       .handle = (int)vcpu_count++ };
	return 0;
}

static struct hv_vcpu *own(const struct vcpu *vcpu)
{
	return &vcpus[vcpu->handle];
}

static int core_get_cpuid(struct backend *backend, struct kvm_cpuid2 *table, bool *tsc_deadline)
{
	*tsc_deadline = hv_has_tsc_deadline();
	table->nent = CPUID_MAX_ENTRIES;
	return result_of(backend, hv_get_supported_cpuid(table), "hv_get_supported_cpuid");
}

static int core_set_cpuid(struct backend *backend, struct vcpu *vcpu,
			  const struct kvm_cpuid2 *table)
{
	return result_of(backend, hv_vcpu_set_cpuid(own(vcpu), table), "hv_vcpu_set_cpuid");
}

static int core_get_state(struct backend *backend, struct vcpu *vcpu, struct kvm_regs *regs,
			  struct kvm_sregs *sregs)
{
	int result = hv_vcpu_get_regs(own(vcpu), regs);

	if (!result)
		result = hv_vcpu_get_sregs(own(vcpu), sregs);
	return result_of(backend, result, "hv_vcpu_get_sregs");
}

static int core_set_state(struct backend *backend, struct vcpu *vcpu, const struct kvm_regs *regs,
			  const struct kvm_sregs *sregs)
{
	int result = hv_vcpu_set_sregs(own(vcpu), sregs);

	if (!result)
		result = hv_vcpu_set_regs(own(vcpu), regs);
	return result_of(backend, result, "hv_vcpu_set_sregs");
}

static int core_translate(struct backend *backend, struct vcpu *vcpu,
			  struct kvm_translation *translation)
{
	return result_of(backend, hv_vcpu_translate(own(vcpu), translation), "hv_vcpu_translate");
}

static int core_run(struct backend *backend, struct vcpu *vcpu)
{
	return result_of(backend, hv_vcpu_run(own(vcpu)), "hv_vcpu_run");
}

uint64_t core_destroy(void)
{
	hv_vm_destroy(&vm);
	return POOL_SIZE / PAGE_SIZE - pool.left;
}

const struct backend_functions core_functions = {
	.create = core_create,
	.add_memory = core_add_memory,
	.add_vcpu = core_add_vcpu,
	.get_cpuid = core_get_cpuid,
	.set_cpuid = core_set_cpuid,
	.get_state = core_get_state,
	.set_state = core_set_state,
	.translate = core_translate,
	.run = core_run,
};
