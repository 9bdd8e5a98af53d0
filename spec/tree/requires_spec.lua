---Floors of the Lua side: recipes and providers see kiln.*, only stdlib sees rt.*.
local tree = require "spec.support.tree"

---Modules that a folder's files may require, by pattern.
local allowed = {
  stdlib = { "^rt%.", "^kiln%.", "^recipes%.", "^argparse$" },
  recipes = { "^kiln%.", "^recipes%." },
  providers = { "^kiln%." },
  examples = { "^kiln%.", "^recipes%." },
}

---The local provider is no client of a cloud: it makes one, with this host's files and programs.
local exceptions = {
  ["providers/local"] = { "^rt%.machine$", "^rt%.snapshot$", "^rt%.fs$", "^rt%.proc$", "^rt%.json$",
    "^rt%.crypto$", "^rt%.timer$" },
}

local function matches(patterns, module)
  for _, pattern in ipairs(patterns or {}) do
    if module:find(pattern) then return true end
  end
  return false
end

local function may(path, module)
  local beside = path:match("^(.*/)") .. module .. ".lua"
  if path:find("^examples/") and tree.text(beside) then return true end
  local folder, own = path:match("^(%w+)"), path:match("^providers/%w+")
  if own and module:find("^" .. own:gsub("/", "%%.") .. "%f[.\0]") then return true end
  return matches(allowed[folder], module) or own and matches(exceptions[own], module)
end

local function each_require(folders, see)
  for _, path in ipairs(tree.files_in(folders, "%.lua$")) do
    for number, line in ipairs(tree.lines(path)) do
      local code = line:gsub("%-%-.*$", "")
      for module in code:gmatch("%f[%w_]require%s*%(?%s*[\"']([^\"']+)[\"']") do
        if not module:find("%%") and not module:find("%.$") then see(path, number, module) end
      end
    end
  end
end

local folders = { "stdlib", "recipes", "providers", "examples" }

describe("a Lua file", function()
  it("requires only what its folder may see", function()
    local found = {}
    each_require(folders, function(path, number, module)
      if not may(path, module) then
        found[#found + 1] = ("%s:%d: %s; %s may require %s"):format(path, number, module,
          path:match("^%w+"), (table.concat(allowed[path:match("^%w+")], " "):gsub("[%^%%$]", "")))
      end
    end)
    tree.none(found)
  end)

  it("requires modules that are there", function()
    local found = {}
    each_require(folders, function(path, number, module)
      local file = module:gsub("%.", "/")
      local places = {
        "stdlib/" .. file .. ".lua", "stdlib/" .. file .. "/init.lua", file .. ".lua",
        file .. "/init.lua", "runtime/prim/" .. file:gsub("^rt/", "") .. ".c",
        path:match("^(.*/)") .. file .. ".lua",
      }
      if module == "argparse" or module == "rt.host" then return end
      for _, place in ipairs(places) do
        if tree.text(place) then return end
      end
      found[#found + 1] = ("%s:%d: there is no module %s"):format(path, number, module)
    end)
    tree.none(found)
  end)

  it("names no provider, except the one place that opens a cloud", function()
    local found = {}
    for _, path in ipairs(tree.files_in(folders, "%.lua$")) do
      for number, line in ipairs(tree.lines(path)) do
        local code = line:gsub("%-%-.*$", "")
        if code:find("require") and code:find("[\"']providers%.")
          and path ~= "stdlib/kiln/provider.lua" and not path:find("^providers/") then
          found[#found + 1] = ("%s:%d: requires a provider; the cloud is run.cloud")
            :format(path, number)
        end
      end
    end
    tree.none(found)
  end)

  it("has no inline exception from luacheck", function()
    local found = {}
    for _, path in ipairs(tree.files_in({ "stdlib", "recipes", "providers", "examples", "runtime",
      "spec" }, "%.lua$")) do
      for number, line in ipairs(tree.lines(path)) do
        if line:find("%-%-%s*luacheck" .. ":") then
          found[#found + 1] = path .. ":" .. number .. ": mend the code instead"
        end
      end
    end
    tree.none(found)
  end)
end)
