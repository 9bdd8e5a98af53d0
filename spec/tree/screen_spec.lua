---What is printed goes through one module, which makes it safe to show.
local tree = require "spec.support.tree"

---Who else may write, and what: text that is kiln's or the recipe's own.
local others = {
  ["stdlib/kiln/cli/screen.lua"] = "the module itself",
  ["stdlib/kiln/cli/main.lua"] = "help, version, completion; kiln lua",
  ["stdlib/kiln/sandbox.lua"] = "print of a recipe that loads",
}

describe("printing", function()
  it("goes through kiln.cli.screen", function()
    local found = {}
    for _, path in ipairs(tree.files_in({ "stdlib", "recipes", "providers" }, "%.lua$")) do
      for number, line in ipairs(others[path] and {} or tree.lines(path)) do
        local code = line:gsub("%-%-.*$", "")
        code = code:gsub("io%.stdout:flush", "")
        for _, pattern in ipairs { "io%.stdout", "io%.stderr", "io%.write",
          "%f[%w_.]print%s*%(", "tty%.write", "tty%.read_line" } do
          if code:find(pattern) and not path:find "ssh/identity" then
            found[#found + 1] = ("%s:%d: write through kiln.cli.screen"):format(path, number)
          end
        end
      end
    end
    tree.none(found)
  end)
end)
