---Secrets: opaque values from the environment, a file or a command, and their removal from output.
---
---A secret prints as `<secret>`. kiln's functions take one wherever they take text, and what they
---make of it is a secret again. Every secret made here is known to `redact`.
local crypto = require "rt.crypto"
local fs = require "rt.fs"
local json = require "rt.json"
local log = require "rt.log"
local proc = require "rt.proc"
local error_ = require "kiln.error"
local scope = require "kiln.scope"
local secret_known = require "kiln.secret_known"

local secret = {}

secret.remember = secret_known.remember
secret.knows_any = secret_known.any
secret.redact = secret_known.redact

---Tells whether a value is a secret.
---@param value any
---@return boolean
function secret.is(value)
  return crypto.is_secret(value)
end

---Returns the text of a secret. Only for kiln's own library.
---@param value any a secret, or anything else, which is returned as it is
---@return any text
---@return boolean was_secret
function secret.text(value)
  if crypto.is_secret(value) then return crypto.reveal(value), true end
  return value, false
end

local function make(text, from, source)
  if text == "" then
    error_.raise { kind = "invalid", message = ("the secret from %s is empty"):format(from) }
  end
  return secret.remember(text, source)
end

---Joins texts, numbers and secrets into one secret: a header's value around a token.
---Raises `usage` for anything else.
---@param ... string|number|userdata
---@return userdata secret
function secret.join(...)
  local parts = table.pack(...)
  for index = 1, parts.n do
    local part = secret.text(parts[index])
    local kind = type(part)
    if kind ~= "string" and kind ~= "number" then
      error_.raise { kind = "usage", message = ("secret.join: part %d must be text, a number or a "
        .. "secret, not %s"):format(index, part == nil and "nil" or "a " .. kind) }
    end
    parts[index] = tostring(part)
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

---The folder where relative paths start: the recipe's, outside of recipes the working directory.
local function folder()
  local state = scope.state()
  local recipe = state.run or state.loading
  return recipe and recipe.dir or "."
end

