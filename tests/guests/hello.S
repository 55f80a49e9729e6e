/* Prints a line, and a second one without its end, and powers off. */
	.include "guest.inc"
	GUEST_START
	SAY "hello\n"
	SAY "no end of line"
	POWER_OFF
