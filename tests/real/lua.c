/* Lua 5.4 on gc_realloc, with an allocator that never frees.
 *
 * Lua's own collector unlinks what is dead and asks for it to be freed; on the collector that request is dropped, so
 * the memory comes back only by being found unreachable. The order of pairs() depends on Lua's random seed: the script
 * prints nothing that depends on it. */
#include "real.h"

#include <gcrt.h>
#include <lauxlib.h>
#include <lua.h>
#include <lualib.h>
#include <stdio.h>
#include <stdlib.h>

static const char script[] =
    "local function tree(depth)\n"
    "  if depth == 0 then return {} end\n"
    "  return {tree(depth - 1), tree(depth - 1)}\n"
    "end\n"
    "local function count(t) return t[1] and 1 + count(t[1]) + count(t[2]) or 1 end\n"
    "local long = tree(12)\n"
    "for depth = 4, 12, 2 do\n"
    "  local trees, nodes = 1 << (18 - depth), 0\n"
    "  for i = 1, trees do nodes = nodes + count(tree(depth)) end\n"
    "  print('trees', trees, 'depth', depth, 'nodes', nodes)\n"
    "end\n"
    "print('long lived', count(long))\n"
    "local parts = {}\n"
    "for i = 1, 8000 do parts[#parts + 1] = ('%d:%s'):format(i, ('ab'):rep(i % 37)) end\n"
    "local text = table.concat(parts, ' ')\n"
    "print(#text, select(2, text:gsub('b', 'b')), text:sub(-300))\n"
    "local s = ''\n"
    "for i = 1, 8000 do s = s .. string.char(97 + i * i % 26) end\n"
    "print(s:reverse():upper())\n"
    "local words = {}\n"
    "for word in text:gmatch('%w+') do words[word] = (words[word] or 0) + 1 end\n"
    "local keys = {}\n"
    "for word in pairs(words) do keys[#keys + 1] = word end\n"
    "table.sort(keys)\n"
    "local sum = 0\n"
    "for i, key in ipairs(keys) do sum = (sum * 31 + words[key] * i + #key) % 1000000007 end\n"
    "print(#keys, sum, keys[1], keys[#keys])\n"
    "local counter = {}\n"
    "counter.__add = function(a, b) return setmetatable({n = a.n + b.n}, counter) end\n"
    "local total = setmetatable({n = 0}, counter)\n"
    "for i = 1, 400000 do total = total + setmetatable({n = i}, counter) end\n"
    "print('metatables', total.n)\n"
    "local out = {}\n"
    "for i = 1, 300 do\n"
    "  local co = coroutine.wrap(function(n)\n"
    "    local mine = {}\n"
    "    while true do mine[#mine + 1] = {n, tostring(n)}; n = n + coroutine.yield(#mine .. mine[#mine][2]) end\n"
    "  end)\n"
    "  for j = 1, 40 do out[i] = co(i * j) end\n"
    "end\n"
    "print(table.concat(out, ','))\n"
    "local weak = setmetatable({}, {__mode = 'k'})\n"
    "for i = 1, 5000 do weak[{}] = i end\n"
    "collectgarbage()\n"
    "print('weak left', next(weak))\n"
    "print(pcall(error, {code = 7}) == false, select('#', table.unpack({}, 1, 200)))\n";

static void *allocate_collected(void *unused, void *p, size_t old_size, size_t size) {
  (void)unused;
  (void)old_size;
  return size == 0 ? NULL : gc_realloc(p, size);
}

static void *allocate_libc(void *unused, void *p, size_t old_size, size_t size) {
  (void)unused;
  (void)old_size;
  if (size == 0) {
    free(p);
    return NULL;
  }
  return realloc(p, size);
}

static int run(bool collected) {
  lua_State *L = lua_newstate(collected ? allocate_collected : allocate_libc, NULL);
  if (L == NULL) return 2;
  luaL_openlibs(L);
  int error = luaL_dostring(L, script);
  if (error) fprintf(stderr, "lua: %s\n", lua_tostring(L, -1));
  lua_close(L);
  return error ? 1 : 0;
}

const struct real_program real_program = {"lua", run};
