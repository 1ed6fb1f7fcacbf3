/* Cards: a byte for each 4 KiB of one range of memory, for programs that say themselves what they write. The tracker is
 * gcrt_cards_tracker (sys/tracker.h).
 *
 * A card is 1 if its memory is armed and nothing was written since; else 0. So what was never armed counts as written.
 * gcrt_cards_write is called after the store; a card that is set to 1 again is set before its memory is read: whoever
 * overwrites a 0 with a 1 then reads what was stored before the 0. */
#ifndef GCRT_SYS_CARDS_H
#define GCRT_SYS_CARDS_H

#include <stdint.h>

enum { GCRT_CARD_SHIFT = 12, GCRT_CARD_BYTES = 1 << GCRT_CARD_SHIFT };

/* [low, high) was written; what of it has no cards is passed over. Any thread; async-signal-safe. */
void gcrt_cards_write(uintptr_t low, uintptr_t high);

#endif
