# The cases by fact. After csv.awk, called by cases-by-fact.sh:
#
#	awk -v images=DIR/ -f csv.awk -f cases-by-fact.awk DIR/AREA/IMAGE.tsv... spec/*.csv
#
# Reads: EXITPATH_GLOBS, one glob of ids of facts per line; empty: every fact that has a case.

function wanted(id,    i, yes)
{
	yes = !globs && id in cases
	for (i = 1; i <= globs; i++)
		if (id ~ ere[i])
			yes = used[i] = 1
	return yes
}

BEGIN {
	globs = split(ENVIRON["EXITPATH_GLOBS"], text, "\n")
	# The last one ends with a newline too.
	if (globs)
		globs--
	for (i = 1; i <= globs; i++)
		ere[i] = glob_ere(text[i])
}

FILENAME ~ /\.tsv$/ {
	if (split($0, column, "\t") < 7)
		csv_die(FILENAME ":" FNR ": not a case list; build the images again")
	image = substr(FILENAME, length(images) + 1)
	sub(/\.tsv$/, "", image)
	n = split(column[3], fact, " ")
	for (i = 1; i <= n; i++)
		cases[fact[i]] = cases[fact[i]] fact[i] "\t" image ":" column[2] "\t" column[5] "\n"
	next
}

FNR == 1 {
	table = csv_table(FILENAME)
	next
}

table != "sections" {
	if (!csv_split($0, row))
		csv_die(FILENAME ":" FNR ": not a CSV row; quote fields with a comma in them")
	id = table ":" row[1]
	if (wanted(id))
		printf "%s", id in cases ? cases[id] : id "\t-\t-\n"
}

END {
	if (csv_dead)
		exit 2
	for (i = 1; i <= globs; i++)
		if (!(i in used))
			csv_die("no fact matches '" text[i] "'; an id is TABLE:KEY, see spec/README.md")
}
