#!/bin/sh
# docs/kvm-developers.md: what is to be pasted works, with a make and an exitpath that only note what they
# are told, and git bisect finds a commit by it.
# shellcheck source=tests/lib.sh
. "${0%/*}/lib.sh"

command -v git >/dev/null || skip_all "git is not installed"
page=$top/docs/kvm-developers.md

# block N: the Nth shell block of the page.
block()
{
	awk -v want="$1" '
	/^```sh$/ { inside = ++count == want; next }
	/^```$/ { inside = 0 }
	inside' "$page"
}

HOME=$tmp/home
GIT_CONFIG_GLOBAL=/dev/null
export HOME GIT_CONFIG_GLOBAL
mkdir -p "$HOME/exitpath/runners/linux" "$tmp/bin" "$tmp/tree" || exit 2
cp "$top/runners/linux/tiny.config" "$HOME/exitpath/runners/linux" || exit 2

# A "build" copies what the commit says: of KVM in arch/x86/kvm/state, of all else in state. What says "broken" does
# not build; modules need a kernel, configured for modules.
cat >"$tmp/bin/make" <<'EOF'
#!/bin/sh
echo "make $*" >>"$HOME/log"
for word; do
	case $word in
	O=*) folder=${word#O=} ;;
	KCONFIG_ALLCONFIG=*)
		mkdir -p "$folder" && cp "${word#KCONFIG_ALLCONFIG=}" "$folder/.config" || exit 2
		;;
	vmlinux)
		[ -f "$folder/.config" ] && ! grep -q broken state && cp state "$folder/vmlinux" || exit 2
		;;
	*.ko)
		grep -q '^CONFIG_KVM=m$' "$folder/.config" && [ -f "$folder/vmlinux" ] || exit 2
		mkdir -p "$folder/${word%/*}" || exit 2
		! grep -q broken arch/x86/kvm/state && cp arch/x86/kvm/state "$folder/$word" || exit 2
		;;
	esac
done
EOF
cat >"$HOME/exitpath/exitpath" <<'EOF'
#!/bin/sh
echo "exitpath $*" >>"$HOME/log"
[ "$4" = --kernel ] || exit 2
case $5 in
*/vmlinux) ;;
*) exit 2 ;;
esac
kvm=$5
[ "$6" != --modules ] || kvm=$(find "$7" -name 'kvm*.ko')
# shellcheck disable=SC2086	# a list
grep -q panics "$5" $kvm && exit 2
# shellcheck disable=SC2086	# a list
! grep -q bug $kvm
EOF
chmod +x "$tmp/bin/make" "$HOME/exitpath/exitpath"
PATH=$tmp/bin:$PATH
cd "$tmp/tree" || exit 2

