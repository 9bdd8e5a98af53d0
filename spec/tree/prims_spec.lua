---A primitive rt.x is runtime/prim/x.c, its twin runtime/meta/rt_x.lua and its spec; their names
---agree.
local tree = require "spec.support.tree"

local function prims()
  local list, by_name = {}, {}
  for _, path in ipairs(tree.files("runtime/prim", "%.c$")) do
    local name = path:match("/(%w+)%.c$")
    if name then
      by_name[name] = { path = path, name = name, text = tree.text(path) }
      list[#list + 1] = by_name[name]
    end
  end
  for _, path in ipairs(tree.files("runtime/prim", "_.*%.c$")) do -- x_part.c is a part of x
    local whole = by_name[path:match("/(%w+)_")]
    if whole then whole.text = whole.text .. tree.text(path) end
  end
  return list
end

---"rt.http Server" for `http_server_methods`, "rt.http" for `http_functions`; lower case, so that
---`ssh_session_methods` meets `Session`.
local function key(prim, class)
  return class and ("rt.%s %s"):format(prim, class:gsub("_", ""):lower()) or "rt." .. prim
end

---Names in the primitive's luaL_Reg tables: key -> set of names.
local function registered(prim)
  local tables = {}
  for name, body in prim.text:gmatch("static const luaL_Reg ([%w_]+)%[%]%s*=%s*(%b{})") do
    local class = name:match("^" .. prim.name .. "_(.+)_methods$")
    local at = name == prim.name .. "_functions" and key(prim.name)
      or class and key(prim.name, class)
    if at then
      tables[at] = tables[at] or {}
      -- What owns something gets its `close` from bridge/own.
      if class and prim.text:find("kl_own_class", 1, true) then tables[at].close = true end
      for entry in body:gmatch('{%s*"([^"]+)"') do
        if not entry:find("^__") then tables[at][entry] = true end
      end
    end
  end
  return tables
end

---Functions in the twin, in the same form.
local function declared(prim, twin)
  local tables = {}
  local module = twin:match("\nreturn ([%w_]+)%s*$")
  for owner, mark, name in twin:gmatch("\nfunction ([%w_]+)([.:])([%w_]+)%(") do
    local at = mark == "." and owner == module and key(prim.name) or key(prim.name, owner)
    tables[at] = tables[at] or {}
    tables[at][name] = true
  end
  local values = twin:match("\n%-%-%-@class rt%." .. prim.name .. "\n(.-)\nlocal ") or ""
  for name in values:gmatch("@field ([%w_]+)") do
    tables[key(prim.name)][name] = true
  end
  return tables
end

local function missing(from, to, say)
  for at, names in pairs(from) do
    for name in pairs(names) do
      if not (to[at] and to[at][name]) then say(at, name) end
    end
  end
end

describe("a primitive", function()
  it("opens the module of its file's name", function()
    local found = {}
    for _, prim in ipairs(prims()) do
      if not prim.text:find("KL_PRIM%(" .. prim.name .. "%)") then
        found[#found + 1] = ("%s:1: no KL_PRIM(%s)"):format(prim.path, prim.name)
      end
      if not prim.text:find("luaL_Reg " .. prim.name .. "_functions%[%]") then
        found[#found + 1] = ("%s:1: no luaL_Reg table %s_functions"):format(prim.path, prim.name)
      end
    end
    tree.none(found)
  end)

  it("has a twin and a spec", function()
    local found = {}
    for _, prim in ipairs(prims()) do
      for _, path in ipairs { ("runtime/meta/rt_%s.lua"):format(prim.name),
        ("spec/runtime/%s_spec.lua"):format(prim.name) } do
        if not tree.text(path) then
          found[#found + 1] = ("%s:1: write %s"):format(prim.path, path)
        end
      end
    end
    for _, path in ipairs(tree.files("runtime/meta", "%.lua$")) do
      local name = path:match("rt_([%w_]+)%.lua$")
      if not name or (name ~= "host" and not tree.text("runtime/prim/" .. name .. ".c")) then
        found[#found + 1] = path .. ":1: the twin of no primitive"
      end
    end
    tree.none(found)
  end)

  it("has the functions of its twin, and the twin has its", function()
    local found = {}
    for _, prim in ipairs(prims()) do
      local path = ("runtime/meta/rt_%s.lua"):format(prim.name)
      local twin = tree.text(path)
      if twin then
        local c, lua = registered(prim), declared(prim, twin)
        missing(c, lua, function(at, name)
          found[#found + 1] = ("%s:1: lacks %s of %s, which %s has")
            :format(path, name, at, prim.path)
        end)
        missing(lua, c, function(at, name)
          found[#found + 1] = ("%s:1: registers no %s of %s, which %s declares")
            :format(prim.path, name, at, path)
        end)
        if not twin:find("^%-%-%-@meta rt%." .. prim.name .. "\n") then
          found[#found + 1] = ("%s:1: first line `---@meta rt.%s`"):format(path, prim.name)
        end
      end
    end
    table.sort(found)
    tree.none(found)
  end)
end)
