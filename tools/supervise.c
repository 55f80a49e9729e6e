/*
 * supervise as one translation unit. Its parts, each with a header of its own, are in
 * tools/supervise/; this file goes as soon as the Makefile builds a folder of tools: its rule
 * needs $$* where it has % inside of $$(wildcard ...).
 */
#include "supervise/boot.c"
#include "supervise/cases.c"
#include "supervise/deviations.c"
#include "supervise/files.c"
#include "supervise/lines.c"
#include "supervise/machine.c"
#include "supervise/main.c"
#include "supervise/processes.c"
#include "supervise/report.c"
#include "supervise/run.c"
#include "supervise/text.c"
#include "supervise/tree.c"
#include "supervise/wire.c"
#include "supervise/yaml.c"
