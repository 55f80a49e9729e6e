#!/bin/sh
# What --without hides: the names, and who says what of them. tests/linux-boot.t hides something from a guest.
# shellcheck source=tests/lib.sh
. "${0%/*}/lib.sh"

vmm=$build/runners/kvm/vmm
if [ ! -x "$vmm" ]; then
	fail "the VMM is built" "missing: $vmm; type make"
	done_testing
fi

# named NAMES FULL: NAMES are FULL, in full and in the one order that there is.
named()
{
	run_cmd "$vmm" --without "$1"
	is "'$1'" "$status $(printf '%s\n' "$out" | sed -n 1p)" "0 $2"
}

named ENABLE_EPT PROC2_ENABLE_EPT
named PROC2_ENABLE_EPT PROC2_ENABLE_EPT
named enable_ept PROC2_ENABLE_EPT
named MISC_ACTIVITY_HLT,ENABLE_VPID,ACTIVITY_HLT PROC2_ENABLE_VPID,MISC_ACTIVITY_HLT
named EPT_AD EPT_AD
named 2m EPT_2M
named EXIT_LOAD_IA32_PAT EXIT_LOAD_IA32_PAT
# What goes anyhow is not part of a name: the machine is the same.
named UNRESTRICTED_GUEST,EPT_AD,ENABLE_EPT PROC2_ENABLE_EPT

# hidden NAMES ALL: with NAMES all this goes.
hidden()
{
	run_cmd "$vmm" --without "$1"
	is "with '$1' goes" "$(printf '%s\n' "$out" | sed -n 2p)" "$2 "
}

hidden ACTIVITY_HLT MISC_ACTIVITY_HLT
hidden VIRTUAL_NMIS "PIN_VIRTUAL_NMIS PROC1_NMI_WINDOW_EXITING"
hidden STORE_LMA "PROC2_UNRESTRICTED_GUEST MISC_STORE_LMA"
hidden INVEPT "EPT_INVEPT EPT_INVEPT_SINGLE EPT_INVEPT_ALL"
hidden ENABLE_VM_FUNCTIONS "PROC2_ENABLE_VM_FUNCTIONS VMFUNC_EPTP_SWITCHING"
run_cmd "$vmm" --without ACTIVATE_SECONDARY_CONTROLS
is "a name of two controls: exit status" "$status" 2
like "a name of two controls: which" "$err" \
	"is the name of several; say which: PROC1_ACTIVATE_SECONDARY_CONTROLS, EXIT_ACTIVATE_SECONDARY_CONTROLS$"
run_cmd "$vmm" --without PROC1_ACTIVATE_SECONDARY_CONTROLS
like "with a field go its controls, and what those announce" "$out" \
	' PROC2_ENABLE_EPT .* VMFUNC_EPTP_SWITCHING .* EPT_AD .* VPID_INVVPID '

# refused NAMES ERE: no such list.
refused()
{
	run_cmd "$vmm" --without "$1"
	is "'$1': exit status 2, nothing printed" "$status:$out" "2:"
	like "'$1': why" "$err" "^vmm: $2"
}

refused ENABLE_PTE "there is no capability 'ENABLE_PTE'; the nearest are PROC2_ENABLE_EPT, .*; --without help lists all$"
refused HLT "there is no capability 'HLT'; the nearest are PROC1_HLT_EXITING, MISC_ACTIVITY_HLT, "
refused ACTIVITY_HLT,NONSENSE "there is no capability 'NONSENSE'"
refused ACTIVITY_HLT, "a name is empty"
refused '' "a name is empty"
refused CR3_LOAD_EXITING "PROC1_CR3_LOAD_EXITING cannot be hidden: every processor has it; leave it out$"
refused "$(printf '%065d' 0)" "no name is longer than 64 characters"

run_cmd "$vmm" --without help
is "help: exit status" "$status" 0
like "help: a control, in words" "$out" '^PROC2_ENABLE_EPT  *enable EPT$'
like "help: another capability" "$out" '^MISC_ACTIVITY_HLT  *the activity state HLT$'
unlike "help: nothing that no processor can do without" "$out" CR3_LOAD_EXITING
for name in $(printf '%s\n' "$out" | sed 's/ .*//'); do
	"$vmm" --without "$name" >/dev/null || fail "help: $name is a name"
done
ok "every name of help is one" test "$(printf '%s\n' "$out" | wc -l)" -gt 100

# --- the platforms -----------------------------------------------------------------------------------------------

EXITPATH_TOP=$top
EXITPATH_BUILD=$build
EXITPATH_STATE=$tmp
export EXITPATH_TOP EXITPATH_BUILD EXITPATH_STATE
mkdir -p "$tmp/linux/debian" "$tmp/bin"
echo 6.1.1 >"$tmp/linux/debian/version"
printf '#!/bin/sh\necho "Bochs x86 Emulator 2.7"\necho corei7_skylake_x\n' >"$tmp/bin/bochs"
for program in lz4 zstd xz; do
	ln -s /bin/true "$tmp/bin/$program"
done
chmod +x "$tmp/bin/bochs"

# identify VARIABLE=VALUE...: what the platform linux says that it is.
identify()
{
	run_cmd env EXITPATH_BOCHS="$tmp/bin/bochs" PATH="$tmp/bin:$PATH" "$@" "$top/runners/linux/boot" --identify
}

identify EXITPATH_WITHOUT=
is "linux: nothing is hidden" "$status $out" "0 6.1.1/2.7-corei7_skylake_x"
identify EXITPATH_WITHOUT=ACTIVITY_HLT,ENABLE_EPT
is "linux: what is hidden is part of what it is" "$out" \
	"6.1.1/2.7-corei7_skylake_x+without=PROC2_ENABLE_EPT,MISC_ACTIVITY_HLT"
identify EXITPATH_WITHOUT=ACTIVITY_HLT EXITPATH_KVM_PARAMS="nested=1 ept=0"
is "linux: with parameters, too" "$out" "6.1.1/2.7-corei7_skylake_x+nested=1,ept=0+without=MISC_ACTIVITY_HLT"
identify EXITPATH_WITHOUT=ENABLE_PTE
is "linux: a name that is none: exit status 2, nothing printed" "$status:$out" "2:"
like "linux: a name that is none: says so" "$err" "^linux: --without: there is no capability 'ENABLE_PTE'"

run_cmd "$vmm" --probe
if [ "$status" -ne 0 ]; then
	skip "kvm: what it can hide" "no guest can run on KVM here: $err"
	done_testing
fi
run_cmd env EXITPATH_WITHOUT=ENABLE_PTE "$top/runners/kvm/boot" --probe
is "kvm: a name that is none: exit status 2" "$status" 2
like "kvm: a name that is none: says so" "$err" "^kvm: there is no capability 'ENABLE_PTE'"
run_cmd env EXITPATH_WITHOUT=ACTIVITY_HLT "$top/runners/kvm/boot" --identify
if [ "$status" -eq 0 ]; then
	like "kvm: what is hidden is part of what it is" "$out" '+without=MISC_ACTIVITY_HLT$'
else
	like "kvm: why nothing can be hidden" "$err" "^kvm: nothing can be hidden: the guest's processor has no VMX; "
fi
done_testing
