/*
 * Never ends: one endless loop, or with HALT a HLT that
 * no interrupt ends. With TAP it is an image of one case.
 */
	.include "guest.inc"
	GUEST_START
#ifdef TAP
	SAY "TAP version 13\n1..1\n# looping\n"
#else
	SAY "looping"
#endif
	movl $0xabcd, %r14d
1:
#ifdef HALT
	hlt
#endif
	jmp 1b
