/* The concurrent cycle: mutators, markers and a collector over a few cells of one word each.
 *
 * The properties, as assertions:
 *  - when white and black change places, every object that the roots reach is black;
 *  - the sweep frees no object that can be reached, and no cell is handed out while an object is in it;
 *  - in a stop a cell's mark byte is 0 exactly if its alloc bit is clear, and its bit is set exactly if the cell holds
 *    an object, lies in a window, or was given back by the program in this cycle.
 * There is no bound on the operations of the mutators, on rounds, or on cycles: the state space itself is finite.
 *
 * README.md tells what each step stands for, and what is left out. Macros choose the size and leave out rules:
 *   CELLS MUTATORS MARKERS   sizes; the cells lie on two pages, a span each
 *   FREE                     the program calls gc_free; dangling pointers stay where they are
 *   RETIRE                   a mutator may give back its window, as the end of its thread does
 *   COPIES                   a rescan skips words that have not changed since the last one
 *   GROW                     the second page belongs to a chunk that is made while the program runs
 *   ROOTS_IN_ROUNDS          every round reads the roots again, which none has to
 *   REACHABLE_ONLY           leaves out the last property
 *   WEAK                     others see a marker's stores of mark bytes late, in any order, up to the next barrier
 *   NO_...                   a rule left out; the list is in `check` */

#ifndef CELLS
#define CELLS 3
#endif
#ifndef MUTATORS
#define MUTATORS 1
#endif
#ifndef MARKERS
#define MARKERS 2
#endif

/* Pointers are 1 to CELLS; 0 is none. A word with STALE is the address of a cell whose object the program has freed:
 * the collector does not see the difference, and the program does not follow it. */
#define STALE 8
#define BITS(v) ((v) & 7)
#define FRESH(v) ((v) != 0 && (v) < STALE)
#define FIRST_PAGE ((CELLS + 1) / 2) /* cells on the first page */
#define PAGE(c) ((c) > FIRST_PAGE)
#define BIT(c) (1 << (c))
#define ON_PAGE_0 ((BIT(FIRST_PAGE + 1) - 1) & ~1)
#define ON_PAGE_1 ((BIT(CELLS + 1) - 1) & ~(BIT(FIRST_PAGE + 1) - 1))
#define BLACK (3 - white)

/* The heap. Index 0 of the arrays is not a cell. */
byte word[CELLS + 1];
byte mark[CELLS + 1]; /* 0, or one of 1 and 2, which mean white and black by turns */
byte alloc = 0;       /* bits */
byte white = 1;
byte page[2]; /* UNARMED, CLEAN or WRITTEN */
#define UNARMED 0
#define CLEAN 1
#define WRITTEN 2
#ifdef GROW
bit used = 0; /* the second page belongs to a chunk */
bit limit = 0; /* what the markers take `used` for */
#define IN_HEAP(c) (PAGE(c) == 0 || used)
#define KNOWN(c) (PAGE(c) == 0 || limit)
#else
#define IN_HEAP(c) true
#define KNOWN(c) true
#endif

/* The program. */
byte global = 0;
byte reg[MUTATORS];
byte window[MUTATORS]; /* the one unused cell of a window, or 0 */
byte sections = 0;     /* mutators in critical sections */
bit stopping = 0;
byte object = 0; /* bits: cells that hold an object for the program */

/* The cycle. */
bit marking = 0; /* from before the first page is armed to the flip */
bit sweeping = 0;
byte swept = 3;  /* bits: pages */
byte freed = 0;  /* bits: cells that gc_free keeps back until the sweep */
byte grey = 0;   /* bits: in a mark stack */
byte todo = 0;   /* bits: pages to scan again */
byte roots = 0;  /* bits: roots to read, the global and registers */
#define ALL_ROOTS (BIT(MUTATORS + 1) - 1)
byte busy = 0;   /* bits: markers at work */
byte immediate = 0; /* mutators that give a cell back and found no cycle marking */
#ifdef COPIES
byte copy[CELLS + 1]; /* the word as it was seen; 0: it is to be looked at */
#endif
#ifdef WEAK
byte late[MARKERS]; /* bits: cells whose mark byte is BLACK for this marker alone, so far */
#define MARK(i, c) (((late[i] >> (c)) & 1) -> BLACK : mark[c])
#else
#define MARK(i, c) mark[c]
#endif

#define WRITE(c)                                                                                                       \
  if                                                                                                                   \
  :: page[PAGE(c)] == CLEAN -> page[PAGE(c)] = WRITTEN                                                                 \
  :: else                                                                                                              \
  fi