is "there are five blocks" "$(grep -c "^\`\`\`sh" "$page")" 5

echo good >state
block 1 >"$tmp/patch.sh"
run_cmd sh -e "$tmp/patch.sh"
is "three commands: status" "$status" 0
is "three commands" "$(wc -l <"$HOME/log" | tr -d ' ')" 3
like "the last one runs images on the kernel" "$(cat "$HOME/log")" \
	"^exitpath run --on linux --kernel $HOME/kvm/vmlinux vmx/exit-\* ept/\*-basic"
run_cmd "$top/exitpath" run --help
for option in --on --kernel --modules --kvm-params --without --append --cpu -j; do
	like "exitpath run knows $option" "$out" "^ *$option "
done
like "the images are there" "$(cd "$build/images" && echo vmx/exit-* ept/*-basic)" 'vmx/exit-basic .*ept/.*-basic'

# The module alone: what the real tools would do with this Kbuild is tried by hand, docs/kvm-developers.md.
mkdir -p "$HOME/exitpath/build/linux/debian"
for file in vmlinux kvm.ko irqbypass.ko; do
	echo good >"$HOME/exitpath/build/linux/debian/$file"
done
printf '#!/bin/sh\ntouch Makefile\n' >"$tmp/bin/tar"
chmod +x "$tmp/bin/tar"
block 2 >"$tmp/module.sh"
run_cmd sh -e "$tmp/module.sh"
is "the module alone: status" "$status" 0
is "the module alone: its folder" "$(cd "$HOME/kvm-intel" && echo * | tr '\n' ' ')" "Kbuild irqbypass.ko kvm.ko "
block 3 >"$tmp/module-run.sh"
run_cmd sh -e "$tmp/module-run.sh"
is "the module alone: it runs, status" "$status" 0
like "the module alone: with the kernel of exitpath" "$(cat "$HOME/log")" \
	"^exitpath run --on linux --kernel $HOME/exitpath/build/linux/debian/vmlinux --modules . vmx/instructions-basic"

block 4 >"$tmp/script.sh"
run_cmd sh -e "$tmp/script.sh"
is "the script for git bisect: status" "$status" 0
ok "it is a program" test -x "$HOME/nested.sh"
if command -v shellcheck >/dev/null; then
	ok "shellcheck has nothing to say" shellcheck "$HOME/nested.sh"
else
	skip "shellcheck has nothing to say" "it is not installed"
fi

# A history with a bug, and beside it commits that do not build or do not boot, and some that change more than KVM.
git init -q . && git config user.name test && git config user.email test@example.org || exit 2
mkdir -p arch/x86/kvm
commits="good good broken good:2 panics good:3 bug bug:broken bug:4 broken bug"
number=0
for state in $commits; do
	number=$((number + 1))
	echo "${state%:*} $number" >arch/x86/kvm/state
	case $state in
	*:*) echo "${state#*:}" >state ;;
	esac
	git add .
	git commit -q -m "commit $number" || exit 2
done
GOOD=$(git log --format=%h --grep 'commit 1$')
BAD=$(git log --format=%h --grep 'commit 11$')
export GOOD BAD
block 5 >"$tmp/bisect.sh"
run_cmd sh -e "$tmp/bisect.sh"
is "git bisect: status" "$status" 0
like "git bisect names the commit" "$out$err" "is the first bad commit"
like "and it is the right one" "$out" "^    commit 7\$"
like "the case is handed on" "$(cat "$HOME/log")" \
	'vmlinux --modules [^ ]* vmx/instructions-basic:vmclear_of_the_vmxon_region$'
like "the case is there" "$(cat "$build/images/vmx/instructions-basic.tsv")" "	vmclear_of_the_vmxon_region	"

# count WORD: how often the log of make has it.
count()
{
	grep -c "^make .*$1" "$HOME/log"
}

# step COMMIT: what the script does there; its status is $status.
step()
{
	: >"$HOME/log"
	git checkout -q "$(git log --all --format=%h --grep "commit $1\$")" || exit 2
	run_cmd "$HOME/nested.sh" vmx/instructions-basic
}
rm -rf "$HOME/kvm-bisect"
step 1
is "the first step builds the kernel" "$status $(count vmlinux) $(count kvm.ko)" "0 1 1"
step 2
is "another of KVM's only modules" "$status $(count vmlinux) $(count kvm.ko)" "0 0 1"
step 3
is "modules that do not build are skipped" "$status $(count vmlinux) $(count kvm.ko)" "125 0 1"
step 4
is "a commit of more than KVM builds the kernel again" "$status $(count vmlinux) $(count kvm.ko)" "0 1 1"
step 5
is "a kernel that panics is skipped" "$status $(count vmlinux)" "125 0"
step 8
is "a kernel that does not build is skipped" "$status $(count vmlinux) $(count kvm.ko)" "125 1 0"
step 4
is "... and built anew where it does, whatever there was before" "$status $(count vmlinux)" "0 1"
step 7
is "the bug" "$status $(count vmlinux)" "1 1"

done_testing
