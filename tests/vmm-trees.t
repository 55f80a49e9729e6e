#!/bin/sh
# The VMM of the platform kvm with device trees and images it must refuse: exit status 2, one
# line on standard error that says what is wrong, nothing on the console, never a crash or a hang.
. "${0%/*}/lib.sh"

vmm=$build/runners/kvm/vmm
source=$top/runners/kvm/machine.dts
if [ ! -x "$vmm" ]; then
	fail "the VMM is built" "missing: $vmm; type make"
	done_testing
fi
CC=$(sed -n 's/^CC *= *//p' "$build/config.mk" 2>/dev/null)
export CC="${CC:-gcc}"
ok "guest hello builds" "$top/tests/guests/build.sh" hello.S "$tmp/hello"
image=$tmp/hello
tree=$tmp/tree.dtb
dtc -q -I dts -O dtb -o "$tree" "$source"

# refused NAME ERE TREE [IMAGE]: one refusal, with the reason ERE.
refused()
{
	run_cmd timeout 10 "$vmm" "${4:-$image}" "$3"
	if [ "$status" -ne 2 ]; then
		fail "$1" "exit status $status instead of 2" "$out" "$err"
	elif [ -n "$out" ]; then
		fail "$1" "there is console output:" "$out"
	elif [ "$(wc -l <"$tmp/.err")" -ne 1 ]; then
		fail "$1" "not one line on standard error:" "$err"
	else
		like "$1" "$err" "^vmm: .*$2"
	fi
}

# edited SED-SCRIPT: $tmp/edited.dtb, the platform's tree with its source edited.
edited()
{
	sed "$1" "$source" >"$tmp/edited.dts"
	if cmp -s "$tmp/edited.dts" "$source"; then
		fail "an edit of the tree changes it" "$1"
	fi
	# -f: what dtc finds wrong is wrong on purpose.
	dtc -q -f -I dts -O dtb -o "$tmp/edited.dtb" "$tmp/edited.dts" 2>/dev/null ||
		fail "the edited tree compiles" "$1"
}

# refused_edit NAME ERE SED-SCRIPT
refused_edit()
{
	edited "$3"
	refused "$1" "$2" "$tmp/edited.dtb"
}

# --- not a tree --------------------------------------------------------------

: >"$tmp/empty"
refused "an empty tree" 'it is empty' "$tmp/empty"
refused "no tree" 'No such file' "$tmp/absent"
refused "a folder as the tree" 'it is not a file' "$tmp"
refused "an image as the tree" 'not a sound flattened device tree: FDT_ERR_BADMAGIC' "$image"
printf '\320\015\376\355' >"$tmp/magic"
refused "four bytes of a tree" 'not a sound flattened device tree' "$tmp/magic"

# Every length: a crash would be an exit status above 128.
size=$(wc -c <"$tree")
length=8
bad=
while [ "$length" -lt "$size" ]; do
	dd if="$tree" of="$tmp/short" bs="$length" count=1 2>/dev/null
	run_cmd timeout 10 "$vmm" "$image" "$tmp/short"
	case $status,$out,$err in
	"2,,vmm: "*": not a sound flattened device tree"*) ;;
	*) bad="$bad $length:$status" ;;
	esac
	length=$((length + 24))
done
is "trees cut off at every 24th byte are refused" "$bad" ""

# Every damage: one byte at a time set to FFH. Some of it does no harm, then it is the image,
# which is no ELF file, that is refused; none may crash the VMM.
offset=0
bad=
while [ "$offset" -lt "$size" ]; do
	cp "$tree" "$tmp/damaged"
	printf '\377' | dd of="$tmp/damaged" bs=1 seek="$offset" conv=notrunc 2>/dev/null
	run_cmd timeout 10 "$vmm" "$tree" "$tmp/damaged"
	[ "$status" -eq 2 ] || bad="$bad $offset:$status"
	offset=$((offset + 7))
