---Secrets: opaque values from the environment, a file or a command, and their removal from output.
---
---A secret prints as `<secret>`; hand it on as it is to what takes "string or secret". Every one
---made here is known to `redact`.
local crypto = require "rt.crypto"
local fs = require "rt.fs"
local json = require "rt.json"
local log = require "rt.log"
local proc = require "rt.proc"
local error_ = require "kiln.error"
local forms = require "kiln.secret_forms"

local secret = {}

local MASK = "<secret>"

---@class kiln.secret.Known a value, and every text that gives it away
---@field source? string where it comes from, and comes from again in a resumed run: "env NAME"
---@field forms table<string, string> form's name -> text
---@type table<string, kiln.secret.Known>
local known = {} -- by the value's digest
local needles = {} -- what must not be seen, the longest first
local found_as = {} -- text -> { entry, form }

---Makes a secret known to `redact` and `seal`, in every form.
---@param value userdata|string the secret
---@param source? string "env NAME", "file PATH" or "command [argv as JSON]"
---@return userdata secret
function secret.remember(value, source)
  local text = type(value) == "string" and value or crypto.reveal(value)
  local digest = crypto.sha256(text)
  local entry = known[digest]
  if not entry then
    entry = { forms = forms.of(text) }
    known[digest] = entry
    for _, name in ipairs(forms.names(entry.forms)) do
      local form = entry.forms[name]
      if not found_as[form] then
        found_as[form] = { entry, name }
        needles[#needles + 1] = form
      end
    end
    table.sort(needles, function(x, y) return #x > #y end)
  end
  entry.source = entry.source or source
  return type(value) == "string" and crypto.secret(value) or value
end

---Tells whether any secret is known.
---@return boolean
function secret.knows_any()
  return #needles > 0
end

---Tells whether a value is a secret.
---@param value any
---@return boolean
function secret.is(value)
  return crypto.is_secret(value)
end

local function make(text, from, source)
  if text == "" then
    error_.raise { kind = "invalid", message = ("the secret from %s is empty"):format(from) }
  end
  return secret.remember(text, source)
end

---Joins texts and secrets into one secret: a header's value around a token.
---@param ... string|userdata
---@return userdata secret
function secret.join(...)
  local parts = { ... }
  for index, part in ipairs(parts) do
    if type(part) ~= "string" then parts[index] = crypto.reveal(part) end
  end
  return crypto.secret(table.concat(parts))
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
  return make(value, "the environment variable " .. name, "env " .. name)
end

---Makes the secrets known that a run may come to use, before anything is written down: environment
---variables KILN_SECRET_*, and what the recipe declares with `env` or `file`. One that is missing
---is an error only when it is asked for; a `command` is run only then.
---@param declared? table<string, { env: string?, file: string?, command: string[]? }>
---@param path fun(name: string): string where a declared file lies
function secret.preload(declared, path)
  local sources = {}
  for name, value in pairs(proc.environ()) do
    if name:find("^KILN_SECRET_") and value ~= "" then sources["env " .. name] = value end
  end
  for _, from in pairs(type(declared) == "table" and declared or {}) do
    local value = from.env and proc.getenv(from.env)
    if value and value ~= "" then sources["env " .. from.env] = value end
    local text = from.file and fs.read(path(from.file), { max = 1024 * 1024 })
    if text then sources["file " .. path(from.file)] = text:gsub("\r?\n$", "", 1) end
  end
  local names = {}
  for source in pairs(sources) do names[#names + 1] = source end
  table.sort(names)
  for _, source in ipairs(names) do secret.remember(sources[source], source) end
end

---Takes a secret from a file, without the newline at its end. Raises `not_found`, `denied`.
---@param path string
---@return userdata secret
function secret.from_file(path)
  local text, err = fs.read(path, { max = 1024 * 1024 })
  error_.check(text, err, "a secret")
  return make((text:gsub("\r?\n$", "", 1)), path, "file " .. path)
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
  return make((result.out:gsub("\r?\n$", "", 1)), argv[1], "command " .. json.encode(argv))
end

---All places of the text where something secret is, as a sorted list of { from, to, needle }.
local function places(text)
  local found = {}
  for _, needle in ipairs(needles) do
    local at = 1
    while true do
      local from, to = text:find(needle, at, true)
      if not from then break end
      found[#found + 1] = { from, to, needle }
      at = from + 1
    end
  end
  table.sort(found, function(a, b)
    return a[1] < b[1] or a[1] == b[1] and a[2] > b[2]
  end)
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

---Applies `change` to every text of a value, keys too, in a copy.
local function map_texts(value, change)
  local copies = {}
  local function copy(item)
    if type(item) == "string" then return change(item) end
    if type(item) ~= "table" then return item end
    if copies[item] then return copies[item] end
    local out = {}
    copies[item] = out
    for key, field in next, item do out[copy(key)] = copy(field) end
    return debug.setmetatable(out, debug.getmetatable(item)) -- some are locked
  end
  return copy(value)
end

---Replaces every known secret in the texts of a table, at any depth, in a copy with the same
---metatables. Anything but a text or a table stays as it is.
---@generic T
---@param value T
---@return T
function secret.redact_fields(value)
  if #needles == 0 then return value end
  return map_texts(value, secret.redact)
end

-- A reference stands in a sealed text as \1 source \31 form \31 from \31 to \2, a \1 of the text
-- itself as \1\1. No part of a reference has a control character.
local function plain(source)
  return (source:gsub("[%c%%]", function(c) return ("%%%02X"):format(c:byte()) end))
end

local function reference(needle, from, to)
  local entry, form = found_as[needle][1], found_as[needle][2]
  local source = entry.source or "value " .. crypto.sha256("kiln.secret\0" .. entry.forms.value)
  return ("\1%s\31%s\31%d\31%d\2"):format(plain(source), form, from, to)
end

local function seal_text(text)
  local out, done = {}, 0
  for _, place in ipairs(places(text)) do
    local from, to = math.max(place[1], done + 1), place[2]
    if to > done then
      out[#out + 1] = (text:sub(done + 1, from - 1):gsub("\1", "\1\1"))
      out[#out + 1] = reference(place[3], from - place[1] + 1, to - place[1] + 1)
      done = to
    end
  end
  out[#out + 1] = (text:sub(done + 1):gsub("\1", "\1\1"))
  return table.concat(out)
end

---Tells whether sealing changes nothing: most values have no secret in them, and need no copy.
local function is_plain(value, depth)
  if type(value) == "string" then
    return not value:find("\1", 1, true) and (#needles == 0 or #places(value) == 0)
  end
  if type(value) ~= "table" then return true end
  if depth > 100 then return false end
  for key, field in next, value do
    if not is_plain(key, depth + 1) or not is_plain(field, depth + 1) then return false end
  end
  return true
end

---Puts references in the place of every known secret in the texts of a value, in every form, so
---that a journal can keep it. Another process that knows the same secrets gets it back by `unseal`.
---@generic T
---@param value T
---@return T
function secret.seal(value)
  if is_plain(value, 0) then return value end
  return map_texts(value, seal_text)
end

---Finds the known secret of a reference, loading it from its source when nobody asked for it yet.
local function entry_of(source)
  for digest, entry in pairs(known) do
    if entry.source == source then return entry end
    if not entry.source and source:sub(1, 6) == "value " and known[digest]
      and source == "value " .. crypto.sha256("kiln.secret\0" .. entry.forms.value) then
      return entry
    end
  end
  local kind, rest = source:match("^(%l+) (.*)$")
  local value
  if kind == "env" then value = secret.from_env(rest) end
  if kind == "file" then value = secret.from_file(rest) end
  if kind == "command" then value = secret.from_command(json.decode(rest)) end
  return value and known[crypto.sha256(crypto.reveal(value))]
end

local function resolve(source, form, from, to)
  source = source:gsub("%%(%x%x)", function(hex) return string.char(tonumber(hex, 16)) end)
  local entry = entry_of(source)
  local text = entry and entry.forms[form]
  if not text then
    error_.raise { kind = "not_found", message = entry
      and ("the secret from %s has another shape than when the journal was written"):format(source)
      or "the journal refers to a secret that this run has not got" }
  end
  return text:sub(tonumber(from), tonumber(to))
end

local function unseal_text(text)
  if not text:find("\1", 1, true) then return text end
  local out, at = {}, 1
  while true do
    local mark = text:find("\1", at, true)
    if not mark then break end
    out[#out + 1] = text:sub(at, mark - 1)
    if text:sub(mark + 1, mark + 1) == "\1" then
      out[#out + 1], at = "\1", mark + 2
    else
      local source, form, from, to, past =
        text:match("^([^\31]*)\31([^\31]*)\31(%d+)\31(%d+)\2()", mark + 1)
      if not source then
        error_.raise { kind = "invalid", message = "the journal has half a reference to a secret" }
      end
      out[#out + 1], at = resolve(source, form, from, to), past
    end
  end
  out[#out + 1] = text:sub(at)
  return table.concat(out)
end

---Puts the secrets back that `seal` took out. Raises `not_found` when one cannot be had again.
---@async
---@generic T
---@param value T
---@return T
function secret.unseal(value)
  return map_texts(value, unseal_text)
end

log.filter(secret.redact)

return secret
