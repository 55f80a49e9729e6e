/* The VM that a tree describes, whatever back end runs it. */
#ifndef VMM_VM_H
#define VMM_VM_H

#include <stddef.h>

#include "backend.h"
#include "devices.h"
#include "machine.h"
#include "memory.h"
#include "text.h"

struct vm {
	struct backend backend;
	struct machine machine;
	struct memory memory;
	struct devices devices;
	struct vcpu vcpus[MACHINE_MAX_CPUS];
	size_t vcpu_count;
};

/* One file, or anything else that is a piece of host memory. */
struct blob {
	const void *bytes;
	size_t size;
};

/* What vm_create() found wrong; a negative errno value: the back end failed. */
enum vm_problem {
	VM_FINE,
	VM_BAD_TREE,
	VM_BAD_IMAGE,
};

enum vm_next {
	VM_GO_ON,	/* run the virtual CPU again */
	VM_OFF,		/* the guest switched the machine off */
	VM_BROKEN,	/* the machine cannot go on; the console says why */
};

int vm_create(struct vm *vm, const struct backend_functions *functions, struct blob elf,
	      struct blob tree, struct text *console, struct text *error);
enum vm_next vm_handle_exit(struct vm *vm, struct vcpu *vcpu);
void vm_report_failure(struct vm *vm, struct vcpu *vcpu, int problem, const char *words);
void vm_report_state(struct vm *vm, struct vcpu *vcpu, bool brief);
void vm_note(struct vm *vm);

#endif
