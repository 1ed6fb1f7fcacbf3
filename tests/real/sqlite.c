/* SQLite in memory on gc_alloc, by SQLITE_CONFIG_MALLOC, with an xFree that does nothing.
 *
 * The database, its page cache, statements and rows are collected objects; the library's global variables and the
 * connection on this stack are what holds them. */
#include "real.h"

#include <gcrt.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>

enum { ROUNDS = 4, ROWS = 4000 };

static void *xmalloc(int size) { return gc_alloc((size_t)size); }
static void xfree(void *p) { (void)p; }
static void *xrealloc(void *p, int size) { return gc_realloc(p, (size_t)size); }
static int xsize(void *p) { return (int)gc_usable_size(p); }
static int xroundup(int size) { return (size + 7) & ~7; }
static int xinit(void *unused) {
  (void)unused;
  return SQLITE_OK;
}
static void xshutdown(void *unused) { (void)unused; }

static int print_row(void *unused, int columns, char **values, char **names) {
  (void)unused;
  for (int i = 0; i < columns; i++)
    printf("%s%s=%s", i > 0 ? " " : "", names[i], values[i] != NULL ? values[i] : "NULL");
  printf("\n");
  return 0;
}

static void require(sqlite3 *db, int result, const char *what) {
  if (result == SQLITE_OK || result == SQLITE_DONE || result == SQLITE_ROW) return;
  fprintf(stderr, "sqlite: %s: %s\n", what, db != NULL ? sqlite3_errmsg(db) : sqlite3_errstr(result));
  exit(1);
}

static void execute(sqlite3 *db, const char *sql) { require(db, sqlite3_exec(db, sql, print_row, NULL, NULL), sql); }

static void insert_rows(sqlite3 *db, int round) {
  sqlite3_stmt *insert;
  const char *sql = "insert into item(id, owner, name, price) values(?, ?, ?, ?)";
  require(db, sqlite3_prepare_v2(db, sql, -1, &insert, NULL), sql);
  execute(db, "begin");
  for (int i = 0; i < ROWS; i++) {
    char *name = sqlite3_mprintf("item %d of round %d %.*c", i, round, i % 90 + 1, 'a' + i % 26);
    sqlite3_bind_int(insert, 1, round * ROWS + i);
    sqlite3_bind_int(insert, 2, i * 7 % 100);
    sqlite3_bind_text(insert, 3, name, -1, sqlite3_free);
    sqlite3_bind_double(insert, 4, (i * 37 % 1000) / 4.0);
    require(db, sqlite3_step(insert), sql);
    require(db, sqlite3_reset(insert), sql);
  }
  execute(db, "commit");
  require(db, sqlite3_finalize(insert), sql);
}

static void ask(sqlite3 *db) {
  execute(db, "select owner.name as who, count(*) as items, sum(price) as sum, max(item.name) as last from item "
              "join owner on owner.id = item.owner group by owner.id order by sum desc, who");
  execute(db, "select a.id as a, b.id as b from item a join item b on a.price = b.price and a.id < b.id "
              "where a.owner = 14 order by a.id, b.id limit 40");
  execute(db, "with recursive fib(n, a, b) as (select 1, 0, 1 union all select n + 1, b, a + b from fib where n < 80) "
              "select group_concat(a, ' ') as fibonacci from fib");
  execute(db, "select upper(substr(name, 1, 30)) as name, price from item where name like '%7 of%' "
              "order by name, price limit 30");
}

/* One statement after the other, each parsed, run and forgotten: the small garbage of a server. */
static void ask_often(sqlite3 *db) {
  long long sum = 0;
  for (int i = 0; i < 6000; i++) {
    sqlite3_stmt *select;
    char sql[128];
    snprintf(sql, sizeof sql, "select length(name) + %d, name || 'x' from item where id = %d", i, i % (ROWS / 2));
    require(db, sqlite3_prepare_v2(db, sql, -1, &select, NULL), sql);
    while (sqlite3_step(select) == SQLITE_ROW) sum += sqlite3_column_int(select, 0) + sqlite3_column_bytes(select, 1);
    require(db, sqlite3_finalize(select), sql);
  }
  printf("sum of small questions: %lld\n", sum);
}

static void work(int round) {
  sqlite3 *db;
  require(NULL, sqlite3_open(":memory:", &db), "open");
  execute(db, "create table owner(id integer primary key, name text);"
              "create table item(id integer primary key, owner integer, name text, price real);"
              "create index item_by_owner on item(owner, price);"
              "with recursive n(i) as (select 0 union all select i + 1 from n where i < 99) "
              "insert into owner select i, 'owner ' || i from n");
  insert_rows(db, 0);
  insert_rows(db, 1);
  ask(db);
  ask_often(db);
  execute(db, "update item set price = price + owner where id % 3 = 0; delete from item where id % 5 = 0; vacuum");
  ask(db);
  printf("round %d: ", round);
  execute(db, "pragma integrity_check");
  require(db, sqlite3_close(db), "close");
}

static int run(bool collected) {
  static const sqlite3_mem_methods methods = {xmalloc, xfree, xrealloc, xsize, xroundup, xinit, xshutdown, NULL};
  if (collected) require(NULL, sqlite3_config(SQLITE_CONFIG_MALLOC, &methods), "config");
  require(NULL, sqlite3_config(SQLITE_CONFIG_LOOKASIDE, 0, 0), "config");
  for (int round = 0; round < ROUNDS; round++) work(round);
  return 0;
}

const struct real_program real_program = {"sqlite", run};
