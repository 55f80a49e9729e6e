/*
 * The core as a platform: an image that has no cases, but runs another image as its guest.
 *
 * The loader's tree describes the outer machine. In its /chosen are the image to run
 * (exitpath,payload: an ELF file, byte for byte), the tree of the machine that it is to find
 * (exitpath,payload-tree) and how guest memory is made (exitpath,mmu: "ept" or "shadow"). The VM is
 * built by the VMM of runners/kvm/, whose back end is the core. Its virtual processors run one
 * after another on this one processor. The console of the guest is the console here.
 */
#include <libfdt.h>

#include "boot/image_main.h"
#include "core.h"
#include "hv/hv.h"
#include "mmu/pages.h"
#include "platform.h"
#include "report.h"
#include "string.h"
#include "vm.h"

enum {
	CONSOLE_BUFFER = 4096,
	ERROR_BUFFER = 512,
	TREE_BUFFER = 16384,
};

static struct vm machine;

static void write_console(void *context, const char *bytes, size_t count)
{
	platform_write(context, bytes, count);
}

/* The set-up is broken: one line that the supervisor passes on. */
static void __noreturn die(struct text *console, const char *why)
{
	text_print(console, "Bail out! core: %s\n", why);
	text_flush(console);
	platform_off(console->context);
}

static struct blob read_blob(const void *tree, const char *name, struct text *console)
{
	int length = 0;
	const void *bytes = fdt_getprop(tree, fdt_path_offset(tree, "/chosen"), name, &length);

	if (!bytes) {
		text_print(console, REPORT_PREFIX "no property %s in /chosen\n", name);
		die(console, "the tree brings nothing to run");
	}
	/* A tree needs a multiple of 8 as its address, a property has one of 4. */
	return (struct blob){ memcpy(pages_alloc((length + PAGE_SIZE - 1) & PAGE_MASK, PAGE_SIZE),
				     bytes, (size_t)length), (size_t)length };
}

/* libfdt wants a tree at a multiple of 8; a property is at one of 4. */
static struct blob read_aligned_tree(const void *tree, struct text *console)
{
	static _Alignas(8) u8 buffer[TREE_BUFFER];
	const struct blob found = read_blob(tree, "exitpath,payload-tree", console);

	if (found.size > sizeof(buffer))
		die(console, "the tree of the guest is too large");
	memcpy(buffer, found.bytes, found.size);
	return (struct blob){ buffer, found.size };
}

static const struct hv_mmu *choose_mmu(const void *tree, struct text *console)
{
	static const struct {
		const char *name;
		const struct hv_mmu *mmu;
	} known[] = {
		{ "ept", &hv_mmu_ept },
		{ "shadow", &hv_mmu_shadow },
	};
	const struct blob name = read_blob(tree, "exitpath,mmu", console);

	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
		if (name.size == strlen(known[i].name) + 1 &&
		    !memcmp(name.bytes, known[i].name, name.size))
			return known[i].mmu;
	}
	die(console, "exitpath,mmu names no MMU of the core");
}

static void create(const void *tree, struct text *console)
{
	static char error_bytes[ERROR_BUFFER];
	struct text error;
	int result;

	core_mmu = choose_mmu(tree, console);
	text_init(&error, error_bytes, sizeof(error_bytes));
	result = vm_create(&machine, &core_functions, read_blob(tree, "exitpath,payload", console),
			   read_aligned_tree(tree, console), console, &error);
	if (result == VM_BAD_TREE || result == VM_BAD_IMAGE)
		die(console, error.bytes);
	if (result) {
		text_print(console, REPORT_PREFIX "%s failed with error %u\n",
			   machine.backend.failed, (unsigned int)-result);
		die(console, "this processor cannot run the core");
	}
}

/* Each virtual processor in turn, for as long as the core lets it run. */
static void run(void)
{
	for (;;) {
		for (size_t i = 0; i < machine.vcpu_count; i++) {
			struct vcpu *vcpu = &machine.vcpus[i];
			const int result = core_functions.run(&machine.backend, vcpu);

			if (result == -EAGAIN)
				continue;
			if (result) {
				vm_report_failure(&machine, vcpu, -result, "");
				return;
			}
			if (vm_handle_exit(&machine, vcpu) != VM_GO_ON)
				return;
		}
	}
}

void image_main(const struct platform *platform, const void *tree)
{
	static char console_bytes[CONSOLE_BUFFER];
	static struct text console;

	text_init(&console, console_bytes, sizeof(console_bytes));
	console.flush = write_console;
	console.context = (void *)platform;
	create(tree, &console);
	run();
	if (core_destroy())
		die(&console, "the VM has not given back all its pages");
	text_flush(&console);
	platform_off(platform);
}