/* Cells that the program can reach, as bits in `found`. All three are 0 between uses. */
byte found, i_, j_;
inline reach() {
  found = 0;
  if
  :: FRESH(global) -> found = found | BIT(global)
  :: else
  fi
  for (i_ : 0 .. MUTATORS - 1) {
    if
    :: FRESH(reg[i_]) -> found = found | BIT(reg[i_])
    :: else
    fi
  }
  for (j_ : 1 .. CELLS) {
    for (i_ : 1 .. CELLS) {
      if
      :: (found & BIT(i_)) && FRESH(word[i_]) -> found = found | BIT(word[i_])
      :: else
      fi
    }
  }
  i_ = 0;
  j_ = 0
}

/* The program's pointers to an object that it frees dangle from here on. */
inline dangle(c) {
  object = object & ~BIT(c);
  if
  :: global == c -> global = c | STALE
  :: else
  fi
  for (i_ : 0 .. MUTATORS - 1) {
    if
    :: reg[i_] == c -> reg[i_] = 0
    :: else
    fi
  }
  for (i_ : 1 .. CELLS) {
    if
    :: word[i_] == c -> word[i_] = c | STALE
    :: else
    fi
  }
  i_ = 0
}

#define RUNNING !stopping
#define R reg[me]

/* A cell is given back in two steps. The byte comes first: after the bit it belongs to whoever takes the cell. */
#define ZERO_MARK(c) mark[c] = 0
#define CLEAR_ALLOC(c) alloc = alloc & ~BIT(c)
#ifdef NO_FREE_BYTE_FIRST
#define GIVE_BACK_1(c) CLEAR_ALLOC(c)
#define GIVE_BACK_2(c) ZERO_MARK(c)
#else
#define GIVE_BACK_1(c) ZERO_MARK(c)
#define GIVE_BACK_2(c) CLEAR_ALLOC(c)
#endif
#ifdef NO_SWEEP_BYTE_FIRST
#define SWEEP_1(c) CLEAR_ALLOC(c)
#define SWEEP_2(c) ZERO_MARK(c)
#else
#define SWEEP_1(c) ZERO_MARK(c)
#define SWEEP_2(c) CLEAR_ALLOC(c)
#endif

/* A cell for the window: free, and in a span that is swept; the sweep holds its lock until then. */
#ifdef NO_SWEEP_LOCK
#define AVAILABLE(c) (IN_HEAP(c) && !(alloc & BIT(c)))
#else
#define AVAILABLE(c) (IN_HEAP(c) && !(alloc & BIT(c)) && (swept & BIT(PAGE(c))))
#endif

#ifdef NO_NEW_WHITE
#define BIRTH (sweeping -> BLACK : white)
#else
#define BIRTH white
#endif

#ifdef NO_FREE_DELAY
#define FREE_NOW true
#else
#define FREE_NOW !marking
#endif
#ifdef NO_RETIRE_DELAY
#define RETIRE_NOW true
#else
#define RETIRE_NOW !marking
#endif

