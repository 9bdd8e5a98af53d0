---User-data for machines, put together from fragments.
local json = require "rt.json"
local rt_cloudinit = require "rt.cloudinit"
local error_ = require "kiln.error"

local cloudinit = {}

local function conflict(path, a, b)
  error_.raise {
    kind = "invalid",
    message = ("two fragments of the user-data set %s: %s and %s")
      :format(path, tostring(a), tostring(b)),
  }
end

---Merges b into a copy of a: lists append, maps merge, different scalars conflict.
local function merge(a, b, path)
  if type(a) ~= "table" or type(b) ~= "table" then
    if a == b then return a end
    conflict(path, a, b)
  end
  local lists = json.is_array(a) or json.is_array(b)
  if lists and not (json.is_array(a) and json.is_array(b)) then
    conflict(path, "a list", "a map")
  end
  local out = lists and json.array {} or {}
  for key, value in pairs(a) do out[key] = value end
  for key, value in pairs(b) do
    if lists then
      out[#a + key] = value
    elseif out[key] == nil then
      out[key] = value
    else
      out[key] = merge(out[key], value, path == "" and tostring(key) or path .. "." .. key)
    end
  end
  return out
end

---Renders fragments, merged, as one cloud-config: lists append, maps merge, a scalar that two
---fragments set differently raises `invalid`. Raises `limit` when it is too long for the cloud.
---@param fragments table[]
---@param opts? { max_bytes: integer? } (65536)
---@return string text
function cloudinit.config(fragments, opts)
  local merged = {}
  for _, fragment in ipairs(fragments) do merged = merge(merged, fragment, "") end
  return error_.check(rt_cloudinit.config(merged, opts))
end

---Renders several parts as one MIME document.
---@param parts { type: string, content: string, filename: string? }[]
---@param opts? { max_bytes: integer? } (65536)
---@return string text
function cloudinit.multipart(parts, opts)
  return error_.check(rt_cloudinit.multipart(parts, opts))
end

---A fragment that writes a file at first boot.
---@param path string absolute
---@param content string
---@param opts? { mode: string?, owner: string? } ("0644", "root:root")
---@return table fragment
function cloudinit.write_file(path, content, opts)
  opts = opts or {}
  return { write_files = { {
    path = path, content = content, permissions = opts.mode or "0644",
    owner = opts.owner or "root:root",
  } } }
end

---Quotes a value for systemd's EnvironmentFile= (systemd.exec(5)): in double quotes, with the
---characters escaped that keep a meaning there.
local function env_quote(name, value)
  value = tostring(value)
  if value:find("[%z\n\r]") then
    error_.raise { kind = "invalid",
      message = ("environment variable %s has a line break or a NUL"):format(name) }
  end
  return '"' .. value:gsub('[\\"$`]', "\\%0") .. '"'
end

---A fragment that writes an environment file, for a unit's EnvironmentFile=.
---@param path string absolute
---@param variables table<string, string|number|boolean>
---@param opts? { mode: string?, owner: string? } ("0640", "root:root")
---@return table fragment
function cloudinit.env_file(path, variables, opts)
  local names = {}
  for name in pairs(variables) do
    if type(name) ~= "string" or not name:find("^[%a_][%w_]*$") then
      error_.raise { kind = "invalid",
        message = ("'%s' is no name of an environment variable"):format(tostring(name)) }
    end
    names[#names + 1] = name
  end
  table.sort(names)
  local lines = {}
  for index, name in ipairs(names) do
    lines[index] = name .. "=" .. env_quote(name, variables[name]) .. "\n"
  end
  return cloudinit.write_file(path, table.concat(lines), {
    mode = opts and opts.mode or "0640", owner = opts and opts.owner,
  })
end

---A fragment that runs commands at the end of the first boot.
---@param ... string|string[] shell text, or an argument vector
---@return table fragment
function cloudinit.run(...)
  return { runcmd = { ... } }
end

return cloudinit
