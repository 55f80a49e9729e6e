/* The devices on I/O ports: pure functions of their state and one byte on one port. */
#include "devices.h"

#include <string.h>

enum {
	UART_PORTS = 8,
	UART_DATA = 0,			/* divisor low with DLAB */
	UART_INTERRUPT_ENABLE = 1,	/* divisor high with DLAB */
	UART_INTERRUPT_IDENTITY = 2,
	UART_LINE_CONTROL = 3,
	UART_MODEM_CONTROL = 4,
	UART_LINE_STATUS = 5,
	UART_MODEM_STATUS = 6,
	UART_SCRATCH = 7,

	UART_DLAB = 0x80,
	UART_NO_INTERRUPT = 0x01,
	UART_TRANSMITTER_EMPTY = 0x60,
	UART_CARRIER_READY_CLEAR = 0xb0,

	PALETTE_PORTS = 3,
	PALETTE_READ_INDEX = 0,
	PALETTE_WRITE_INDEX = 1,
	PALETTE_DATA = 2,
	PALETTE_WIDTH = 0x3f,		/* six bits, as a VGA has them after reset */

	PORT_E9_PRESENT = 0xe9,		/* what Bochs answers to IN from its port E9h */
	NO_DEVICE = 0xff,
};

/* Sets `devices` up as `machine` describes; console bytes go to `console`. */
void devices_init(struct devices *devices, const struct machine *machine, struct text *console)
{
	*devices = (struct devices){ .count = machine->device_count, .console = console };
	for (size_t i = 0; i < machine->device_count; i++)
		devices->list[i].is = machine->devices[i];
}

/* A reader at the other end of a pipe wants whole lines, and few system calls. */
static void console_byte(struct devices *devices, uint8_t value)
{
	text_char(devices->console, (char)value);
	if (value == '\n')
		text_flush(devices->console);
}

static void uart_write(struct devices *devices, struct uart *uart, unsigned int offset,
		       uint8_t value)
{
	const bool divisor = uart->line_control & UART_DLAB;

	switch (offset) {
	case UART_DATA:
		if (divisor)
			uart->divisor[0] = value;
		else
			console_byte(devices, value);
		break;
	case UART_INTERRUPT_ENABLE:
		if (divisor)
			uart->divisor[1] = value;
		else
			uart->interrupt_enable = value & 0x0f;
		break;
	case UART_LINE_CONTROL:
		uart->line_control = value;
		break;
	case UART_MODEM_CONTROL:
		uart->modem_control = value & 0x1f;
		break;
	case UART_SCRATCH:
		uart->scratch = value;
		break;
	}
}

static uint8_t uart_read(const struct uart *uart, unsigned int offset)
{
	const bool divisor = uart->line_control & UART_DLAB;

	switch (offset) {
	case UART_DATA:
		return divisor ? uart->divisor[0] : 0;
	case UART_INTERRUPT_ENABLE:
		return divisor ? uart->divisor[1] : uart->interrupt_enable;
	case UART_INTERRUPT_IDENTITY:
		return UART_NO_INTERRUPT;
	case UART_LINE_CONTROL:
		return uart->line_control;
	case UART_MODEM_CONTROL:
		return uart->modem_control;
	case UART_LINE_STATUS:
		return UART_TRANSMITTER_EMPTY;
	case UART_MODEM_STATUS:
		return UART_CARRIER_READY_CLEAR;
	default:
		return uart->scratch;
	}
}

/* The palette of a VGA: an index chooses a colour; each data byte moves on by one component. */
static void palette_write(struct palette *palette, unsigned int offset, uint8_t value)
{
	const uint16_t size = sizeof(palette->components);

	if (offset == PALETTE_READ_INDEX) {
		palette->read_place = value * 3;
	} else if (offset == PALETTE_WRITE_INDEX) {
		palette->write_place = value * 3;
	} else {
		palette->components[palette->write_place] = value & PALETTE_WIDTH;
		palette->write_place = (palette->write_place + 1) % size;
	}
}

static uint8_t palette_read(struct palette *palette, unsigned int offset)
{
	const uint16_t size = sizeof(palette->components);
	uint8_t value;

	/* What the index ports of a VGA say is not what was written to them. */
	if (offset != PALETTE_DATA)
		return 0;
	value = palette->components[palette->read_place];
	palette->read_place = (palette->read_place + 1) % size;
	return value;
}

/* True when `value` completes the text. A wrong character may be the first of a new try. */
static bool text_matches(struct device *device, uint8_t value)
{
	const char *text = device->is.text;

	if ((uint8_t)text[device->matched] != value)
		device->matched = 0;
	if ((uint8_t)text[device->matched] == value)
		device->matched++;
	if (text[device->matched])
		return false;
	device->matched = 0;
	return true;
}

/* The guest wrote `value` to `port`; a port without a device ignores it. */
void devices_write(struct devices *devices, uint16_t port, uint8_t value)
{
	for (size_t i = 0; i < devices->count; i++) {
		struct device *device = &devices->list[i];
		const unsigned int offset = (unsigned int)port - device->is.port;

		if (device->is.kind == DEVICE_NS16550A && offset < UART_PORTS)
			uart_write(devices, &device->uart, offset, value);
		if (device->is.kind == DEVICE_VGA_PALETTE && offset < PALETTE_PORTS)
			palette_write(&device->palette, offset, value);
		if (offset != 0)
			continue;
		if (device->is.kind == DEVICE_PORT_E9)
			console_byte(devices, value);
		else if (device->is.kind == DEVICE_PORT_VALUE)
			devices->off |= value == device->is.value;
		else if (device->is.kind == DEVICE_PORT_TEXT)
			devices->off |= text_matches(device, value);
	}
}

/* What the guest reads from `port`: all ones where there is nothing to read. */
uint8_t devices_read(struct devices *devices, uint16_t port)
{
	for (size_t i = 0; i < devices->count; i++) {
		struct device *device = &devices->list[i];
		const unsigned int offset = (unsigned int)port - device->is.port;

		if (device->is.kind == DEVICE_VGA_PALETTE && offset < PALETTE_PORTS)
			return palette_read(&device->palette, offset);
		if (device->is.kind == DEVICE_NS16550A && offset < UART_PORTS)
			return uart_read(&device->uart, offset);
		if (device->is.kind == DEVICE_PORT_E9 && offset == 0)
			return PORT_E9_PRESENT;
	}
	return NO_DEVICE;
}