proctype Mutator(byte me) {
  byte cell = 0;
  do
  /* Plain loads and stores, one at a time. */
  :: d_step { RUNNING && R != 0 -> R = 0 }
  :: d_step { RUNNING && FRESH(global) && R != global -> R = global }
  :: d_step { RUNNING && global != R -> global = R }
  :: d_step { RUNNING && FRESH(R) && R != word[R] && (word[R] == 0 || FRESH(word[R])) -> R = word[R] }
  :: d_step { RUNNING && FRESH(global) && R != word[global] && FRESH(word[global]) -> R = word[global] }
  /* Stores that change nothing are stores, too. */
  :: d_step { RUNNING && FRESH(global) -> word[global] = R; WRITE(global) }
  :: d_step { RUNNING && FRESH(R) && FRESH(global) -> word[R] = global; WRITE(R) }
#ifdef COPIES
  /* A store into something else on a page. Without copies it would only have the same words scanned more often. */
  :: d_step { RUNNING && page[0] == CLEAN -> page[0] = WRITTEN }
  :: d_step { RUNNING && page[1] == CLEAN -> page[1] = WRITTEN }
#endif
  /* Allocation: the fast path is in the window or in the register at every instruction. */
  :: d_step { RUNNING && window[me] ->
       assert(!(object & BIT(window[me])));
       object = object | BIT(window[me]);
       R = window[me];
       window[me] = 0 }
  /* A refill: a critical section. */
  :: atomic { RUNNING && !window[me] ->
       if
       :: AVAILABLE(1) -> cell = 1
       :: AVAILABLE(2) -> cell = 2
#if CELLS > 2
       :: AVAILABLE(3) -> cell = 3
#endif
#if CELLS > 3
       :: AVAILABLE(4) -> cell = 4
#endif
       fi;
       sections++;
       alloc = alloc | BIT(cell) }
     mark[cell] = BIRTH;
     d_step { word[cell] = 0; WRITE(cell); window[me] = cell; cell = 0; sections-- }
#ifdef GROW
  /* A new chunk, whose pages nobody has armed. */
  :: d_step { RUNNING && !used -> used = 1 }
#endif
#ifdef FREE
  /* gc_free: a critical section, which looks once whether a cycle marks. */
  :: atomic { RUNNING && FRESH(R) ->
       cell = R;
       d_step { dangle(cell); sections++ }
       if
       :: FREE_NOW -> immediate++
       :: else -> d_step { freed = freed | BIT(cell); cell = 0; sections-- }
       fi }
     if
     :: atomic { cell == 0 -> skip }
     :: atomic { cell != 0 -> GIVE_BACK_1(cell) }
        d_step { GIVE_BACK_2(cell); cell = 0; sections--; immediate-- }
     fi
#endif
#ifdef RETIRE
  /* The end of a thread, which gives back its window; the next thread has its place. */
  :: atomic { RUNNING && window[me] ->
       cell = window[me];
       window[me] = 0;
       sections++;
       if
       :: RETIRE_NOW -> immediate++
       :: else -> d_step { freed = freed | BIT(cell); cell = 0; sections-- }
       fi }
     if
     :: atomic { cell == 0 -> skip }
     :: atomic { cell != 0 -> GIVE_BACK_1(cell) }
        d_step { GIVE_BACK_2(cell); cell = 0; sections--; immediate-- }
     fi
#endif
  od
}

/* The queue, the stack and the walk over a page are the state of one loop; each option is one step that others see. */
#define IDLE_MARKER (!to && !rest)
#define SETTLE                                                                                                         \
  if                                                                                                                   \
  :: to || rest -> busy = busy | BIT(me)                                                                               \
  :: else -> busy = busy & ~BIT(me)                                                                                    \
  fi

/* `to` was read from `from`, or from a root or by a first scan if that is 0. */
inline candidate() {
#ifdef COPIES
#ifdef NO_SEEN_LIMIT
  if
  :: from && !KNOWN(to) -> copy[from] = to
  :: else
  fi;
#endif
#ifdef NO_SEEN_BLACK
  if
  :: from -> copy[from] = to
  :: else
  fi;
#endif
  if
  :: from && to && KNOWN(to) && MARK(me, to) == BLACK -> copy[from] = to
  :: else
  fi;
#endif
  /* Black stays black, so this need not wait for the next step. */
  if
  :: to && (!KNOWN(to) || MARK(me, to) == BLACK) -> to = 0
  :: else
  fi;
  if
  :: !to -> from = 0
  :: else
  fi
}

#define TAKE(c)                                                                                                        \
  d_step { IDLE_MARKER && (grey & BIT(c)) -> grey = grey & ~BIT(c); to = BITS(word[c]); candidate(); SETTLE }

