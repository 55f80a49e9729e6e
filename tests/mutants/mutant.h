/* Of a build with all mutants (make MUTATE=all): which one is broken, by its row in core.tsv; 0: none. */
extern unsigned int hv_mutant;
