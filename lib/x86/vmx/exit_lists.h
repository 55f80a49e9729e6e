/* The claims of the model of VM exits on the lists of MSRs: a part of exit_judge(). */
#ifndef VMX_EXIT_LISTS_H
#define VMX_EXIT_LISTS_H

#include "vmx/exit_model.h"

void exit_judge_lists(const struct exit_input *x, exit_report *report, void *context);

#endif
