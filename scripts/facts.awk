# Prints every fact of the tables: id, tab, section. After csv.awk:
#
#	awk -f scripts/csv.awk -f scripts/facts.awk spec/*.csv
#
# sections.csv is left out. Exit status 2, with a message and no output, on a malformed row.

FNR == 1 {
	table = csv_table(FILENAME)
	columns = csv_split($0, head)
	section = 0
	for (i = 1; i <= columns; i++)
		if (head[i] == "section")
			section = i
	if (!section)
		csv_die(FILENAME ":1: no column \"section\"; see spec/README.md")
	next
}

table == "sections" {
	next
}

{
	if (csv_split($0, row) != columns)
		csv_die(FILENAME ":" FNR ": not a CSV row of " columns \
			" columns; quote fields with a comma in them")
	fact[++facts] = table ":" row[1] "\t" csv_section(row[section])
}

END {
	if (csv_dead)
		exit 2
	for (i = 1; i <= facts; i++)
		print fact[i]
}
