---`kiln run`, `resume`, `abort` and `rollback`: conducts a run and shows it.
local proc = require "rt.proc"
local task = require "rt.task"
local timer = require "rt.timer"
local tty = require "rt.tty"
local environment = require "kiln.run.environment"
local error_ = require "kiln.error"
local option_names = require "kiln.options"
local render = require "kiln.cli.render"
local run_ = require "kiln.run"
local store_ = require "kiln.store"
local screen = require "kiln.cli.screen"

local commands = {}

local STOPPED = 4 -- exit status of a run that can be resumed

---The first signal stops the run resumable, the second leaves at once. Before the run has begun
---there is nothing to stop: the first one leaves, with the status that shells give it.
---@return fun(handle: table) started
---@return fun() close
local function watch_signals()
  local interrupts = proc.interrupts(STOPPED)
  local handle
  local watcher = task.spawn(function()
    local name = interrupts:next()
    if not name then return end
    if not handle then os.exit(({ INT = 130, TERM = 143, HUP = 129 })[name]) end
    screen.warn "stopping; once more to leave at once"
    handle.stop()
  end)
  return function(begun) handle = begun end, function()
    interrupts:close()
    watcher:join()
  end
end

local function may_ask(options)
  return not options.no_input and not options.json and tty.is_tty(0) and tty.is_tty(2)
end

---Runs `conduct` with a display and signals; returns the exit status.
local function conducted(options, conduct)
  local display = render.new(options)
  local started, close = watch_signals()
  local outcome = conduct {
    on_error = options.on_error, lock_wait = tonumber(options.lock_wait),
    waiting = function(text) display:waiting(text) end,
    ask = may_ask(options) and function(err) return display:ask_kept(err) end or nil,
    emit = function(event) display:event(event) end,
    started = started,
  }
  if not outcome.run and error_.is(outcome.error, "stopped") then
    timer.sleep(1e8) -- the loop hears of the signal, and the watcher ends the program
  end
  display:finish(outcome)
  close()
  return outcome.exit
end

---Asks whether a new environment is meant: --yes says so, a terminal is asked, anybody else is not.
local function confirms(options)
  return function(question)
    if options.yes then return true end
    if not may_ask(options) then return false end
    local line = error_.check(screen.ask(question .. " [y/N] "))
    return line ~= nil and line:lower():find("^y") ~= nil
  end
end

local function below(dir, file)
  if not dir or dir == "." or file:sub(1, 1) == "/" then return file end
  return dir .. "/" .. file
end

---Runs a recipe.
---@async
---@param options table what argparse made of the command line
---@param args table<string, string> the recipe's own arguments
---@return integer status
function commands.run(options, args)
  for _, pair in ipairs(options.var or {}) do
    local name, value = pair:match("^([%w_]+)=(.*)$")
    if not name then
      error_.raise { kind = "usage", message = ("--var %s: write NAME=VALUE"):format(pair) }
    end
    args[name] = value
  end
  return conducted(options, function(opts)
    opts.file, opts.entry, opts.args = below(options.dir, options.file), options.entry, args
    opts.env, opts.cloud, opts.confirm = options.env, options.cloud, confirms(options)
    return run_.start(opts)
  end)
end

---Goes on with a run.
---@async
---@param options table
---@return integer status
function commands.resume(options)
  return conducted(options, function(opts)
    opts.run, opts.dir, opts.edited = options.run, options.dir, options.edited
    return run_.resume(opts)
  end)
end

---Undoes a run.
---@async
---@param options table
---@return integer status
function commands.abort(options)
  return conducted(options, function(opts)
    opts.run, opts.dir = options.run, options.dir
    return run_.abort(opts)
  end)
end

---Returns the release that a service has in service: its environment, cloud and recipe are the
---rollback's. Raises `usage` when there is none, or several.
local function serving(options)
  local store <close> = store_.open(options.dir or ".", { existing = true })
  local wanted, names, found = options.service, {}, nil
  for _, row in ipairs(store:releases(options.env)) do
    if row.state == "serving" then names[#names + 1] = row.service end
    local same = row.service == wanted or row.service == environment.name(wanted, row.env)
      and options.env ~= nil
    if same and row.state == "serving" then
      if found then
        error_.raise { kind = "usage", message = ("several environments have a service '%s'; name "
          .. "one with -e: %s, %s"):format(wanted, found.env, row.env) }
      end
      local maker = store:run(row.run)
      found = { name = row.service, env = row.env, cloud = row.cloud,
        recipe = maker and maker.service or environment.base(row.service, row.env) }
    end
  end
  if found then return found end
  error_.raise { kind = "usage", message = ("no service '%s' is in service%s%s%s"):format(wanted,
    options.env and " in environment " .. options.env or "",
    #names > 0 and "; there are: " .. table.concat(names, ", ") or "",
    option_names.meant(wanted, names)) }
end

---Puts the kept release of a service back: kiln's own recipe, in the service's project.
---@async
---@param options table
---@return integer status
function commands.rollback(options)
  local found = serving(options)
  return conducted(options, function(opts)
    opts.builtin, opts.dir = "recipes/rollback.lua", options.dir
    opts.args, opts.service = { service = found.name }, found.recipe
    opts.env, opts.cloud = found.env, found.cloud or options.cloud
    opts.confirm = function() return true end -- the ledger has the environment
    return run_.start(opts)
  end)
end

---Prints what a recipe can run, and its arguments.
---@param file string
---@return integer status
function commands.recipe_help(file)
  local loaded = run_.load(file)
  local lines = { ("%s: %s"):format(file, loaded.name), "", "Entries:" }
  for _, entry in ipairs(loaded.entries) do
    lines[#lines + 1] = ("  %-14s %s"):format(entry.name, entry.doc or "")
  end
  local names = {}
  for name in pairs(loaded.args) do names[#names + 1] = name end
  table.sort(names)
  if #names > 0 then lines[#lines + 1] = "\nArguments:" end
  for _, name in ipairs(names) do
    local spec = loaded.args[name]
    local more = spec.required and " (required)"
      or spec.default ~= nil and (" (%s)"):format(tostring(spec.default)) or ""
    if spec.choices then more = more .. ": " .. table.concat(spec.choices, ", ") end
    lines[#lines + 1] = ("  --%-12s %s%s"):format((name:gsub("_", "-")), spec.doc, more)
  end
  lines[#lines + 1] = "\nOptions of kiln itself: kiln run --help"
  screen.print(table.concat(lines, "\n"))
  return 0
end

return commands
