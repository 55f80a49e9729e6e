# Breaks C source on purpose: for each FILE named lib/x86/hv/NAME.c writes OUT/NAME.c with the mutants of
# tests/mutants/core.tsv that are in it.
#
#	awk -v only=NAME -v out=DIR -f scripts/mutate.awk tests/mutants/core.tsv lib/x86/hv/*.c
#
# only: the mutant to build in; "all": all of them, each behind its number, which is its row, from 1:
# (hv_mutant == 3 ? (wrong) : (right)). The format of the list is in its head.
#
# Exit status: 0; 2 with a message when a row does not fit the source, or there is no such mutant.

function fail(text)
{
	print "mutate.awk: " text | "cat >&2"
	failed = 1
	exit 2
}

function base_name(path)
{
	sub(/.*\//, "", path)
	sub(/\.c$/, "", path)
	return path
}

# The first file: rows.
NR == FNR {
	if (/^#/ || /^$/)
		next
	if (split($0, column, "\t") != 7)
		fail("row '" $1 "' has not seven columns")
	count++
	if (column[1] in number)
		fail("there are two mutants '" column[1] "'")
	number[column[1]] = count
	name[count] = column[1]
	file[count] = column[2]
	behind[count] = column[3]
	right[count] = column[4]
	wrong[count] = column[5]
	next
}

# Writes the lines of the file before.
function finish_file()
{
	if (target)
		close(target)
}

FNR == 1 {
	finish_file()
	now = base_name(FILENAME)
	known[now] = 1
	target = out "/" now ".c"
	printf "#line 1 \"%s\"\n", FILENAME > target
	for (m = 1; m <= count; m++)
		if (file[m] == now)
			armed[m] = behind[m] == "-"
}

{
	line = $0
	spans = 0
	for (m = 1; m <= count; m++) {
		if (file[m] != now)
			continue
		at = armed[m] && !(m in placed) ? index(line, right[m]) : 0
		# Without a line to stand behind it must be the only one.
		if (behind[m] == "-" && (m in placed) && index(line, right[m]))
			fail("mutant '" name[m] "': more than one '" right[m] "' in " FILENAME)
		if (at) {
			placed[m] = 1
			for (s = 1; s <= spans; s++)
				if (start[s] == at && text[s] == right[m])
					break
			if (s > spans) {
				spans = s
				start[s] = at
				text[s] = right[m]
				chain[s] = ""
			}
			if (only == "all")
				chain[s] = chain[s] "hv_mutant == " m " ? (" wrong[m] ") : "
			else if (only == name[m])
				chain[s] = wrong[m]
		}
		if (behind[m] != "-" && index(line, behind[m]))
			armed[m] = 1
	}
	# From the right, so that places stay what they are.
	for (; spans; spans--) {
		best = 1
		for (s = 2; s <= spans; s++)
			if (start[s] > start[best])
				best = s
		after = start[best] + length(text[best])
		if (after > length($0) + 1 || (limit[FNR, now] && after > limit[FNR, now]))
			fail("two mutants overlap in line " FNR " of " FILENAME)
		limit[FNR, now] = start[best]
		if (chain[best] != "") {
			new = only == "all" ? chain[best] "(" text[best] ")" : chain[best]
			line = substr(line, 1, start[best] - 1) "(" new ")" substr(line, after)
		}
		start[best] = start[spans]
		text[best] = text[spans]
		chain[best] = chain[spans]
	}
	print line > target
}

END {
	if (failed)
		exit 2
	for (m = 1; m <= count; m++) {
		if (!(file[m] in known))
			fail("mutant '" name[m] "': there is no lib/x86/hv/" file[m] ".c")
		if (!(m in placed))
			fail("mutant '" name[m] "': no '" right[m] "' in lib/x86/hv/" file[m] ".c" \
			     (behind[m] == "-" ? "" : " behind '" behind[m] "'"))
	}
	if (only != "all" && !(only in number))
		fail("there is no mutant '" only "'; tests/mutants/core.tsv has them")
}
