/* Whether an exit shows what lets it have its reason: 28.1.3, 28.2. */
#include "vmx/exit_words.h"

/* For page faults the error code may turn the meaning of the bit round. */
bool exit_by_bitmap(const struct exit_input *x)
{
	const struct entry_input *in = x->entry;
	bool bit = F(EXCEPTION_BITMAP) & BIT(FIELD(EXIT_EVENT, 4, 0));
	u64 code = NOW(EXITING_EVENT_ERROR_CODE) & F(PAGE_FAULT_ERROR_CODE_MASK);

	if (VECTOR_OF(EXIT_EVENT) != VECTOR_PF)
		return bit;
	return code == F(PAGE_FAULT_ERROR_CODE_MATCH) ? bit : !bit;
}

/* LMSW writes CR0[3:0], and does not clear PE. */
static bool lmsw_exits(const struct entry_input *in, u64 source)
{
	u64 differs = F(CR0_GUEST_HOST_MASK) & (source ^ F(CR0_READ_SHADOW));

	return differs & (CR0_MP | CR0_EM | CR0_TS) || (differs & source & CR0_PE);
}

static bool mov_to_cr_exits(const struct entry_input *in, u64 number)
{
	switch (number) {
	case 0:
		return F(CR0_GUEST_HOST_MASK);
	case 3:
		return IS(PROC1, CR3_LOAD_EXITING);
	case 4:
		return F(CR4_GUEST_HOST_MASK);
	case 8:
		return IS(PROC1, CR8_LOAD_EXITING);
	}
	return false;
}

/* Table 30-3 says which access it was. */
bool exit_by_control_register(const struct exit_input *x)
{
	const struct entry_input *in = x->entry;
	u64 q = NOW(EXIT_QUALIFICATION), number = FIELD(q, 3, 0);

	switch (FIELD(q, 5, 4)) {
	case 0:
		return mov_to_cr_exits(in, number);
	case 1:
		return (number == 3 && IS(PROC1, CR3_STORE_EXITING)) ||
		       (number == 8 && IS(PROC1, CR8_STORE_EXITING));
	case 2:
		return F(CR0_GUEST_HOST_MASK) & F(CR0_READ_SHADOW) & CR0_TS;
	}
	return lmsw_exits(in, FIELD(q, 31, 16));
}

/* 27.6.4: one bit for each port; true as well where nobody knows the bitmap. */
static bool port_exits(const struct entry_input *in, u64 port)
{
	u64 bitmap = port & 0x8000 ? F(IO_BITMAP_B_ADDRESS) : F(IO_BITMAP_A_ADDRESS), word;

	return !in->read(in->memory, bitmap + (port & 0x7fe0) / 8, 4, &word) ||
	       word & BIT(port & 31);
}

bool exit_by_port(const struct exit_input *x)
{
	const struct entry_input *in = x->entry;
	u64 q = NOW(EXIT_QUALIFICATION), port = FIELD(q, 31, 16), last = port + FIELD(q, 2, 0);

	if (!IS(PROC1, USE_IO_BITMAPS))
		return true;
	if (last > 0xffff)
		return true;
	for (; port <= last; port++)
		if (port_exits(in, port))
			return true;
	return false;
}

bool exit_by_eoi_bitmap(const struct exit_input *x)
{
	const struct entry_input *in = x->entry;
	u64 vector = NOW(EXIT_QUALIFICATION);

	switch (FIELD(vector, 7, 6)) {
	case 0:
		return F(EOI_EXIT_BITMAP_0) & BIT(vector & 63);
	case 1:
		return F(EOI_EXIT_BITMAP_1) & BIT(vector & 63);
	case 2:
		return F(EOI_EXIT_BITMAP_2) & BIT(vector & 63);
	}
	return F(EOI_EXIT_BITMAP_3) & BIT(vector & 63);
}
