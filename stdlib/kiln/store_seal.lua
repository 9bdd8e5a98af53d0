---Seals of the store's rows: what a resumed run is told, it can rely on. SQLite notices a damaged
---page only when its structure breaks; a changed byte inside a text it hands out as it is.
local crypto = require "rt.crypto"
local error_ = require "kiln.error"

local seal = {}

---Texts of known lengths one after the other: no two lists give the same bytes.
local function digest(...)
  return crypto.sha256(string.pack(("s4"):rep(select("#", ...)), ...)):sub(1, 32)
end

---Seals a run's row.
---@param row table id, recipe, entry, args, env, cloud, service, kiln_version
---@return string
function seal.run(row)
  return digest(row.id, row.recipe, row.entry, row.args, row.env, row.cloud, row.service,
    row.kiln_version)
end

---Seals the text of a source.
---@param run string
---@param path string
---@param text string
---@return string
function seal.source(run, path, text)
  return digest(run, path, text)
end

---Seals an operation's intent.
---@param row table run, key, name, class, digest, args
---@return string
function seal.intent(row)
  return digest(row.run, row.key, row.name, row.class, row.digest, row.args)
end

---Seals an operation's outcome.
---@param run string
---@param key string
---@param state "done"|"failed"
---@param text string JSON of the result or the error
---@return string
function seal.outcome(run, key, state, text)
  return digest(run, key, state, text)
end

---Raises `store` when a row is not what was written. Rows of an older kiln have no seal.
---@param kept? string
---@param now string|false
---@param path string of the state file
---@param what string "operation /#3"
function seal.check(kept, now, path, what)
  if kept == nil or kept == now then return end
  error_.raise {
    kind = "store", cause = "invalid",
    message = ("state in %s: %s is not what was written; the file is damaged: copy its folder, "
      .. "then take it from a backup; what kiln made carries its names and tags")
      :format(path, what),
  }
end

---Checks both seals of an operation's row.
---@param row table
---@param path string of the state file
function seal.check_op(row, path)
  local what = "operation " .. row.key .. " of run " .. row.run
  seal.check(row.seal, seal.intent(row), path, what)
  local ended = row.state == "done" or row.state == "failed"
  local outcome = ended
    and seal.outcome(row.run, row.key, row.state, row.result or row.error or "")
  seal.check(row.outcome_seal, outcome, path, "the outcome of " .. what)
end

return seal