done
is "trees with a damaged byte do not crash it" "$bad" ""

# --- memory ------------------------------------------------------------------

reg='reg = <0 0 0 0x8000000>'
refused_edit "no memory node" 'no node with device_type = "memory"' \
	's/device_type = "memory"/device_type = "other"/'
refused_edit "memory without reg" 'memory@0 has no property reg' "s/$reg;//"
refused_edit "memory of half a pair" 'reg has 12 bytes' "s/$reg/reg = <0 0 0>/"
refused_edit "memory given as a text" 'reg has 5 bytes' "s/$reg/reg = \"many\"/"
refused_edit "empty reg" 'reg has 0 bytes' "s/$reg/reg/"
refused_edit "memory of no bytes" 'is empty' "s/$reg/reg = <0 0 0 0>/"
refused_edit "memory that is not aligned" 'is not aligned' "s/$reg/reg = <0 0 0 0x8000800>/"
refused_edit "overlapping memory" 'overlaps other memory' \
	"s/$reg/reg = <0 0 0 0x8000000>, <0 0x7fff000 0 0x1000>/"
refused_edit "overlapping memory of two nodes" 'memory@1: .* overlaps other memory' \
	's/^	cpus {/	memory@1 { device_type = "memory"; reg = <0 0x1000 0 0x1000>; };\
&/'
refused_edit "memory over the APICs" 'overlaps the APICs' \
	"s/$reg/reg = <0 0 0 0xfee01000>/"
refused_edit "memory that wraps" 'wraps around' \
	"s/$reg/reg = <0xffffffff 0xfffff000 0 0x2000>/"
refused_edit "memory of nearly all addresses" 'is too much|overlaps the APICs' \
	"s/$reg/reg = <0 0 0xffffffff 0xfffff000>/"
refused_edit "memory of 16 EiB above 4 GiB" 'is too much' \
	"s/$reg/reg = <0 0 0 0x8000000>, <1 0 0xf0000000 0>/"
refused_edit "17 GiB in pieces" 'is too much' \
	"s/$reg/reg = <0 0 0 0x8000000>, <1 0 3 0>, <5 0 1 0>/"
refused_edit "seventeen ranges" '16 at most' "s/$reg/reg = $(
	i=1
	while [ "$i" -le 17 ]; do
		printf '<0 0x%x0000 0 0x1000>' "$i"
		[ "$i" -eq 17 ] || printf ', '
		i=$((i + 1))
	done)/"

# --- CPUs, console, power-off ------------------------------------------------

refused_edit "no cpus node" 'no node /cpus' 's/cpus {/processors {/'
refused_edit "no CPU" '/cpus has no node' 's/device_type = "cpu"/device_type = "gpu"/'
refused_edit "CPU without reg" 'cpu@0 has no property reg' 's/reg = <0>;//'
refused_edit "CPU whose reg is a text" 'cpu@0: property reg has 2 bytes instead of 4' \
	's/reg = <0>/reg = "0"/'
refused_edit "two CPUs with one APIC ID" 'a second CPU with APIC ID 0' 's/reg = <1>/reg = <0>/'
refused_edit "APIC ID 255, the broadcast" 'is 0xff; the largest is 0xfe' 's/reg = <1>/reg = <255>/'
# shellcheck disable=SC2016	# sed's last line
refused_edit "wrong cells in cpus" 'node cpus: needs' \
	'/cpus {/,$s/#size-cells = <0>/#size-cells = <1>/'
refused_edit "wrong cells in the root" 'root needs' \
	'1,/cells/s/#address-cells = <2>/#address-cells = <1>/'
refused_edit "what is hidden: two strings" 'exitpath,without must be one string' \
	's/^	cpus {/&exitpath,without = "ENABLE_EPT", "ENABLE_VPID";/'
refused_edit "what is hidden: a number" 'exitpath,without must be one string' \
	's/^	cpus {/&exitpath,without = <1>;/'
