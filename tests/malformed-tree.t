#!/bin/sh
# An image with a malformed, truncated or missing device tree says what is wrong and switches the
# machine off: it never hangs. Through the ROM on Bochs, and by Multiboot without a module on QEMU.

. "${0%/*}/lib.sh"

image=$build/images/guest/cpuid-basic
tree=$build/runners/bochs/machine.dtb
export EXITPATH_BUILD="$build"

run_cmd "$top/runners/bochs/boot" --probe
[ "$status" -eq 0 ] || skip_all "$err"

# judge NAME ERE: boots with $tmp/dtb; the console must match, in time.
judge()
{
	run_cmd timeout -k 1 30 "$top/runners/bochs/boot" "$image" "$tmp/dtb"
	unlike "$1: the machine switches itself off" "$status" '^(124|137)$'
	like "$1: says so" "$out" "^Bail out! device tree: $2"
}

# without PATH...: a copy of the tree without these nodes or, as PATH:PROPERTY, properties.
without()
{
	cp "$tree" "$tmp/dtb"
	for path; do
		case $path in
		*:*) fdtput -d "$tmp/dtb" "${path%%:*}" "${path#*:}" ;;
		*) fdtput -r "$tmp/dtb" "$path" ;;
		esac
	done
}

: >"$tmp/dtb"
judge 'no tree' 'bad header'

head -c 512 /dev/urandom >"$tmp/dtb"
judge 'garbage' 'bad header'

for bytes in 20 100 300; do
	head -c $bytes "$tree" >"$tmp/dtb"
	judge "cut after $bytes bytes" 'bad '
done

cp "$tree" "$tmp/dtb"
printf '\000\040\000\000' | dd of="$tmp/dtb" bs=1 seek=4 conv=notrunc 2>/dev/null
judge 'a size of 2 MiB' 'it claims more than 1 MiB'

without /console
judge 'no console' 'no node /console'
without /console:exitpath,port
judge 'console without a port' '/console: no 16-bit number in exitpath,port'
without
fdtput -t s "$tmp/dtb" /console compatible smoke-signals
judge 'unknown console' '/console: compatible is neither'
without
fdtput -t x "$tmp/dtb" /console exitpath,port 12345678
judge 'port out of range' '/console: no 16-bit number in exitpath,port'
without /poweroff
judge 'no power-off' 'no node /poweroff'
without /poweroff:exitpath,text
judge 'power-off without text' '/poweroff: no text'
without /a20-gate:exitpath,port
judge 'A20 gate without a port' '/a20-gate: no number from 1 to 65535'
without /cpus
judge 'no processors' 'no node /cpus'
without /cpus/cpu@1:reg
judge 'processor without APIC ID' '/cpus: a processor without reg'
without /memory@0
judge 'no memory' 'no memory node'
without
fdtput -t x "$tmp/dtb" /memory@0 reg 0 0 0
judge 'memory of three cells' 'a memory node whose reg is not pairs of two cells'
without
fdtput -t x "$tmp/dtb" /chosen exitpath,seed 1
judge 'seed of one cell' '/chosen: exitpath,seed is not two cells'
without
fdtput -t x "$tmp/dtb" /chosen exitpath,count 0
judge 'a count of 0' '/chosen: exitpath,count is not one cell above 0'
without
fdtput -t x "$tmp/dtb" /chosen exitpath,count 0 1
judge 'a count of two cells' '/chosen: exitpath,count is not one cell above 0'
for property in first plan sweep entries audit; do
	without
	fdtput -t x "$tmp/dtb" /chosen "exitpath,$property" 1 1
	judge "$property of two cells" "/chosen: exitpath,$property is not one cell"
	without
	fdtput -t u "$tmp/dtb" /chosen "exitpath,$property" 8193
	judge "$property out of range" "/chosen: exitpath,$property is not one cell"
done
without
fdtput -t x "$tmp/dtb" /chosen exitpath,cases 10000
judge 'case number out of range' '/chosen: exitpath,cases holds a number above'

without
fdtput -t x "$tmp/dtb" /chosen exitpath,cases fff0
run_cmd timeout -k 1 30 "$top/runners/bochs/boot" "$image" "$tmp/dtb"
like 'a case that does not exist: says so' "$out" '^Bail out! exitpath,cases asks for case 65520'

# Multiboot without a module: no tree at all.
if command -v qemu-system-x86_64 >/dev/null; then
	run_cmd timeout -k 1 30 qemu-system-x86_64 -nodefaults -no-user-config -display none -no-reboot \
		-cpu max -debugcon stdio -device isa-debug-exit,iobase=0xf4 -kernel "$image"
	unlike 'Multiboot without a module: the machine switches itself off' "$status" '^(124|137)$'
	like 'Multiboot without a module: says so' "$out" \
		'^Bail out! device tree: the loader passed none'
fi

# A processor without 64-bit mode cannot even read the tree.
cp "$tree" "$tmp/dtb"
run_cmd env EXITPATH_CPU=pentium timeout -k 1 30 "$top/runners/bochs/boot" "$image" "$tmp/dtb"
like 'no 64-bit mode: says so' "$out" '^Bail out! this processor has no 64-bit mode'

done_testing
