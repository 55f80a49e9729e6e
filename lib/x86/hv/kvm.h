/*
 * KVM's own structures and numbers, which the core speaks: the UAPI headers of Linux as they are.
 * They want nothing but a compiler, so that they also serve a freestanding image.
 */
#ifndef HV_KVM_H
#define HV_KVM_H

#include <linux/errno.h>
#include <linux/kvm.h>
#include <linux/kvm_para.h>

/* "KVM_EXIT_IO"; NULL for a number that the core never uses. */
const char *kvm_exit_name(unsigned int reason);

#endif
