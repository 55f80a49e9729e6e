#include <stdio.h>
#include <stdlib.h>

#include "entry_draw.h"
#include "vmx/entry_rules.h"

u64 draw(struct input *input, u32 bytes)
{
	u64 value = 0;

	for (; bytes && input->size; bytes--, input->size--)
		value = value << 8 | *input->data++;
	return value;
}

/* Widths in bits; 0: natural, which is 64 here. */
static const u8 widths[VMCS_FIELDS] = {
#define VMCS_FIELD(encoding, name, lower, width, type, exists) width,
#include "sdm/vmcs_fields.def"
#undef VMCS_FIELD
};

void draw_field(struct input *input, u64 *fields)
{
	u32 index = draw(input, 1) % VMCS_FIELDS;
	u64 *field = &fields[index];

	switch (draw(input, 1) % 6) {
	case 0:
		*field ^= BIT(draw(input, 1) % 64);
		break;
	case 1:
		*field = draw(input, 8);
		break;
	case 2:
		*field = draw(input, 1);
		break;
	case 3:
		*field = PAGE_AT + draw(input, 2) % 0x2000;
		break;
	case 4:
		*field = fields[draw(input, 1) % VMCS_FIELDS];
		break;
	case 5:
		*field = ~*field;
		break;
	}
	if (widths[index])
		*field &= BITS(widths[index] - 1, 0);
}

static void change_state(struct input *input, struct entry_state *state)
{
	u64 what = draw(input, 2);

	state->resume = what & BIT(0);
	state->launch_state = what >> 1 & 3 ? (what >> 1 & 3) - 1 : LAUNCH_STATE_CLEAR;
	state->vmx_operation = !(what & BIT(8)) || !(what & BIT(9));
	state->non_root = (what & BITS(11, 10)) == BITS(11, 10);
	state->mov_ss_blocking = (what & BITS(13, 12)) == BITS(13, 12);
	state->smm = what & BIT(14);
	state->rtit_ctl = what >> 15 & 1;
}

void draw_scene(struct input *input, struct entry_scene *scene)
{
	u32 processor = draw(input, 1) % PROCESSORS, i, count;

	world_scene(scene, processor);
	if (entry_set_base(scene, draw(input, 1) % ENTRY_BASES))
		world_scene(scene, processor);
	if (draw(input, 1) & 1)
		change_state(input, &scene->in.state);
	count = draw(input, 1) % 16;
	for (i = 0; i < count && input->size; i++)
		draw_field(input, scene->in.field);
	for (i = 0; i < 16 && input->size; i++)
		world_page[draw(input, 1) % 32] = draw(input, 8);
}

void contradiction(const char *what, const char *file, int line)
{
	fprintf(stderr, "contradiction, %s:%d: not (%s)\n", file, line, what);
	abort();
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	(void)argc;
	(void)argv;
	world_make();
	return 0;
}
