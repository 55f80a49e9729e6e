/* What the core reads and writes on behalf of the guest: vm.c, translate.c, and the MMUs. */
#ifndef HV_GUEST_MEMORY_H
#define HV_GUEST_MEMORY_H

#include "hv/events.h"
#include "mmu/walk.h"

struct hv_slot *hv_slot_at(struct hv_vm *vm, u64 gpa);

/*
 * Where `size` bytes at guest-physical `gpa`, within one page, are; NULL outside the slots, in the
 * page of the APIC of who runs, and for a write to a read-only slot. A write is noted in the dirty
 * log.
 */
u8 *hv_memory(struct hv_vm *vm, u64 gpa, u32 size, bool write);
void hv_mark_dirty(struct hv_slot *slot, u64 gpa);
/* Whether so many pages can be taken from the VM's pool, and its MMU keeps what it needs. */
bool hv_has_room(struct hv_vm *vm, u64 pages);

/* For walk(): the guest's registers; its memory, where what is no memory reads as all ones. */
void hv_walk_cpu(const struct hv_vcpu *vcpu, struct walk_cpu *cpu);
walk_read hv_walk_read;
/*
 * Sets the accessed and dirty flags of a translation (5.8); false: an entry has changed, walk
 * again.
 */
bool hv_set_flags(struct hv_vcpu *vcpu, const struct walk_result *result);

/* Linear to guest-physical address for an access at the guest's CPL; false: `fault`. */
bool hv_translate(struct hv_vcpu *vcpu, u64 linear, enum access kind, u64 *gpa,
		  struct hv_fault *fault);

/* The same for an access of any kind, at the guest's CPL unless it says otherwise. */
bool hv_translate_access(struct hv_vcpu *vcpu, const struct walk_access *access, u64 *gpa,
			 struct hv_fault *fault);

enum hv_copy { HV_COPIED, HV_COPY_FAULT, HV_COPY_NO_MEMORY };
/*
 * Copies between `bytes` and guest memory at `linear`, at the guest's CPL; `kind` ACCESS_WRITE
 * copies to the guest. With `bytes` NULL nothing is copied: it is only said what would happen.
 */
enum hv_copy hv_copy(struct hv_vcpu *vcpu, u64 linear, void *bytes, u32 size, enum access kind,
		     struct hv_fault *fault);

/* The bytes of the instruction at RIP, as far as they are memory: at most 15. Returns how many. */
u32 hv_fetch(struct hv_vcpu *vcpu, u8 bytes[15]);
/* Whether a fetch of that instruction can begin, or go on in the next page, at `linear`. */
bool hv_is_on_instruction(const struct hv_vcpu *vcpu, u64 linear);

#endif
