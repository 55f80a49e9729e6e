#!/bin/sh
# lib/tree.c, which reads the device tree in an image, against libfdt: on the trees of all
# platforms, and on mutated copies of them.
# shellcheck source=tests/lib.sh
. "${0%/*}/lib.sh"

CC=$(sed -n 's/^HOSTCC *= *//p' "$build/config.mk" 2>/dev/null)
ok "the comparison builds" "${CC:-gcc}" -std=gnu11 -O1 -g -fsanitize=address,undefined \
	-fno-sanitize-recover=all -I"$top/lib" -o "$tmp/compare" \
	"$top/tests/models/tree_against_libfdt.c" "$top/lib/tree.c" -lfdt
for tree in "$build"/runners/*/machine.dtb; do
	platform=${tree%/machine.dtb}
	platform=${platform##*/}
	run_cmd "$tmp/compare" "$tree" 30000
	is "$platform: exit status" "$status:$err" "0:"
	like "$platform: some copies are sound, some are not" "$out" \
		'^[1-9][0-9]{2,4} of 30000 accepted, [1-9][0-9]* by libfdt$'
	diag "$platform: $out"
done
done_testing
