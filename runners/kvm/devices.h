/* The devices on I/O ports: consoles, power-off, and one with a memory of what it was given. */
#ifndef VMM_DEVICES_H
#define VMM_DEVICES_H

#include <stdbool.h>
#include <stdint.h>

#include "machine.h"
#include "text.h"

/* A UART without interrupts, whose line is always idle. */
struct uart {
	uint8_t interrupt_enable, line_control, modem_control, scratch;
	uint8_t divisor[2];
};

/* 256 colours of three components, read and written one after another: places 0 to 767. */
struct palette {
	uint8_t components[768];
	uint16_t read_place, write_place;
};

struct device {
	struct device_description is;
	struct uart uart;
	struct palette palette;
	uint8_t matched;	/* DEVICE_PORT_TEXT: characters of the text seen so far */
};

struct devices {
	struct device list[MACHINE_MAX_DEVICES];
	size_t count;
	struct text *console;
	bool off;		/* the guest has switched the machine off */
};

void devices_init(struct devices *devices, const struct machine *machine, struct text *console);
void devices_write(struct devices *devices, uint16_t port, uint8_t value);
uint8_t devices_read(struct devices *devices, uint16_t port);

#endif
