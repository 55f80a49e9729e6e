#!/bin/sh
# build.sh SOURCE OUT [FLAG...]: builds one test guest (a file of this folder) as the ELF that
# the loaders take: linked at 1 MiB, one segment. Uses CC, default gcc.
# Exit status: that of the compiler.
set -u

folder=${0%/*}
[ $# -ge 2 ] || {
	echo "usage: build.sh SOURCE OUT [FLAG...]" >&2
	exit 2
}
source=$1
out=$2
shift 2
exec "${CC:-gcc}" -nostdlib -static -Wa,-I,"$folder" -Wl,-Ttext=0x100000 \
	-Wl,--build-id=none -Wl,-z,max-page-size=4096 -Wl,-N -Wl,--no-warn-rwx-segments \
	${1+"$@"} -o "$out" "$folder/$source"
