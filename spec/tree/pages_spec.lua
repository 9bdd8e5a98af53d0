---The pages of spec/users and spec/attack name specs that exist.
local fs = require "rt.fs"
local tree = require "spec.support.tree"

local targets = tree.text("CMakeLists.txt")

---Tells whether a name of a page's last column stands for something.
local function exists(folder, name)
  local target = name:match("^target `([%w-]+)`$")
  if target then return targets:find("add_custom_target(" .. target, 1, true) ~= nil end
  return (fs.stat(("%s/%s_spec.lua"):format(folder, name))
    or fs.stat(("spec/%s_spec.lua"):format(name)) or fs.stat(("spec/%s.c"):format(name))) ~= nil
end

describe("the page of a folder of specs", function()
  for _, folder in ipairs { "spec/users", "spec/attack" } do
    it("names specs that exist: " .. folder, function()
      local text, problems = tree.text(folder .. "/README.md"), {}
      for row in text:gmatch("\n|[^\n]*|([^|\n]*)|") do
        for name in row:gmatch("[^;]+") do
          name = name:match("^%s*(.-)%s*$")
          local heading = name == "" or name == "spec" or name:find("^%-+$")
          if not heading and not exists(folder, name) then
            problems[#problems + 1] = "there is no " .. name
          end
        end
      end
      assert.same({}, problems)
    end)
  end
end)
