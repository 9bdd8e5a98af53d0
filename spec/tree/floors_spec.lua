---Floors of the C side: an #include goes down or sideways, never up.
local tree = require "spec.support.tree"

local floors = { base = 0, io = 1, bridge = 2, prim = 3, host = 4, main = 5 }

---Floors that do not know each other, and what each kind of library header stays below.
local strangers = { io = "bridge", bridge = "io" }
local lua_headers = { ["lua.h"] = true, ["lauxlib.h"] = true, ["lualib.h"] = true }
local libraries = {
  ["curl/"] = "libcurl", ["libssh2"] = "libssh2", ["openssl/"] = "OpenSSL", ["sqlite3"] = "SQLite",
  ["yaml.h"] = "libyaml", ["microhttpd"] = "libmicrohttpd",
}

local function floor_of(path)
  return path:match("^runtime/(%w+)/") or path:match("^runtime/(main)%.c$")
end

---Calls `see` with every #include of the C sources.
local function each_include(see)
  for _, path in ipairs(tree.files("runtime", "%.[ch]$")) do
    for number, line in ipairs(tree.lines(path)) do
      local mark, header = line:match('^%s*#%s*include%s*([<"])([^>"]+)[>"]')
      if header then see(path, number, header, mark == '"') end
    end
  end
end

describe("the floors", function()
  it("hold every C file", function()
    local found = {}
    for _, path in ipairs(tree.files("runtime", "%.[ch]$")) do
      if not floors[floor_of(path) or ""] then
        found[#found + 1] = path .. ":1: on no floor; move it to base, io, bridge, prim or host"
      end
    end
    tree.none(found)
  end)

  it("include no higher floor", function()
    local found = {}
    each_include(function(path, number, header, own)
      local mine, theirs = floor_of(path), header:match("^(%w+)/")
      if not own or not floors[theirs or ""] then return end
      if floors[theirs] > floors[mine] then
        found[#found + 1] = ("%s:%d: %s includes %s; the lower floor must not know the higher one")
          :format(path, number, mine, header)
      elseif strangers[mine] == theirs then
        found[#found + 1] = ("%s:%d: %s includes %s; prim joins the two")
          :format(path, number, mine, header)
      end
    end)
    tree.none(found)
  end)

  it("name kiln's headers by floor and file", function()
    local found = {}
    each_include(function(path, number, header, own)
      if own and not header:find("%.inc$") and not floors[header:match("^(%w+)/") or ""] then
        found[#found + 1] = ('%s:%d: "%s": write it as "floor/file.h"')
          :format(path, number, header)
      end
    end)
    tree.none(found)
  end)

  it("keep lua.h out of base and io", function()
    local found = {}
    each_include(function(path, number, header)
      local mine = floor_of(path)
      if (mine == "base" or mine == "io") and lua_headers[header] then
        found[#found + 1] = ("%s:%d: %s in %s; what needs Lua belongs to prim or bridge")
          :format(path, number, header, mine)
      end
    end)
    tree.none(found)
  end)

  it("keep libraries out of base and bridge", function()
    local found = {}
    each_include(function(path, number, header, own)
      local mine = floor_of(path)
      if own or (mine ~= "base" and mine ~= "bridge") then return end
      if header == "openssl/crypto.h" then return end -- OPENSSL_cleanse
      for start, library in pairs(libraries) do
        if header:sub(1, #start) == start then
          found[#found + 1] = ("%s:%d: %s in %s; a library belongs to io")
            :format(path, number, library, mine)
        end
      end
    end)
    tree.none(found)
  end)
end)

describe("waiting", function()
  local own = "runtime/bridge/coroutine.c" -- coroutines of Lua code's own: no task waits there

  local function only_in(name, home)
    local found = {}
    for _, path in ipairs(tree.files("runtime", "%.[ch]$")) do
      tree.each_code_line(path, function(line, number)
        if path ~= home and path ~= own and line:find("%f[%w_]" .. name .. "%s*%(") then
          found[#found + 1] = ("%s:%d: %s; only %s does this"):format(path, number, name, home)
        end
      end)
    end
    tree.none(found)
  end

  it("yields in one file", function()
    only_in("lua_yieldk?", "runtime/bridge/op.c")
  end)

  it("resumes in one file", function()
    only_in("lua_resume", "runtime/bridge/sched.c")
  end)

  it("is the last thing a primitive does", function()
    local found = {}
    for _, path in ipairs(tree.files("runtime", "%.c$")) do
      if path ~= "runtime/bridge/op.c" then
        tree.each_code_line(path, function(line, number)
          if line:find("kl_op_wait%s*%(") and not line:find("return kl_op_wait%s*%(") then
            found[#found + 1] = path .. ":" .. number .. ": write `return kl_op_wait(…)`"
          end
        end)
      end
    end
    tree.none(found)
  end)
end)

describe("below the host", function()
  it("nothing prints or exits; out of memory aborts", function()
    local found = {}
    local banned = { "printf", "puts", "putchar", "perror", "exit", "err", "errx", "warn" }
    for _, path in ipairs(tree.files("runtime", "%.c$")) do
      local floor = floor_of(path)
      if floor ~= "host" and floor ~= "main" then
        tree.each_code_line(path, function(line, number)
          for _, name in ipairs(banned) do
            if line:find("%f[%w_]" .. name .. "%s*%(") then
              found[#found + 1] = ("%s:%d: %s(); set a kl_failure, or raise")
                :format(path, number, name)
            end
          end
          if line:find("%f[%w_]stderr%f[^%w_]") or line:find("%f[%w_]stdout%f[^%w_]") then
            found[#found + 1] = ("%s:%d: a standard stream below the host"):format(path, number)
          end
        end)
      end
    end
    tree.none(found)
  end)
end)