refused_edit "no console" 'there is no console' 's/exitpath,port-e9/exitpath,other/'
refused_edit "console without a port" 'console has no property exitpath,port' \
	's/exitpath,port = <0xe9>;//'
refused_edit "console port above 16 bits" 'is 0x10000; the largest' 's/<0xe9>/<0x10000>/'
refused_edit "UART whose ports wrap" 'is 0xfff9; the largest is 0xfff8' \
	's/exitpath,port-e9/ns16550a/; s/<0xe9>/<0xfff9>/'
refused_edit "power-off without its text" 'poweroff has no property exitpath,text' \
	's/exitpath,text = "Shutdown";//'
refused_edit "power-off text of two strings" 'exitpath,text must be one string' \
	's/"Shutdown"/"Shut", "down"/'
refused_edit "power-off text that is empty" 'exitpath,text must be one string' 's/"Shutdown"/""/'
refused_edit "power-off text without end" 'exitpath,text must be one string' \
	's/"Shutdown"/[53 68 75 74]/'
refused_edit "power-off value above a byte" 'exitpath,value is 0x100' \
	's/port-text/port-value/; s/exitpath,text = "Shutdown"/exitpath,value = <256>/'

# --- usage -------------------------------------------------------------------

run_cmd "$vmm"
is "no arguments: exit status 2" "$status" 2
like "no arguments: the usage" "$err" '^usage: vmm ELF DTB'
run_cmd "$vmm" --unknown "$tree"
is "unknown option: exit status 2" "$status" 2

# --- images: found wrong when there is memory to put them in ------------------

run_cmd "$vmm" --probe
if [ "$status" -ne 0 ]; then
	skip "images that do not fit" "no guest can run on KVM here: $err"
	done_testing
fi

refused "a tree as the image" 'not an ELF file' "$tree" "$tree"
refused "no image" 'No such file' "$tree" "$tmp/absent"
dd if="$image" of="$tmp/cut" bs=100 count=1 2>/dev/null
refused "an image cut off in its program headers" 'truncated' "$tree" "$tmp/cut"
dd if="$image" of="$tmp/cut" bs=200 count=1 2>/dev/null
refused "an image cut off in its segment" 'truncated' "$tree" "$tmp/cut"
printf 'int x;\n' >"$tmp/object.c"
"$CC" -c -o "$tmp/object.o" "$tmp/object.c"
refused "an object file as the image" 'not a statically linked executable' "$tree" "$tmp/object.o"
cp "$image" "$tmp/arm"
printf '\267' | dd of="$tmp/arm" bs=1 seek=18 conv=notrunc 2>/dev/null
refused "an image for another CPU" 'not a 64-bit x86 ELF' "$tree" "$tmp/arm"
ok "guest at 128 MiB builds" "$top/tests/guests/build.sh" hello.S "$tmp/high" -Wl,-Ttext=0x8000000
refused "an image where there is no memory" 'not in the memory of the tree' "$tree" "$tmp/high"
ok "guest at 4 KiB builds" "$top/tests/guests/build.sh" hello.S "$tmp/low" -Wl,-Ttext=0x1000
refused "an image over the page tables" 'overlap the page tables at 0x1000-0x7fff' \
	"$tree" "$tmp/low"
ok "guest with a wild entry point builds" "$top/tests/guests/build.sh" hello.S "$tmp/wild" \
	-Wl,-e,0x500000
refused "an image with a wild entry point" 'its entry point 0x500000' "$tree" "$tmp/wild"
refused_edit "no memory for the first page tables" 'no memory at 0x1000-0x7fff' \
	"s/$reg/reg = <0 0x100000 0 0x100000>/"
# The image takes two pages; there is one more below 1 MiB, but only for the page tables.
refused_edit "no room for the tree itself" 'no memory below 4 GiB for the' \
	"s/$reg/reg = <0 0x1000 0 0x7000>, <0 0x100000 0 0x2000>/"

done_testing
