/*
 * Hides VMX capabilities by KVM_SET_MSRS.
 *
 * KVM lets user space take bits away (arch/x86/kvm/vmx/nested.c, vmx_set_vmx_msr()), of controls by
 * the TRUE MSRs, from which it makes the others. Nothing here trusts that: all is read back.
 */
#include "hide.h"

#include <errno.h>
#include <sys/ioctl.h>

#include "capabilities.h"
#include "sdm/msrs.h"
#include "text.h"

enum { SENTENCE_MAX = 1024 };

#define ADVICE "leave it out of --without"

struct hiding {
	int vcpu;
	struct capability_set set;
	struct text words;	/* the sentence */
};

/* One KVM_GET_MSRS or KVM_SET_MSRS; false: the guest has no such MSR, or not with this value. */
static bool access_msr(int vcpu, unsigned long request, uint32_t msr, uint64_t *value)
{
	union {
		struct kvm_msrs list;
		uint8_t room[sizeof(struct kvm_msrs) + sizeof(struct kvm_msr_entry)];
	} one = { .room = { 0 } };

	one.list.nmsrs = 1;
	one.list.entries[0].index = msr;
	one.list.entries[0].data = *value;
	if (ioctl(vcpu, request, &one) != 1)
		return false;
	*value = one.list.entries[0].data;
	return true;
}

/* An MSR that is not there says that nothing is. */
static uint64_t get_msr(int vcpu, uint32_t msr)
{
	uint64_t value = 0;

	return access_msr(vcpu, KVM_GET_MSRS, msr, &value) ? value : 0;
}

/* What is to be hidden of an MSR. */
static uint64_t hidden_bits(const struct capability_set *set, uint32_t msr)
{
	const struct capability *one;
	uint64_t bits = 0;

	for (size_t i = 0; (one = capability(i)); i++)
		if (set->hidden[i] && msr && (one->msr == msr || one->plain_msr == msr))
			bits |= 1ull << one->bit;
	return bits;
}

/* The names of what is hidden of an MSR and was in `value`. */
static void print_names(struct hiding *h, uint32_t msr, uint64_t value)
{
	const struct capability *one;
	const char *comma = "";

	for (size_t i = 0; (one = capability(i)); i++) {
		if (!h->set.hidden[i] || one->msr != msr || !(value >> one->bit & 1))
			continue;
		text_print(&h->words, "%s%s", comma, one->name);
		comma = ", ";
	}
}

static bool is_absent(int vcpu, const struct capability *one)
{
	return !(get_msr(vcpu, one->msr) >> one->bit & 1);
}

/* A control that must be 1: A.2 Reserved Controls and Default Settings. */
static bool is_always_1(int vcpu, const struct capability *one)
{
	return one->plain_msr && get_msr(vcpu, one->msr) >> (one->bit - 32) & 1;
}

/* Says which of what was asked for by name are `bad`, if any. */
static bool name_those(struct hiding *h, bool (*bad)(int vcpu, const struct capability *one),
		       const char *before, const char *behind)
{
	const struct capability *one;
	bool any = false;

	for (size_t i = 0; (one = capability(i)); i++) {
		if (!h->set.named[i] || !bad(h->vcpu, one))
			continue;
		text_print(&h->words, "%s%s", any ? ", " : before, one->name);
		any = true;
	}
	if (any)
		text_print(&h->words, "%s; " ADVICE, behind);
	return any;
}

/* All that was asked for by name must be there to be hidden: a run shall not bear a false name. */
static int check_presence(struct hiding *h)
{
	if (name_those(h, is_absent, "there is no ", " to hide: this processor lacks it anyhow"))
		return -ENOENT;
	if (name_those(h, is_always_1, "", " cannot be hidden: this processor has it always 1"))
		return -EINVAL;
	return 0;
}

static int change_msr(struct hiding *h, const struct capability *one)
{
	const uint64_t before = get_msr(h->vcpu, one->msr);
	const uint64_t hidden = hidden_bits(&h->set, one->msr);
	uint64_t value = before & ~hidden;

	if (value == before)
		return 0;
	if (!access_msr(h->vcpu, KVM_SET_MSRS, one->msr, &value)) {
		text_print(&h->words, "KVM does not let user space hide ");
		print_names(h, one->msr, before);
		text_print(&h->words,
			   ": KVM_SET_MSRS refuses 0x%llx for MSR 0x%x, which was 0x%llx; " ADVICE,
			   (unsigned long long)value, one->msr, (unsigned long long)before);
		return -EPERM;
	}
	if (get_msr(h->vcpu, one->msr) & hidden ||
	    get_msr(h->vcpu, one->plain_msr) & hidden_bits(&h->set, one->plain_msr)) {
		text_print(&h->words, "KVM does not hide ");
		print_names(h, one->msr, before);
		text_print(&h->words,
			   ": KVM_SET_MSRS takes 0x%llx for MSR 0x%x, but 0x%llx is read; " ADVICE,
			   (unsigned long long)value, one->msr,
			   (unsigned long long)get_msr(h->vcpu, one->msr));
		return -EPERM;
	}
	return 0;
}

static int hide(struct hiding *h, const char *names)
{
	const struct capability *one;
	int result = 0;

	if (capability_set_parse(&h->set, names, &h->words))
		return -EINVAL;
	if (!get_msr(h->vcpu, IA32_VMX_BASIC)) {
		text_print(&h->words,
			   "nothing can be hidden: the guest's processor has no VMX; that needs "
			   "an Intel processor and kvm_intel with nested=1");
		return -ENOTSUP;
	}
	result = check_presence(h);
	for (size_t i = 0; (one = capability(i)) && !result; i++)
		if (h->set.hidden[i])
			result = change_msr(h, one);
	return result;
}

int kvm_hide(struct backend *backend, struct vcpu *vcpu, const char *names)
{
	static char sentence[SENTENCE_MAX];
	struct hiding h = { .vcpu = vcpu->handle };
	int result;

	text_init(&h.words, sentence, sizeof(sentence));
	result = hide(&h, names);
	backend->failed = sentence;
	backend->advice = "";
	backend->is_sentence = result != 0;
	return result;
}