proctype Marker(byte me) {
  byte from = 0;
  byte to = 0;
  byte rest = 0;  /* bits: cells of the page that is scanned again */
  bit found_white = 0;
  do
  :: d_step { IDLE_MARKER && (roots & BIT(0)) -> roots = roots & ~BIT(0); to = BITS(global); candidate(); SETTLE }
  :: d_step { IDLE_MARKER && (roots & BIT(1)) -> roots = roots & ~BIT(1); to = BITS(reg[0]); candidate(); SETTLE }
#if MUTATORS > 1
  :: d_step { IDLE_MARKER && (roots & BIT(2)) -> roots = roots & ~BIT(2); to = BITS(reg[1]); candidate(); SETTLE }
#endif
  :: TAKE(1)
  :: TAKE(2)
#if CELLS > 2
  :: TAKE(3)
#endif
#if CELLS > 3
  :: TAKE(4)
#endif
  /* A dirty page. */
  :: d_step { IDLE_MARKER && (todo & BIT(0)) -> todo = todo & ~BIT(0); rest = ON_PAGE_0; SETTLE }
  :: d_step { IDLE_MARKER && (todo & BIT(1)) -> todo = todo & ~BIT(1); rest = ON_PAGE_1; SETTLE }
  :: d_step { !to && rest ->
       from = 1;
       do
       :: !(rest & BIT(from)) -> from++
       :: else -> break
       od;
       rest = rest & ~BIT(from);
       if
       :: MARK(me, from) == BLACK ->
          to = BITS(word[from]);
#ifdef COPIES
          if
          :: to == copy[from] -> to = 0; from = 0
          :: else -> copy[from] = 0
          fi
#endif
       :: else ->
#ifdef COPIES
#ifdef NO_SEEN_SCANNED
          copy[from] = BITS(word[from]);
#else
          copy[from] = 0;
#endif
#endif
          from = 0
       fi;
       candidate();
       SETTLE }
  /* The candidate leaves the queue: its mark byte is read, and stored a step later. */
  :: d_step { to && !found_white ->
       if
       :: MARK(me, to) == white -> found_white = 1
       :: else ->
          if
          :: MARK(me, to) == BLACK -> candidate()
          :: else -> to = 0; from = 0
          fi;
          SETTLE
       fi }
  :: d_step { found_white ->
       found_white = 0;
#ifdef WEAK
       late[me] = late[me] | BIT(to);
#else
       mark[to] = BLACK;
#endif
       grey = grey | BIT(to);
#ifdef COPIES
       if
       :: from -> copy[from] = to
       :: else
       fi;
#endif
       to = 0;
       from = 0;
       SETTLE }
#ifdef WEAK
  :: d_step { late[me] & BIT(1) -> late[me] = late[me] & ~BIT(1); mark[1] = BLACK }
  :: d_step { late[me] & BIT(2) -> late[me] = late[me] & ~BIT(2); mark[2] = BLACK }
#if CELLS > 2
  :: d_step { late[me] & BIT(3) -> late[me] = late[me] & ~BIT(3); mark[3] = BLACK }
#endif
#if CELLS > 3
  :: d_step { late[me] & BIT(4) -> late[me] = late[me] & ~BIT(4); mark[4] = BLACK }
#endif
#endif
  od
}

/* All markers are idle, and all that they stored is seen. */
#ifdef WEAK
#if MARKERS > 1
#define SEEN_BY_ALL (late[0] == 0 && late[1] == 0)
#else
#define SEEN_BY_ALL (late[0] == 0)
#endif
#else
#define SEEN_BY_ALL true
#endif
#define DONE (roots == 0 && todo == 0 && grey == 0 && busy == 0 && SEEN_BY_ALL)

#ifdef NO_UNARMED_DIRTY
#define IS_DIRTY(p) (page[p] == WRITTEN)
#else
#define IS_DIRTY(p) (page[p] != CLEAN)
#endif
#ifdef NO_REARM_FIRST
#define REARM(p) skip
#else
#define REARM(p) page[p] = CLEAN
#endif
#ifdef GROW
#define EXISTS(p) (p == 0 || used)
#define SEE_USED limit = used
#else
#define EXISTS(p) true
#define SEE_USED skip
#endif

/* The kernel's answer for one page, which it protects again before it answers. */
#define FETCH(p)                                                                                                       \
  if                                                                                                                   \
  :: EXISTS(p) && IS_DIRTY(p) -> dirty = dirty | BIT(p); REARM(p)                                                      \
  :: else                                                                                                              \
  fi
#define ARM(p)                                                                                                         \
  if                                                                                                                   \
  :: EXISTS(p) -> page[p] = CLEAN                                                                                      \
  :: else                                                                                                              \
  fi

/* With the program stopped: marks the target of a word. */
inline visit(v) {
  if
  :: v && IN_HEAP(v) && mark[v] == white -> mark[v] = BLACK; grey = grey | BIT(v)
  :: else
  fi
}

/* BLACK is what was white before the flip. */
#define DEAD(c) (mark[c] == BLACK || (freed & BIT(c)))
inline swept_away() {
  reach();
  assert(!(found & object & BIT(cell)));
  found = 0;
  object = object & ~BIT(cell);
  freed = freed & ~BIT(cell)
}
inline swept_cell() {
  if
  :: cell == FIRST_PAGE -> swept = swept | 1
  :: cell == CELLS -> swept = swept | 2
  :: else
  fi;
  cell++;
  if
  :: cell > CELLS -> sweeping = 0
  :: else
  fi
}

