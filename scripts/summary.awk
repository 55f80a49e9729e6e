# What a run has shown, from its TAP files: every unexpected case with its details, then counts.
#
#	awk -v run=FOLDER -v platform=TEXT -v deviations=FILE -v prove_status=N -f summary.awk IMAGE...
#
# Exit status: 0 as expected, 1 something unexpected, 2 the set-up is broken.

# note_line TEXT: takes one line of the TAP of `image`.
function note_line(text,   id, rest, directive)
{
	if (text ~ /^Bail out!/) {
		bailed[image] = substr(text, 11)
		return
	}
	if (text ~ /^1\.\.[0-9]+/) {
		planned[image] = substr(text, 4) + 0
		return
	}
	if (text !~ /^(not )?ok [0-9]+/) {
		if (keeping && text ~ /^ / && text !~ /^  (---|\.\.\.)$/)
			details = details "  " text "\n"
		return
	}
	end_case()
	seen[image]++
	rest = text
	sub(/^(not )?ok [0-9]+( - )?/, "", rest)
	directive = ""
	if (match(rest, / # (SKIP|TODO)/)) {
		directive = substr(rest, RSTART + 8)
		sub(/^ +/, "", directive)
		kind = substr(rest, RSTART + 3, 4)
		rest = substr(rest, 1, RSTART - 1)
	} else {
		kind = ""
	}
	id = rest
	sub(/ .*/, "", id)
	id = image ":" id
	if (kind == "SKIP") {
		skipped++
		if (!skip_count[directive]++)
			skip_order[++skip_reasons] = directive
	} else if (kind == "TODO" && text ~ /^ok/) {
		passes = passes "  " id "  " directive "\n"
		pass_count++
	} else if (kind == "TODO") {
		known = known "  " id "  " directive "\n"
		known_count++
	} else if (text ~ /^ok/) {
		good++
	} else {
		bad++
		sub(/^[^ ]+/, "", rest)
		details = "\nnot ok " id rest "\n"
		keeping = 1
	}
}

# end_case: the details of a bad case are complete.
function end_case()
{
	if (keeping)
		bad_text = bad_text details
	keeping = 0
	details = ""
}

BEGIN {
	for (i = 1; i < ARGC; i++) {
		image = ARGV[i]
		file = run "/" image ".tap"
		while ((getline line < file) > 0)
			note_line(line)
		close(file)
		end_case()
		if (image in bailed)
			broken = broken "  " image ": " bailed[image] "\n"
		else if (!(image in planned))
			broken = broken "  " image ": it has no result; see what was said above\n"
		else if (seen[image] < planned[image]) {
			lost += planned[image] - seen[image]
			broken = broken "  " image ": " planned[image] - seen[image] " of its " planned[image] \
				" cases have no result\n"
		}
		cases += seen[image]
	}

	printf "%s", bad_text
	if (broken != "")
		printf "\nnot run, because the set-up is broken:\n%s", broken
	if (pass_count)
		printf "\nunexpected passes, to be taken out of %s:\n%s", deviations, passes
	if (known_count)
		printf "\nknown deviations from the SDM:\n%s", known
	if (skip_reasons)
		printf "\nskipped here:\n"
	for (i = 1; i <= skip_reasons; i++)
		printf "%5d  %s\n", skip_count[skip_order[i]], skip_order[i]
	printf "\n%s: %d case%s in %d image%s\n", platform, cases, cases == 1 ? "" : "s", ARGC - 1,
		ARGC == 2 ? "" : "s"
	printf "  %d ok, %d not ok, %d skipped, %d known deviation%s, %d unexpected pass%s\n", good, bad,
		skipped, known_count, known_count == 1 ? "" : "s", pass_count, pass_count == 1 ? "" : "es"
	printf "  logs: %s\n", run
	if (broken != "") {
		print "result: BROKEN SET-UP"
		exit 2
	}
	if (bad || pass_count || prove_status != 0) {
		if (!bad && !pass_count)
			printf "  prove ended with exit status %d\n", prove_status
		print "result: NOT AS EXPECTED"
		exit 1
	}
	print "result: as expected"
	exit 0
}
