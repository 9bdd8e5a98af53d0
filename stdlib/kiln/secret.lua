---Secrets: opaque values from the environment, a file or a command, and their removal from output.
---
---A secret prints as `<secret>`; hand it on as it is to what takes "string or secret". Every one
---made here is known to `redact`.
local crypto = require "rt.crypto"
local fs = require "rt.fs"
local log = require "rt.log"
local proc = require "rt.proc"
local error_ = require "kiln.error"

local secret = {}

local MASK = "<secret>"
local SHORTEST = 4 -- bytes: shorter values would take away half of every text
local known = {} -- digest of the value -> true
local needles = {} -- what must not be seen
local is_needle = {}

local function add(text)
  if #text < SHORTEST or is_needle[text] then return end
  is_needle[text] = true
  needles[#needles + 1] = text
end

---The characters of its base64 that depend on the value alone, when `before` other bytes come first
---(RFC 4648, section 4: six bits a character).
local function add_base64(value)
  add(crypto.base64(value))
  for before = 0, 2 do
    local text = crypto.base64(("\0"):rep(before) .. value)
    local first = before == 0 and 1 or before + 2
    local core = text:sub(first, (before + #value) * 8 // 6)
    if #core >= 6 then
      add(core)
      add((core:gsub("[+/]", { ["+"] = "-", ["/"] = "_" }))) -- RFC 4648, section 5
    end
  end
end

---RFC 3986, section 2.1; forms write a blank as "+", some encoders use small letters or spare
---more characters.
local function add_url(value)
  for _, spared in ipairs { "%w%-%._~", "%w%-%._~!'%(%)%*", "%w%-%._~/" } do
    for _, format in ipairs { "%%%02X", "%%%02x" } do
      local text = value:gsub("[^" .. spared .. "]", function(c) return format:format(c:byte()) end)
      add(text)
      add((text:gsub("%%20", "+")))
    end
  end
end

---RFC 8259, section 7, as the usual encoders write it.
local function add_json(value)
  local short = { ['"'] = '\\"', ["\\"] = "\\\\", ["\n"] = "\\n", ["\t"] = "\\t", ["\r"] = "\\r",
    ["\b"] = "\\b", ["\f"] = "\\f" }
  local text = value:gsub('[%c"\\]', function(c)
    return short[c] or ("\\u%04x"):format(c:byte())
  end)
  add(text)
  add((text:gsub("/", "\\/")))
  add((text:gsub("[<>&']", function(c) return ("\\u%04x"):format(c:byte()) end)))
end

local function add_forms(value)
  add(value)
  if #value < SHORTEST then return end
  add_base64(value)
  add_url(value)
  add_json(value)
end

---Makes a secret known to `redact`, in every form. A value of several lines is known by its lines
---too, since output comes by line.
---@param value userdata|string the secret
---@return userdata secret
function secret.remember(value)
  local text = type(value) == "string" and value or crypto.reveal(value)
  local digest = crypto.sha256(text)
  if not known[digest] then
    known[digest] = true
    add_forms(text)
    if text:find("\n", 1, true) then
      for line in text:gmatch("[^\r\n]+") do
        if #line >= 8 and line:sub(1, 5) ~= "-----" then add_forms(line) end
      end
    end
    table.sort(needles, function(a, b) return #a > #b end)
  end
  return type(value) == "string" and crypto.secret(value) or value
end

---Tells whether a value is a secret.
---@param value any
---@return boolean
function secret.is(value)
  return crypto.is_secret(value)
end

local function make(text, from)
  if text == "" then
    error_.raise { kind = "invalid", message = ("the secret from %s is empty"):format(from) }
  end
  return secret.remember(text)
end

---Takes a secret from an environment variable. Raises `not_found`.
---@param name string
---@return userdata secret
function secret.from_env(name)
  local value = proc.getenv(name)
  if not value then
    error_.raise {
      kind = "not_found",
      message = ("a secret is missing: set the environment variable %s"):format(name),
    }
  end
  return make(value, "the environment variable " .. name)
end

---Takes a secret from a file, without the newline at its end. Raises `not_found`, `denied`.
---@param path string
---@return userdata secret
function secret.from_file(path)
  local text, err = fs.read(path, { max = 1024 * 1024 })
  error_.check(text, err, "a secret")
  return make((text:gsub("\r?\n$", "", 1)), path)
end

---Takes a secret from what a program writes, without the newline at its end. Raises `not_found`,
---`exit` with what the program says to its standard error, `timeout`.
---@async
---@param argv string[] the program and its arguments; no shell
---@param opts? { timeout: number? } seconds (60)
---@return userdata secret
function secret.from_command(argv, opts)
  local timeout = opts and opts.timeout or 60
  local result, err = proc.run { argv = argv, timeout = timeout, max_output = 1024 * 1024 }
  if not result and err.kind == "timeout" then -- its output may be half a secret
    error_.raise { kind = "timeout", message = "a secret: " .. err.message }
  end
  error_.check(result, err, "a secret")
  if result.code ~= 0 then
    error_.raise {
      kind = "exit",
      code = result.code,
      message = ("%s gave no secret: %s: %s"):format(argv[1],
        result.code and "exit status " .. result.code or "signal " .. result.signal,
        secret.redact(result.err):gsub("%s+$", "")),
    }
  end
  if result.truncated then
    error_.raise { kind = "limit", message = ("the secret from %s is too long"):format(argv[1]) }
  end
  return make((result.out:gsub("\r?\n$", "", 1)), argv[1])
end

---All places of the text where something secret is, as a sorted list of { from, to }.
local function places(text)
  local found = {}
  for _, needle in ipairs(needles) do
    local at = 1
    while true do
      local from, to = text:find(needle, at, true)
      if not from then break end
      found[#found + 1] = { from, to }
      at = from + 1
    end
  end
  table.sort(found, function(a, b) return a[1] < b[1] end)
  return found
end

---Replaces every known secret in a text by `<secret>`: as it is, in base64 (at any place in other
---bytes), escaped for a URL or for JSON. Values shorter than 4 bytes stay.
---@param text string
---@return string
function secret.redact(text)
  local found = places(text)
  if #found == 0 then return text end
  local out, done, index = {}, 0, 1
  while index <= #found do
    local from, to = found[index][1], found[index][2]
    index = index + 1
    while found[index] and found[index][1] <= to + 1 do
      to = math.max(to, found[index][2])
      index = index + 1
    end
    out[#out + 1] = text:sub(done + 1, from - 1)
    out[#out + 1] = MASK
    done = to
  end
  out[#out + 1] = text:sub(done + 1)
  return table.concat(out)
end

---Replaces every known secret in the texts of a table, at any depth, in a copy with the same
---metatables. Anything but a text or a table stays as it is.
---@generic T
---@param value T
---@return T
function secret.redact_fields(value)
  if #needles == 0 then return value end
  local copies = {}
  local function copy(item)
    if type(item) == "string" then return secret.redact(item) end
    if type(item) ~= "table" then return item end
    if copies[item] then return copies[item] end
    local out = {}
    copies[item] = out
    for key, field in next, item do out[copy(key)] = copy(field) end
    return setmetatable(out, getmetatable(item))
  end
  return copy(value)
end

log.filter(secret.redact)

return secret