#ifdef COPIES
#define CHANGED(c) (BITS(word[c]) != copy[c])
#else
#define CHANGED(c) true
#endif
#if MUTATORS > 1
#define IN_WINDOW(c) (window[0] == (c) || window[1] == (c))
#else
#define IN_WINDOW(c) (window[0] == (c))
#endif
#ifdef NO_BARRIER
#define BARRIER skip
#else
#define BARRIER DONE
#endif

inline final() {
  /* What the heap's invariants say of a moment without critical sections. */
#ifndef REACHABLE_ONLY
  for (cell : 1 .. CELLS) {
    assert((mark[cell] != 0) == ((alloc & BIT(cell)) != 0));
    assert(((alloc & BIT(cell)) != 0) == (((object | freed) & BIT(cell)) != 0 || IN_WINDOW(cell)))
  }
#endif
  for (cell : 1 .. CELLS) {
    if
    :: (dirty & BIT(PAGE(cell))) && mark[cell] == BLACK && CHANGED(cell) -> visit(BITS(word[cell]))
    :: else
    fi
  }
#ifndef NO_ROOTS_AGAIN
  visit(BITS(global));
#ifndef NO_REGISTERS
  for (cell : 0 .. MUTATORS - 1) { visit(BITS(reg[cell])) }
#endif
#endif
  cell = 1;
  do
  :: grey == 0 -> break
  :: grey != 0 && (grey & BIT(cell)) -> grey = grey & ~BIT(cell); visit(BITS(word[cell])); cell = 1
  :: else -> cell++
  od;
  reach();
  for (cell : 1 .. CELLS) { assert(!(found & BIT(cell)) || mark[cell] == BLACK) }
  found = 0;
#ifndef NO_WINDOWS_MARKED
  for (cell : 0 .. MUTATORS - 1) {
    if
    :: window[cell] -> mark[window[cell]] = BLACK
    :: else
    fi
  }
#endif
  white = BLACK;
  marking = 0;
  sweeping = 1;
  swept = 0;
  dirty = 0;
#ifdef COPIES
#ifndef NO_COPIES_DROPPED
  for (cell : 1 .. CELLS) { copy[cell] = 0 }
#endif
#endif
  cell = 0
}

active proctype Collector() {
  byte cell = 0;
  byte dirty = 0; /* bits: pages */
  atomic {
    run Marker(0);
#if MARKERS > 1
    run Marker(1);
#endif
    run Mutator(0);
#if MUTATORS > 1
    run Mutator(1)
#endif
  }
  do
  :: marking = 1;
#ifndef NO_HANDSHAKE
     immediate == 0; /* who looked at `marking` before has finished what it began */
#endif
#ifdef NO_LIMIT_AFTER_ARMING
     SEE_USED;
#endif
#ifndef NO_ARM_FIRST
     ARM(0);
     d_step { ARM(1);
#ifndef NO_LIMIT_AFTER_ARMING
       SEE_USED;
#endif
       roots = ALL_ROOTS }
#else
     d_step { SEE_USED; roots = ALL_ROOTS }
     DONE;
     ARM(0);
     ARM(1);
#endif
     BARRIER;
     do
     :: break
     :: FETCH(0);
        d_step { FETCH(1);
#ifndef NO_LIMIT_AFTER_FETCH
          SEE_USED;
#endif
#ifdef ROOTS_IN_ROUNDS
          roots = ALL_ROOTS;
#endif
          todo = todo | dirty
#ifndef NO_REARM_FIRST
          ; dirty = 0
#endif
        }
        BARRIER;
#ifdef NO_REARM_FIRST
        d_step {
          for (cell : 0 .. 1) {
            if
            :: (dirty & BIT(cell)) -> page[cell] = CLEAN
            :: else
            fi
          }
          cell = 0; dirty = 0
        }
#endif
     od;
     DONE;
#ifdef NO_LAST_FETCH_STOPPED
     d_step { FETCH(0); FETCH(1) }
#endif
     stopping = 1;
     d_step { sections == 0 ->
#ifndef NO_LAST_FETCH_STOPPED
       FETCH(0);
       FETCH(1);
#endif
       final();
       stopping = 0 }
     /* The sweep, a span at a time. */
     cell = 1;
     do
     :: cell <= CELLS ->
        if
        :: atomic { DEAD(cell) -> SWEEP_1(cell) }
           d_step { SWEEP_2(cell); swept_away(); swept_cell() }
        :: d_step { !DEAD(cell) -> swept_cell() }
        fi
     :: cell > CELLS -> break
     od;
     cell = 0
  od
}
