/*
 * Of a build with all mutants (make MUTATE=all): the one in force, by its row in core.tsv; 0: none.
 */
extern unsigned int hv_mutant;
