/* INVPCID, volume 2: its types, and its operand in memory. */
#ifndef SDM_INVPCID_H
#define SDM_INVPCID_H

#include "types.h"

enum invpcid_type {
	INVPCID_ADDRESS,
	INVPCID_CONTEXT,
	INVPCID_ALL_AND_GLOBAL,
	INVPCID_ALL_CONTEXTS,
	INVPCID_TYPES,
};

struct invpcid_descriptor {
	u64 pcid, address;
} __attribute__((aligned(16)));

#endif
