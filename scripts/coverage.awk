# Says which facts the last runs have proved. After csv.awk, called by coverage.sh:
#
#	awk -f csv.awk -f coverage.awk [-v strict=1] [-v details=1] -v tables="NAME NAME..." \
#		-v images=DIR -v unprovable=FILE [-v rehearsals=FILE] spec/*.csv < MANIFEST
#
# tables      the spec tables to report on; empty: all
# images      the folder of the built images: AREA/IMAGE.tsv are their cases
# rehearsals  tests/rehearsal/cases.tsv: cases that run on no machine; they prove nothing, which is said
# MANIFEST    lines "image", tab, AREA/IMAGE for every built image; then, from the oldest to the
#             newest, "run", tab, platform, tab, folder of the run, tab, AREA/IMAGE
#
# For each platform and image the newest run counts. Exit status: 0; 1 when strict and a provable
# row has no case; 2 with a message when something cannot be read.

# --- input ------------------------------------------------------------------

# Reads a case list into list[case id] = facts; for a built image also into cases[fact].
function load_cases(file, image, list, built,    line, column, facts, i, n, id, status)
{
	while ((status = (getline line < file)) > 0) {
		if (split(line, column, "\t") < 7)
			csv_die(file ": not a case list; build the images again")
		id = image ":" column[2]
		list[id] = column[3]
		if (!built)
			continue
		n = split(column[3], facts, " ")
		for (i = 1; i <= n; i++)
			cases[facts[i]] = cases[facts[i]] " " id
	}
	close(file)
	return status == 0
}

