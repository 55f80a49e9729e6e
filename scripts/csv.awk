# What scripts/*.awk share to read spec/: awk -f scripts/csv.awk -f scripts/OTHER.awk ...
# The rules are those of spec/README.md and the same as in tools/imageinfo/spec.c.

# csv_split(LINE, COLUMN): the columns of one CSV line into COLUMN[1], COLUMN[2], ...
# Returns how many there are, 0 for a malformed line.
function csv_split(line, column,    count, text, field)
{
	split("", column)
	while (1) {
		if (substr(line, 1, 1) == "\"") {
			line = substr(line, 2)
			text = ""
			while (match(line, /^[^"]*""/)) {
				text = text substr(line, 1, RLENGTH - 1)
				line = substr(line, RLENGTH + 1)
			}
			if (!match(line, /^[^"]*"/))
				return 0
			field = text substr(line, 1, RLENGTH - 1)
			line = substr(line, RLENGTH + 1)
			if (line != "" && substr(line, 1, 1) != ",")
				return 0
		} else {
			match(line, /^[^,]*/)
			field = substr(line, 1, RLENGTH)
			line = substr(line, RLENGTH + 1)
			if (index(field, "\""))
				return 0
		}
		column[++count] = field
		if (line == "")
			return count
		line = substr(line, 2)
	}
}

# csv_section(PLACES): "27.9.1 Table 27-19; 30.2.1" gives "27.9.1".
function csv_section(places)
{
	sub(/;.*/, "", places)
	sub(/ Table.*/, "", places)
	sub(/ +$/, "", places)
	return places
}

# csv_table(FILE): spec/exit-reasons.csv gives exit-reasons.
function csv_table(file)
{
	sub(/.*\//, "", file)
	sub(/\.csv$/, "", file)
	return file
}

# csv_die(TEXT): ends the program: one line on standard error, exit status 2.
# END rules must begin with: if (csv_dead) exit 2
function csv_die(text)
{
	print "exitpath: " text | "cat >&2"
	close("cat >&2")
	csv_dead = 1
	exit 2
}

# glob_ere(GLOB): the extended regular expression that matches the whole of what a shell glob
# (*, ?, [abc], [!abc]) matches.
function glob_ere(glob,    out, c, end)
{
	out = "^"
	while (glob != "") {
		c = substr(glob, 1, 1)
		end = c == "[" ? index(substr(glob, 3), "]") : 0
		if (end) {
			c = substr(glob, 1, end + 2)
			glob = substr(glob, end + 3)
			sub(/^\[!/, "[^", c)
			out = out c
			continue
		}
		glob = substr(glob, 2)
		if (c == "*")
			out = out ".*"
		else if (c == "?")
			out = out "."
		else if (index(".^$+(){}|[]\\", c))
			out = out "\\" c
		else
			out = out c
	}
	return out "$"
}
