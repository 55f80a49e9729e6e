/*
 * The themes of sweeps (mmu/sweep.h): families of sets of entries, each with one thing varied and
 * all else noise.
 *
 *	rights	R/W, U/S and XD of every entry of the translation
 *	entry	all bits of one entry that may be set
 *	flags	A and D of every entry, and an entry that is not present
 *	defects	of every entry: it is good, or not present, reserved, read-only, supervisor's or XD
 *	keys	protection keys
 *	bits	every bit of one entry, one after another
 */
#ifndef MMU_SWEEP_THEMES_H
#define MMU_SWEEP_THEMES_H

#include "mmu/sweep.h"

extern const struct sweep_theme sweep_rights, sweep_entry, sweep_flags, sweep_defects, sweep_keys,
	sweep_bits;

#endif