---Takes a secret from a file, without the newline at its end. Raises `not_found`, `denied`.
---@param path string
---@param below? string folder where a relative path starts (the recipe's)
---@return userdata secret
function secret.from_file(path, below)
  local whole = path:sub(1, 1) == "/" and path or (below or folder()) .. "/" .. path
  local text, err = fs.read(whole, { max = 1024 * 1024 })
  error_.check(text, err, "a secret")
  return make((text:gsub("\r?\n$", "", 1)), path, "file " .. path)
end

---Takes a secret from what a program writes, without the newline at its end. Raises `not_found`,
---`exit` with what the program says to its standard error, `timeout`.
---@async
---@param argv string[] the program and its arguments; no shell
---@param opts? { timeout: number?, cwd: string? } seconds (60); where it runs (the recipe's folder)
---@return userdata secret
function secret.from_command(argv, opts)
  scope.check_loaded(("the command %s of a secret"):format(argv[1]))
  opts = opts or {}
  local result, err = proc.run {
    argv = argv, cwd = opts.cwd or folder(), timeout = opts.timeout or 60,
    max_output = 1024 * 1024,
  }
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

---Applies `change` to every text of a value, keys too, in a copy; and `change_secret` to secrets.
local function map_texts(value, change, change_secret)
  local copies = {}
  local function copy(item)
    if type(item) == "string" then return change(item) end
    if crypto.is_secret(item) then return change_secret(item) end
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
  if not secret_known.any() then return value end
  return map_texts(value, secret.redact, tostring)
end

---Tells whether a value has a secret in it, or is one.
---@param value any
---@return boolean
function secret.within(value)
  local had = false
  map_texts(value, function(text) return text end, function(item) had = true return item end)
  return had
end

---Returns a copy of a value with the texts of the secrets in it. Only for kiln's own library.
---@generic T
---@param value T
---@return T
function secret.fields(value)
  return map_texts(value, function(text) return text end, crypto.reveal)
end

---Writes a value as text by a function that knows no secrets. When there is one in the value, the
---text is a secret; known secrets that the text hides from `redact`, because it was encoded twice,
---make it known as a whole. Only for kiln's own library.
---@param value any
---@param write fun(open: any): string
---@return string|userdata text
function secret.encode(value, write)
  local before = {}
  local had = false
  local open = map_texts(value, function(text) return text end, function(item)
    had = true
    local text = crypto.reveal(item)
    for entry in pairs(secret_known.shown_in(text)) do before[entry] = true end
    return text
  end)
  if not had then return write(value) end
  local made = write(open)
  local now = secret_known.shown_in(made)
  for entry in pairs(before) do
    if not now[entry] then return secret.remember(made) end
  end
  return crypto.secret(made)
end

---Makes a secret known unless all that could give it away is known already.
---@param value userdata
---@return userdata secret the same
function secret.know(value)
  if next(secret_known.shown_in(crypto.reveal(value))) == nil then secret.remember(value) end
  return value
end

-- A reference stands in a sealed text as \1 source \31 form \2, or with the range of its bytes as
-- \1 source \31 form \31 from \31 to \2; a \1 of the text itself as \1\1. No part of a reference
-- has a control character. \1\2 before a text says that all of it was a secret.
local WHOLE = "\1\2"

local function plain(source)
  return (source:gsub("[%c%%]", function(c) return ("%%%02X"):format(c:byte()) end))
end

---A whole form is named without its range: the reference stays the same when the value changes.
local function reference(needle, from, to)
  local entry, form = secret_known.of_form(needle)
  local range = (from > 1 or to < #needle) and ("\31%d\31%d"):format(from, to) or ""
  return ("\1%s\31%s%s\2"):format(plain(secret_known.source(entry)), form, range)
end

local function seal_text(text)
  local out, done = {}, 0
  for _, place in ipairs(secret_known.places(text)) do
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

---Seals a whole secret. One that nobody made known, and that has no known part, becomes known; of
---one that is too short to be looked for in texts the journal gets the reference alone.
local function seal_secret(value)
  local text = crypto.reveal(secret.know(value))
  local entry = secret_known.of_value(text)
  if entry and not next(entry.forms) then
    return ("%s\1%s\31value\2"):format(WHOLE, plain(secret_known.source(entry)))
  end
  return WHOLE .. seal_text(text)
end

---Tells whether sealing changes nothing: most values have no secret in them, and need no copy.
local function is_plain(value, depth)
  if type(value) == "string" then
    return not value:find("\1", 1, true) and #secret_known.places(value) == 0
  end
  if type(value) ~= "table" then return not crypto.is_secret(value) end
  if depth > 100 then return false end
  for key, field in next, value do
    if not is_plain(key, depth + 1) or not is_plain(field, depth + 1) then return false end
  end
  return true
end

---Puts references in the place of every known secret in the texts of a value, in every form, and of
---every secret in it, so that a journal can keep it. Another process that knows the same secrets
---gets it back by `unseal`.
---@generic T
---@param value T
---@return T
function secret.seal(value)
  if is_plain(value, 0) then return value end
  return map_texts(value, seal_text, seal_secret)
end

---Raises `not_found` for a secret that this process has not asked for. A journal may name any
---variable, file or command: only what the recipe itself asks for is read or run.
local function raise_unknown(source)
  local from = source:find("^value ") and "" or " from " .. source
  error_.raise { kind = "not_found", unknown_secret = true,
    message = ("the journal has a secret%s that the recipe does not ask for: nothing was read or "
      .. "run to get it"):format(from) }
end

local function resolve(source, form, from, to)
  source = source:gsub("%%(%x%x)", function(hex) return string.char(tonumber(hex, 16)) end)
  local entry = secret_known.of_source(source) or raise_unknown(source)
  local text = form == "value" and entry.value or entry.forms[form]
  if not text then
    error_.raise { kind = "not_found", message =
      ("the secret from %s has another shape than when the journal was written"):format(source) }
  end
  return text:sub(tonumber(from) or 1, tonumber(to) or -1)
end

local function unseal_text(text)
  if not text:find("\1", 1, true) then return text end
  if text:sub(1, #WHOLE) == WHOLE then
    return crypto.secret(unseal_text(text:sub(#WHOLE + 1)))
  end
  local out, at = {}, 1
  while true do
    local mark = text:find("\1", at, true)
    if not mark then break end
    out[#out + 1] = text:sub(at, mark - 1)
    if text:sub(mark + 1, mark + 1) == "\1" then
      out[#out + 1], at = "\1", mark + 2
    else
      local source, form, from, to, past =
        text:match("^([^\31]*)\31([^\31\2]*)\31?(%d*)\31?(%d*)\2()", mark + 1)
      if not source then
        error_.raise { kind = "invalid", message = "the journal has half a reference to a secret" }
      end
      out[#out + 1], at = resolve(source, form, from, to), past
    end
  end
  out[#out + 1] = text:sub(at)
  return table.concat(out)
end

---Puts the secrets back that `seal` took out. Raises `not_found` for one that this process does not
---know, with `unknown_secret` where nobody has asked for it yet.
---@generic T
---@param value T
---@return T
function secret.unseal(value)
  return map_texts(value, unseal_text, function(item) return item end)
end

log.filter(secret.redact)

return secret
