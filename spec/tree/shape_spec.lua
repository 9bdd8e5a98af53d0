---Sizes, names and first lines: what keeps the listing readable.
local tree = require "spec.support.tree"

local lua = { "stdlib", "recipes", "providers", "examples" }
local product = { "runtime", "stdlib", "recipes", "providers", "examples" }
local everywhere = { "runtime", "stdlib", "recipes", "providers", "examples", "spec" }

describe("a source file", function()
  it("has one subject's length", function()
    local found = {}
    for _, path in ipairs(tree.files_in(everywhere, "%.[chl][ua]?a?$")) do
      local count = #tree.lines(path)
      local part = path:find("%.h$") or path == "runtime/main.c" or path:find("^runtime/meta/")
        or path:find("^spec/support/") or path:find("^spec/bench/")
      if count > 400 then
        found[#found + 1] = ("%s:%d: over 400 lines; it has two subjects, split it")
          :format(path, count)
      elseif count < 20 and not part then
        found[#found + 1] = ("%s:%d: under 20 lines; join it with what it belongs to")
          :format(path, count)
      end
    end
    tree.none(found)
  end)

  it("is not called after its shape", function()
    local found = {}
    local banned = { utils = true, util = true, helpers = true, helper = true, common = true,
      misc = true, manager = true }
    for _, path in ipairs(tree.files_in(everywhere)) do
      for part in path:gmatch("[^/.]+") do
        if banned[part:lower()] then
          found[#found + 1] = path .. ":1: name it after what it does"
        end
      end
    end
    tree.none(found)
  end)

  it("says in its first line what it is for", function()
    local found = {}
    for _, path in ipairs(tree.files_in({ "runtime", "examples", "spec" }, "%.[ch]$")) do
      if not (tree.lines(path)[1] or ""):find("^// %S") then
        found[#found + 1] = path .. ":1: begin with `// name: what it is for.`"
      end
    end
    for _, path in ipairs(tree.files_in(lua, "%.lua$")) do
      if not (tree.lines(path)[1] or ""):find("^%-%-%-%S") then
        found[#found + 1] = path .. ":1: begin with `---What it is for.`"
      end
    end
    tree.none(found)
  end)

  it("is C, Lua or embedded shell where it is the product", function()
    local found = {}
    local fine = { c = true, h = true, lua = true, md = true, txt = true, service = true,
      gitignore = true, sh = true, project = true }
    for _, path in ipairs(tree.files_in(product)) do
      if not fine[path:match("%.([^./]+)$") or ""] then
        found[#found + 1] = path .. ":1: neither C nor Lua, nor shell that is sent or packed"
      end
    end
    tree.none(found)
  end)
end)

describe("a C function", function()
  it("ends within 60 lines", function()
    local found = {}
    for _, path in ipairs(tree.files_in({ "runtime", "examples" }, "%.c$")) do
      local start, name, last
      for number, line in ipairs(tree.lines(path)) do
        if line == "{" then start, name = number, last end
        if line == "}" and start then
          if number - start > 60 then
            found[#found + 1] = ("%s:%d: %d lines; split it: %s")
              :format(path, start, number - start, name)
          end
          start = nil
        end
        last = line
      end
    end
    tree.none(found)
  end)

  it("jumps only to its end", function()
    local found = {}
    for _, path in ipairs(tree.files_in({ "runtime", "examples" }, "%.c$")) do
      tree.each_code_line(path, function(line, number)
        local label = line:match("%f[%w_]goto%s+([%w_]+)")
        if label and label ~= "out" then
          found[#found + 1] = ("%s:%d: goto %s; only `out:`, at the end")
            :format(path, number, label)
        end
        if line:find("%f[%w_]alloca%s*%(") then
          found[#found + 1] = ("%s:%d: alloca"):format(path, number)
        end
      end)
    end
    tree.none(found)
  end)
end)
