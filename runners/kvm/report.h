/* Words for why a virtual CPU stopped, and for its state. */
#ifndef VMM_REPORT_H
#define VMM_REPORT_H

#include <linux/kvm.h>

#include "text.h"

/* Every line that the VMM itself puts on the console; a comment for TAP. */
#define REPORT_PREFIX "# vmm: "

void report_exit(struct text *text, const struct kvm_run *run);
void report_place(struct text *text, const struct kvm_regs *regs);
void report_state(struct text *text, const struct kvm_regs *regs, const struct kvm_sregs *sregs);
void report_bytes(struct text *text, uint64_t address, const uint8_t *bytes, unsigned int count);

#endif
