---Every public Lua function says what it does and what it takes, directly above itself.
local tree = require "spec.support.tree"

local function block_above(lines, number)
  local block = {}
  for at = number - 1, 1, -1 do
    local text = lines[at]:match("^%-%-%-(.*)$")
    if not text then break end
    table.insert(block, 1, text)
  end
  return block
end

---Parameters that the block does not describe.
local function undescribed(block, parameters)
  local described = {}
  for _, text in ipairs(block) do
    local name = text:match("^@param%s+([%w_.]+)%??")
    if name then described[name] = true end
    if text:find("^@overload") or text:find("^@type fun") then return {} end
  end
  local found = {}
  for name in parameters:gmatch("[%w_.]+") do
    if not described[name] and not name:find("^_") and name ~= "self" then
      found[#found + 1] = name
    end
  end
  return found
end

local function each_public(folders, see)
  for _, path in ipairs(tree.files_in(folders, "%.lua$")) do
    local lines = tree.lines(path)
    for number, line in ipairs(lines) do
      local name, parameters = line:match("^function ([%w_]+[.:][%w_]+)%((.-)%)")
      if name and not name:find("[.:]__") then
        see(path, number, name, parameters, block_above(lines, number))
      end
    end
  end
end

local folders = { "stdlib", "recipes", "providers", "runtime/meta", "examples" }

describe("a public function", function()
  it("has one sentence above it", function()
    local found = {}
    each_public(folders, function(path, number, name, _, block)
      if not block[1] or block[1]:find("^@") or not block[1]:find("^%u") then
        found[#found + 1] = ("%s:%d: %s: begin its LuaCATS block with one sentence")
          :format(path, number, name)
      end
    end)
    tree.none(found)
  end)

  -- Not in examples: every entry of a recipe takes the run and its arguments.
  it("describes every parameter", function()
    local found = {}
    local strict = { "stdlib", "recipes", "providers", "runtime/meta" }
    each_public(strict, function(path, number, name, parameters, block)
      for _, parameter in ipairs(undescribed(block, parameters)) do
        found[#found + 1] = ("%s:%d: %s: no ---@param %s"):format(path, number, name, parameter)
      end
    end)
    tree.none(found)
  end)
end)
