#!/bin/sh
# kvm-in-qemu.sh AREA/IMAGE...: images on KVM where the machine has none: in a Debian cloud kernel
# with kvm_amd, which QEMU emulates (TCG has SVM with nested paging).
#
# Fetches the kernel and a static busybox with apt-get (nothing is installed), links our VMM and
# the supervisor statically, and boots them with the images from one initramfs, as the platform
# kvm in there. What TCG itself does wrong shows as well: compare with the platform qemu.
# The results become a run folder, as of exitpath run, with the platform line "kvm 6.1.../AMD-tcg".
# The images must be built (make). Environment: EXITPATH_BUILD, EXITPATH_STATE, QEMU, QEMU_CPU
# (max), EXITPATH_SILENCE and EXITPATH_LIMIT (seconds: 300 and 3000).
# QEMU 7.2 ends with a failed assertion (tcg_handle_interrupt) in some cases with NMIs and several
# processors, or runs the guest for ever, which the kernel sees as a stall and panics: the rest of
# that image is lost, and the next boot goes on with the image behind it.
# Takes about half a minute to boot, then some ten times as long as the platform qemu.
# Exit status: 0 every image gave a plan, 1 not so, 2 it could not be started.

set -u
. "${0%/*}/common.sh"

[ $# -ge 1 ] || die "usage: kvm-in-qemu.sh AREA/IMAGE..."
for image; do
	[ -f "$EXITPATH_BUILD/images/$image.tsv" ] ||
		die "there is no image $image in $EXITPATH_BUILD/images: build it with make"
done
qemu=${QEMU:-qemu-system-x86_64}
command -v "$qemu" >/dev/null || die "there is no program $qemu: install qemu-system-x86"
home=$EXITPATH_STATE/kvm-in-qemu
packages=$home/packages

# fetch: unpacks the kernel and busybox into $packages.
fetch()
{
	kernel=$(apt-cache depends linux-image-cloud-amd64 |
		sed -n 's/^ *Depends: \(linux-image-[^ ]*\)$/\1/p' | sed q)
	[ -n "$kernel" ] || die "apt-get knows no linux-image-cloud-amd64: apt-get update first"
	rm -rf "$packages"
	mkdir -p "$packages/tree" || die "cannot make $packages"
	(cd "$packages" && apt-get download "$kernel" busybox-static) >&2 ||
		die "apt-get cannot download $kernel and busybox-static"
	for package in "$packages"/*.deb; do
		dpkg-deb -x "$package" "$packages/tree" || die "cannot unpack $package"
	done
}

# link_static NAME FILE...: a program that needs no library, from objects or sources.
link_static()
{
	linked=$1
	shift
	# shellcheck disable=SC2046	# the compiler may have arguments
	$(configured HOSTCC) -std=c11 -D_GNU_SOURCE -O2 -static -pthread -o "$root/$linked" "$@" -lfdt ||
		die "cannot link $linked statically"
}

# fill IMAGE...: the root folder of the initramfs.
fill()
{
	mkdir -p "$root/bin" "$root/proc" "$root/sys" "$root/dev" "$root/tmp" "$root/scripts" \
		"$root/runners/kvm" "$root/build/tools" "$root/build/runners/kvm"
	cp "$packages"/tree/bin/busybox "$root/bin"
	for module in irqbypass kvm kvm-amd; do
		find "$packages/tree" -name "$module.ko" -exec cp {} "$root" ';'
	done
	link_static build/runners/kvm/vmm "$EXITPATH_BUILD"/obj/runners/kvm/*.o
	link_static build/tools/supervise "$EXITPATH_TOP"/tools/supervise/*.c
	cp "$EXITPATH_TOP/scripts/run-image.sh" "$root/scripts"
	cp "$EXITPATH_TOP/runners/kvm/boot" "$EXITPATH_TOP/runners/kvm/deviations.tsv" "$root/runners/kvm"
	cp "$EXITPATH_BUILD/runners/kvm/machine.dtb" "$root/build/runners/kvm"
	for image; do
		mkdir -p "$root/build/images/${image%/*}"
		cp "$EXITPATH_BUILD/images/$image" "$EXITPATH_BUILD/images/$image.tsv" \
			"$root/build/images/${image%/*}"
	done
	printf '%s\n' "$@" >"$root/images"
	cat >"$root/init" <<-END
		#!/bin/busybox sh
		/bin/busybox --install -s /bin
		export PATH=/bin EXITPATH_TOP= EXITPATH_BUILD=/build TMPDIR=/tmp
		export EXITPATH_SILENCE=${EXITPATH_SILENCE:-300} EXITPATH_LIMIT=${EXITPATH_LIMIT:-3000}
		mount -t proc none /proc; mount -t sysfs none /sys; mount -t devtmpfs none /dev
		for module in irqbypass kvm kvm-amd; do insmod /\$module.ko; done
		EXITPATH_TOP=/ EXITPATH_IDENTITY=\$(/runners/kvm/boot --identify)-tcg
		export EXITPATH_TOP EXITPATH_IDENTITY
		echo "=== platform kvm \$EXITPATH_IDENTITY"
		while read -r image; do
			echo "=== image \$image"
			sh /scripts/run-image.sh kvm "\$image" </dev/null 2>&1
		done </images
		echo "=== end"
		poweroff -f
	END
	chmod +x "$root/init"
}

# Each image's TAP from the console, as AREA/IMAGE.tap, and the line of the platform.
split_console()
{
	tr -d '\r' | awk -v run="$run" '
		/^=== platform / { sub(/^=== platform /, ""); print >(run "/platform"); next }
		/^=== image / { file = run "/" $3 ".tap"; print $3 | "cat >&2"; next }
		/^=== end/ { file = ""; next }
		file == "" { print | "cat >&2"; next }
		{ print >file; fflush(file) }'
}

[ -f "$packages/tree/bin/busybox" ] || fetch
work=$(temporary kvm) || exit 2
trap 'rm -rf "$work"' EXIT
trap 'exit 2' HUP INT TERM
root=$work/root
run=$EXITPATH_STATE/results/$(date +%Y%m%d-%H%M%S)-kvm-in-qemu-$$
for image; do
	mkdir -p "$run/${image%/*}" || die "cannot make $run"
	cp "$EXITPATH_BUILD/images/$image.tsv" "$run/$image.tsv"
done
say "results: $run"
# boot IMAGE...: one boot with these images.
boot()
{
	rm -rf "$root"
	fill "$@"
	(cd "$root" && find . | "$packages/tree/bin/busybox" cpio -o -H newc 2>/dev/null | gzip -1) \
		>"$work/initramfs" || die "cannot make the initramfs"
	"$qemu" -nodefaults -no-user-config -display none -no-reboot -machine q35 -accel tcg \
		-cpu "${QEMU_CPU:-max}" -smp 2 -m 1024 -serial stdio -initrd "$work/initramfs" \
		-kernel "$packages"/tree/boot/vmlinuz-* -append "console=ttyS0 quiet panic=-1 sysctl.kernel.panic_on_rcu_stall=1" \
		</dev/null | split_console
}

# The emulator may fail in the middle of an image: the next boot goes on with the one behind it.
left=$*
while [ -n "$left" ]; do
	# shellcheck disable=SC2086	# $left is a list
	boot $left
	before=$left
	left=
	begun=no
	for image in $before; do
		if [ -f "$run/$image.tap" ]; then
			begun=yes
		else
			left="$left $image"
		fi
	done
	[ "$begun" = yes ] || die "no image begins in there: see what the kernel printed"
done
status=0
for image; do
	grep -q '^1\.\.' "$run/$image.tap" 2>/dev/null || {
		say "$image gave no plan"
		status=1
	}
done
exit "$status"
