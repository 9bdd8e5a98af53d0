---The pages of spec/users and spec/attack name specs that exist, and every spec of those folders.
local fs = require "rt.fs"
local tree = require "spec.support.tree"

local targets = tree.text("CMakeLists.txt") .. tree.text("spec/fuzz/CMakeLists.txt")

---Tells whether a name of a page's last column stands for something.
local function exists(folder, name)
  local target = name:match("^target `([%w-]+)`$")
  if target then return targets:find("add_custom_target(" .. target, 1, true) ~= nil end
  return (fs.stat(("%s/%s_spec.lua"):format(folder, name))
    or fs.stat(("spec/%s_spec.lua"):format(name)) or fs.stat(("spec/%s.c"):format(name))) ~= nil
end

describe("the page of a folder of specs", function()
  for _, folder in ipairs { "spec/users", "spec/attack" } do
    it("names specs that exist, and all that are there: " .. folder, function()
      local text, named, problems = tree.text(folder .. "/README.md"), {}, {}
      for row in text:gmatch("\n|[^\n]*|([^|\n]*)|") do
        for name in row:gmatch("[^;]+") do
          name = name:match("^%s*(.-)%s*$")
          named[name] = true
          local heading = name == "" or name == "spec" or name:find("^%-+$")
          if not heading and not exists(folder, name) then
            problems[#problems + 1] = "there is no " .. name
          end
        end
      end
      for _, path in ipairs(tree.files(folder, "_spec%.lua$")) do
        local name = path:match("([^/]+)_spec%.lua$")
        if not named[name] then problems[#problems + 1] = "the page does not name " .. name end
      end
      assert.same({}, problems)
    end)
  end
end)
