---What must hold for the readers of foreign bytes that Lua reaches: whatever the bytes are, a
---reader returns a value or raises a kiln.Error. What raises here is a finding.
local rt_tcp = require "rt.tcp"
local error_ = require "kiln.error"

---The world of the readers: the files have the fuzzer's bytes, and no name server is asked.
local files = {}
package.loaded["rt.fs"] = {
  read = function(path)
    if files[path] then return files[path] end
    return nil, { kind = "not_found", message = path .. ": no such file" }
  end,
  stat = function() return { uid = 0, mode = "0600" } end,
  glob = function()
    files.includes = files.includes - 1
    return files.includes > 0 and { "/included" } or {}
  end,
}
package.loaded["rt.tcp"] = {
  address = rt_tcp.address,
  look_up = function(name)
    if name:find "^www" then return { canonical = "web.example.org" } end
    return nil, { kind = "not_found", message = name .. ": no such host" }
  end,
}

local gzip = require "rt.gzip"
local rt_yaml = require "rt.yaml"
local config = require "kiln.ssh.config"
local json = require "kiln.json"
local known_hosts = require "kiln.ssh.known_hosts"
local user_data = require "kiln.user_data"
local yaml = require "kiln.yaml"

local MOST = 1 << 20 -- bytes that gzip may unpack to

---Calls a reader. Only an error that kiln made may come out.
---@return any? value nil: it refused
local function try(reader, ...)
  local ok, value = pcall(reader, ...)
  if ok then return value end
  if getmetatable(value) ~= "kiln.Error" then error("not a kiln.Error: " .. tostring(value), 0) end
  local text = value.message
  -- By its place, not by its words: libFuzzer learns words, and a message may quote the input.
  if value.kind == "error" or text:find "%.lua:%d+: " then
    error("a fault of Lua in a kiln.Error: " .. text, 0)
  end
  return nil
end

---What was read and written again is the same.
local function check_round(value, encode, decode)
  local text = encode(value)
  local again = encode(decode(text))
  if again ~= text then error(("written %q, then %q"):format(text, again), 0) end
end

local readers = {}

function readers.json(bytes)
  local value = try(json.decode, bytes)
  if value ~= nil then check_round(value, json.encode, json.decode) end
  try(json.decode, bytes, { last_wins = true })
end

function readers.yaml(bytes)
  local value = try(yaml.decode, bytes)
  if value == nil then return end
  -- NaN, tables inside themselves and the like can be read, and are refused when they are written.
  local ok, err = pcall(rt_yaml.encode, value)
  if ok then return check_round(value, rt_yaml.encode, yaml.decode) end
  if not tostring(err):find "cannot encode" then error(err, 0) end
end

function readers.known_hosts(bytes)
  files = { known = bytes }
  for _, host in ipairs { "web.example.org", "10.0.0.1", "::1" } do
    for _, port in ipairs { 22, 2222 } do
      local pins = try(known_hosts.pins, host, port, { "known" })
      if pins then try(known_hosts.without_revoked, pins, "known", host) end
    end
  end
end

function readers.ssh_config(bytes)
  local main, included = bytes:match "^([^\0]*)\0?(.*)$"
  for _, host in ipairs { "web", "www.example.org" } do
    files = { ["/config"] = main, ["/included"] = included, includes = 20 }
    try(config.resolve, host, { file = "/config", home = "/root" })
  end
end

function readers.user_data(bytes)
  local ours = { runcmd = { { "true" } }, ssh_keys = { ed25519_private = "key" } }
  try(user_data.join, ours, bytes)
  try(user_data.multipart, { { type = "x-shellscript", content = bytes, filename = "a" },
    { type = "cloud-config", content = bytes } })
end

function readers.gzip(bytes)
  local plain, err = gzip.unpack(bytes, MOST)
  if plain then
    local again = gzip.unpack(gzip.pack(plain), MOST)
    if again ~= plain then error("packed and unpacked, it is another text", 0) end
  elseif not error_.is(err, "invalid", "limit") then
    error("not an error of gzip: " .. tostring(err and err.kind), 0)
  end
end

return readers
