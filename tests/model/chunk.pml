/* A chunk's entry: how a marker finds the object of a pointer while spans are made beside it.
 *
 * An entry says how many cells the span has, and where and how large they are (`first` and `cell` in
 * runtime/heap/layout.h, 16 bytes that no single store writes). The spans of the chunk take turns between two shapes; a
 * pointer into the chunk may lie in the heap before the span is there, as what a freed object left behind.
 *
 * The property: a marker that takes the entry for a span sees the whole entry of the span that is there, and it is
 * still there when the marker stores the mark byte. Otherwise it marks another object than it scans.
 *
 * NO_...: a rule left out; the list is in `check`. */

byte cells = 0, first = 0, size = 0; /* the entry */
byte shape = 0;                      /* of the span that is there: 1 or 2; 0: none, or it is being made or ended */
bit marking = 0; /* from before the markers start to after they have finished */
bit open = 0;    /* the markers take work */
byte busy = 0;   /* markers at work */
byte ending = 0; /* threads that end a span and found no cycle marking */

#ifdef NO_SPANS_STAY
#define MAY_END true
#else
#define MAY_END !marking
#endif

proctype Mutator() {
  byte next = 1;
  do
  :: shape == 0 ->
     /* Addresses of its cells are handed out after this. */
#ifdef NO_COUNT_LAST
     cells = 1;
     first = next;
     d_step { size = next; shape = next; next = 3 - next }
#else
     first = next;
     size = next;
     d_step { cells = 1; shape = next; next = 3 - next }
#endif
  :: atomic { shape != 0 && MAY_END -> ending++; shape = 0 }
     cells = 0;
     first = 0;
     d_step { size = 0; ending-- }
  od
}

proctype Marker() {
  byte count = 0, f = 0, s = 0;
  do
  :: atomic { open -> busy++ }
#ifdef NO_COUNT_READ_FIRST
     f = first;
     s = size;
     count = cells;
#else
     count = cells;
     f = first;
     s = size;
#endif
     if
     :: count == 0 -> skip /* the word is no pointer, or its store made a page dirty after the last fetch */
     :: else -> assert(f == shape && s == shape)
     fi;
     d_step { count = 0; f = 0; s = 0; busy-- }
  od
}

active proctype Collector() {
  atomic {
    run Marker();
    run Marker();
    run Mutator()
  }
  do
  :: marking = 1;
#ifndef NO_HANDSHAKE
     ending == 0;
#endif
     open = 1;
     open = 0;
     d_step { busy == 0 -> marking = 0 }
  od
}
