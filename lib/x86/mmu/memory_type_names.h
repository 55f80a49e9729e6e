/* The memory types by the names that table 14-2 gives them, for files with tables of them. */
#ifndef MMU_MEMORY_TYPE_NAMES_H
#define MMU_MEMORY_TYPE_NAMES_H

#include "mmu/memory_type.h"

#define UC		MEMORY_TYPE_UC
#define WC		MEMORY_TYPE_WC
#define WT		MEMORY_TYPE_WT
#define WP		MEMORY_TYPE_WP
#define WB		MEMORY_TYPE_WB
#define UC_MINUS	MEMORY_TYPE_UC_MINUS
#define UNDEFINED	MEMORY_TYPE_UNDEFINED

#endif
