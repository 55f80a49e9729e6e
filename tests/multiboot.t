#!/bin/sh
# The images as GRUB boots them, by Multiboot 1 and by Multiboot 2, the tree as the first module: the
# way to a machine of one's own. A CD for QEMU, its BIOS and GRUB; the TAP must be that of QEMU's own loader.
# shellcheck source=tests/lib.sh
. "${0%/*}/lib.sh"

command -v qemu-system-x86_64 >/dev/null || skip_all "there is no QEMU"
image=$build/images/guest/io-basic
tree=$build/runners/qemu/machine.dtb
EXITPATH_QEMU_ACCEL=tcg
export EXITPATH_QEMU_ACCEL

run_cmd timeout -k 1 30 "$top/runners/qemu/boot" "$image" "$tree"
wanted=$out
is "QEMU's own loader: the image runs and ends" "$status" 0
like "and has results" "$wanted" "^ok 1 - "

# by_grub COMMAND MODULE-COMMAND: what the image prints when GRUB boots it so.
by_grub()
{
	rm -rf "$tmp/cd"
	mkdir -p "$tmp/cd/boot/grub"
	cp "$image" "$tmp/cd/image.elf"
	cp "$tree" "$tmp/cd/machine.dtb"
	cat >"$tmp/cd/boot/grub/grub.cfg" <<-END
		set timeout=0
		menuentry image {
			$1 /image.elf
			$2 /machine.dtb
		}
	END
	run_cmd grub-mkrescue -o "$tmp/cd.iso" "$tmp/cd"
	is "$1: grub-mkrescue makes a CD" "$status" 0
	run_cmd timeout -k 1 30 qemu-system-x86_64 -nodefaults -no-user-config -display none -no-reboot \
		-accel tcg -cpu max -smp 2 -m 128 -debugcon stdio -device isa-debug-exit,iobase=0xf4,iosize=1 \
		-vga std -cdrom "$tmp/cd.iso"
	unlike "$1: the machine switches itself off" "$status" '^(124|137)$'
}

for version in '' 2; do
	by_grub "multiboot$version" "module$version"
	# What firmware says on the same port comes before the image.
	is "multiboot$version: the same TAP" "$(printf '%s\n' "$out" | sed -n '/TAP version/,$p')" "$wanted"
done

# GRUB's name of the module is not the tree; without a module there is none.
by_grub multiboot2 '#'
like "multiboot2 without a module: says so" "$out" '^Bail out! device tree: the loader passed none'

done_testing
