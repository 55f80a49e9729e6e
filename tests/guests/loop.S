/* Never ends: one endless loop, or with HALT a HLT that no interrupt ends. */
	.include "guest.inc"
	GUEST_START
	SAY "looping"
	movl $0xabcd, %r14d
1:
#ifdef HALT
	hlt
#endif
	jmp 1b