function load_unprovable(    line, column, status)
{
	while ((status = (getline line < unprovable)) > 0) {
		if (line ~ /^#/ || line == "")
			continue
		if (split(line, column, "\t") != 2)
			csv_die(unprovable ": not \"glob, tab, reason\": " line)
		glob[++globs] = glob_ere(column[1])
		reason[globs] = column[2]
	}
	if (status < 0)
		csv_die(unprovable ": cannot read it")
	close(unprovable)
}

function load_rehearsals(    line, column)
{
	while (rehearsals != "" && (getline line < rehearsals) > 0) {
		split(line, column, "\t")
		is_rehearsed[column[1]] = 1
	}
}

# Whether a case that names the fact runs on the pretended processor.
function rehearsed(id,    part, i, n)
{
	n = split(cases[id], part, " ")
	for (i = 1; i <= n; i++)
		if (part[i] in is_rehearsed)
			return 1
	return 0
}

# Files away what one case of one run showed about each fact that it names.
function record(id, facts, outcome, text, platform,    fact, i, n)
{
	n = split(facts, fact, " ")
	for (i = 1; i <= n; i++) {
		# The case may have named other facts when it ran.
		if (!(fact[i] in cases) || !index(cases[fact[i]] " ", " " id " "))
			continue
		shown[fact[i], outcome] = 1
		if (outcome == "skipped")
			skip_reasons[fact[i]] = skip_reasons[fact[i]] "\t" text
		seen[fact[i], ++seen_count[fact[i]]] = sprintf("%-9s  %s%s  (%s)", outcome, id, \
			text == "" ? "" : ": " text, platform)
	}
}

# Reads the TAP of one image in one run.
function load_tap(folder, image, platform,    file, line, id, list, outcome, text, status, held)
{
	split("", list)
	load_cases(folder "/" image ".tsv", image, list, 0)
	file = folder "/" image ".tap"
	while ((status = (getline line < file)) > 0) {
		# Why it is not ok comes behind it: what never ran has not failed.
		if (held != "" && line ~ /^ *message: .?not run: /)
			held = ""
		if (line !~ /^(not )?ok [0-9]+ - [a-z0-9_]+/)
			continue
		outcome = line ~ /^ok/ ? "proved" : "failed"
		text = ""
		if (match(line, / # SKIP( |$)/)) {
			text = substr(line, RSTART + 8)
			outcome = "skipped"
		} else if (match(line, / # TODO( |$)/)) {
			text = substr(line, RSTART + 8)
			if (outcome == "failed")
				outcome = "deviation"
		}
		if (held != "")
			record(held, list[held], "failed", "", platform)
		held = ""
		id = line
		sub(/^(not )?ok [0-9]+ - /, "", id)
		match(id, /^[a-z0-9_]+/)
		id = image ":" substr(id, 1, RLENGTH)
		if (!(image in built))
			built_from_run(folder, image)
		if (outcome == "failed" && id in list)
			held = id
		else if (id in list)
			record(id, list[id], outcome, text, platform)
		ran[platform]++
	}
	if (held != "")
		record(held, list[held], "failed", "", platform)
	close(file)
	if (status < 0)
		csv_die(file ": cannot read it")
}

# An image that is not built now: the run knows what its cases were.
function built_from_run(folder, image)
{
	built[image] = 1
	load_cases(folder "/" image ".tsv", image, current, 1)
}

# --- output -----------------------------------------------------------------

# Why no image can prove a fact, by unprovable.tsv; empty: provable.
function unprovable_why(id,    i)
{
	for (i = 1; i <= globs; i++)
		if (id ~ glob[i])
			return reason[i]
	return ""
}

# The state of a fact; sets why.
function state(id)
{
	why = unprovable_why(id)
	if ((id, "proved") in shown || (id, "deviation") in shown)
		return "proved"
	if (why != "")
		return "unprovable"
	if ((id, "failed") in shown)
		return "failed"
	if ((id, "skipped") in shown)
		return "skipped"
	return id in cases ? "not run" : "no case"
}

function count_reasons(id, table, text,    part, i, n, mine)
{
	n = split(text, part, "\t")
	for (i = 1; i <= n; i++) {
		if (part[i] == "" || part[i] in mine)
			continue
		mine[part[i]] = 1
		if (!count[table, part[i]]++)
			reasons[table, ++reasons[table]] = part[i]
	}
}

function print_reasons(title, table,    i, j, best, done)
{
	if (!reasons[table])
		return
	print ""
	print title
	for (i = 1; i <= reasons[table]; i++) {
		best = 0
		for (j = 1; j <= reasons[table]; j++)
			if (!(j in done) && (!best || \
			    count[table, reasons[table, j]] > count[table, reasons[table, best]]))
				best = j
		done[best] = 1
		printf "%6d  %s\n", count[table, reasons[table, best]], reasons[table, best]
	}
}

function print_line(name, table,    i)
{
	printf "%-24s %5d", name, rows[table]
	for (i = 1; i <= states; i++)
		printf " %10d", tally[table, state_name[i]]
	print ""
}

function print_details(id, now,    i, n, part)
{
	if (now == "unprovable")
		printf "%s: unprovable: %s\n", id, why
	else
		printf "%s: %s%s\n", id, now, now == "skipped" && rehearsed(id) ? " (rehearsed)" : ""
	for (i = 1; i <= seen_count[id]; i++)
		printf "    %s\n", seen[id, i]
	if (now != "not run")
		return
	n = split(cases[id], part, " ")
	for (i = 1; i <= n; i++)
		printf "    not run    %s\n", part[i]
}

# --- the program ------------------------------------------------------------

BEGIN {
	states = split("proved failed skipped not_run unprovable no_case", state_name, " ")
	for (i = 1; i <= states; i++)
		sub(/_/, " ", state_name[i])
	n = split(tables, part, " ")
	for (i = 1; i <= n; i++)
		wanted[part[i]] = 1
	load_unprovable()
	load_rehearsals()
	while ((getline line < "/dev/stdin") > 0) {
		n = split(line, column, "\t")
		if (column[1] == "image") {
			built[column[2]] = 1
			if (!load_cases(images "/" column[2] ".tsv", column[2], current, 1))
				csv_die(images "/" column[2] ".tsv: cannot read it")
			continue
		}
		key = column[2] "\t" column[4]
		if (!(key in newest))
			key_of[++keys] = key
		newest[key] = column[3]
	}
	for (k = 1; k <= keys; k++) {
		split(key_of[k], column, "\t")
		if (!(column[1] in ran)) {
			ran[column[1]] = 0
			platform_of[++platforms] = column[1]
		}
		load_tap(newest[key_of[k]], column[2], column[1])
		images_of[column[1]]++
	}
}

FNR == 1 {
	table = csv_table(FILENAME)
	columns = csv_split($0, head)
	if (table != "sections" && (!tables || table in wanted))
		table_of[++tables_seen] = table
	next
}

table == "sections" || (tables && !(table in wanted)) {
	next
}

{
	if (csv_split($0, row) != columns)
		csv_die(FILENAME ":" FNR ": not a CSV row of " columns " columns")
	id = table ":" row[1]
	now = state(id)
	id_of[++ids] = id
	now_of[ids] = now
	why_of[ids] = why
	rows[table]++
	rows["total"]++
	tally[table, now]++
	tally["total", now]++
	if (now == "skipped" && rehearsed(id))
		rehearsed_rows++
	if (now == "skipped")
		count_reasons(id, "skipped", skip_reasons[id])
	if (now == "unprovable")
		count_reasons(id, "unprovable", why)
}

END {
	if (csv_dead)
		exit 2
	for (i = 1; i <= platforms; i++)
		printf "%s: %d results of %d images\n", platform_of[i], ran[platform_of[i]], \
			images_of[platform_of[i]]
	if (!platforms)
		print "no run is recorded yet; ./exitpath run makes one"
	printf "\n%-24s %5s", "table", "rows"
	for (i = 1; i <= states; i++)
		printf " %10s", state_name[i]
	print ""
	for (i = 1; i <= tables_seen; i++)
		print_line(table_of[i], table_of[i])
	if (tables_seen > 1)
		print_line("total", "total")
	print_reasons("skipped here, rows by reason:", "skipped")
	if (rehearsed_rows)
		printf "\n%d of the skipped rows have a case that was rehearsed, which proves nothing: " \
			"tests/rehearsal\n", rehearsed_rows
	print_reasons("unprovable, rows by reason:", "unprovable")
	for (i = 1; i <= ids; i++)
		if (now_of[i] == "proved" && why_of[i] != "")
			printf "\n%s is proved, but unprovable.tsv says: %s\n", id_of[i], why_of[i]
	if (details) {
		print ""
		for (i = 1; i <= ids; i++) {
			why = why_of[i]
			print_details(id_of[i], now_of[i])
		}
	}
	if (strict && tally["total", "no case"]) {
		csv_note = sprintf("exitpath: %d provable rows have no case: " \
			"./exitpath coverage TABLE names them", tally["total", "no case"])
		print csv_note | "cat >&2"
		close("cat >&2")
		exit 1
	}
}
