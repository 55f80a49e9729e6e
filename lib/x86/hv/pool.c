#include "hv/pool.h"
#include "string.h"

void hv_pool_init(struct hv_pool *pool, void *memory, u64 size)
{
	u8 *page = (u8 *)memory + size;

	*pool = (struct hv_pool){ 0 };
	/* From the end, so that pages are taken from the start. */
	while (page > (u8 *)memory) {
		page -= PAGE_SIZE;
		hv_pool_give(pool, page);
	}
}

void *hv_pool_take(struct hv_pool *pool)
{
	u64 *page = pool->first;

	if (!page)
		return NULL;
	pool->first = (u64 *)page[0];
	pool->left--;
	return memset(page, 0, PAGE_SIZE);
}

void hv_pool_give(struct hv_pool *pool, void *page)
{
	*(u64 **)page = pool->first;
	pool->first = page;
	pool->left++;
}

void hv_pool_move(struct hv_pool *to, struct hv_pool *from, u64 pages)
{
	for (; pages; pages--) {
		u64 *page = from->first;

		from->first = (u64 *)page[0];
		from->left--;
		hv_pool_give(to, page);
	}
}
