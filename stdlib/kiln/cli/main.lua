---The command line: picks the command and returns its exit status.
local host = require "rt.host"

---Runs a Lua file as a plain interpreter with kiln's modules.
---@param argv string[] `[1]` the file, then its arguments
---@return integer status
local function run_lua(argv)
  if not argv[1] then
    io.stderr:write("kiln lua: which file? usage: kiln lua FILE [ARG…]\n")
    return 64
  end
  local script = { [0] = argv[1] }
  for i = 2, #argv do script[i - 1] = argv[i] end
  _G.arg = script
  local chunk, err = loadfile(argv[1], "t")
  if not chunk then
    io.stderr:write("kiln lua: ", err, "\n")
    return 1
  end
  local ok, status = xpcall(chunk, function(value)
    if type(value) == "table" and value.message then return "kiln lua: " .. value.message end
    return debug.traceback("kiln lua: " .. tostring(value), 2)
  end, table.unpack(script))
  if ok then return math.tointeger(status) or 0 end
  if status == "not enough memory" then error(status, 0) end
  io.stderr:write(status, "\n")
  return 1
end

local function usage(message)
  require("kiln.cli.screen").warn("kiln: " .. message)
  return 64
end

local function asks_help(argv)
  for _, word in ipairs(argv) do
    if word == "--" then return false end
    if word == "-h" or word == "--help" then return true end
  end
  return false
end

---The first word that is no option: the command, also in `kiln -C DIR status`.
local function command_of(argv)
  local index = 1
  while argv[index] do
    local word = argv[index]
    if word:sub(1, 1) ~= "-" then return word, index end
    index = index + ((word == "-C" or word == "--dir") and 2 or 1)
  end
end

---Options may stand before the command; argparse wants them after it.
local function command_first(argv)
  local command, at = command_of(argv)
  local words = { command }
  for index, word in ipairs(argv) do
    if index ~= at then words[#words + 1] = word end
  end
  return words, command
end

---Options that were not given come from KILN_<NAME>.
local function from_environment(options)
  for _, name in ipairs { "dir", "env", "cloud", "on_error", "lock_wait", "no_input", "yes", "json",
    "quiet", "verbose" } do
    local value = os.getenv("KILN_" .. name:upper())
    if options[name] == nil and value and value ~= "" then options[name] = value end
  end
  return options
end

local handlers = {
  run = "run", resume = "run", abort = "run", rollback = "run",
  runs = "report", show = "report", log = "report", status = "report", doctor = "report", gc = "gc",
  sim = "sim", up = "up", uninstall = "uninstall",
  ssh = "ssh",
}

local function dispatch(argv)
  if argv[1] == "__complete" then -- asked by the shells' completion scripts
    return require("kiln.cli.completion").complete(table.move(argv, 2, #argv, 1, {}))
  end
  if argv[1] == "__manual" then return require("kiln.cli.manual").print() end -- for the package
  local commands = require "kiln.cli.commands"
  local words, command = command_first(argv)
  local parser, by_name = commands.parser(command)
  if command and not by_name[command] then
    return usage(("there is no command '%s'; `kiln --help` lists them"):format(command))
  end
  if command == "run" then
    local ours, theirs = commands.split(table.move(words, 2, #words, 1, {}))
    table.insert(ours, 1, "run")
    if asks_help(ours) then
      local file = ours[2] and ours[2]:sub(1, 1) ~= "-" and ours[2]
      if file then return require("kiln.cli.run").recipe_help(file) end
    end
    words, argv = ours, theirs
  end
  if command == "ssh" then words = commands.mark_command(words) end
  if asks_help(words) or not command then
    io.stdout:write((by_name[command] or parser):get_help(), "\n")
    return (command or asks_help(words)) and 0 or 64
  end
  local ok, options = parser:pparse(words)
  if not ok then return usage(options .. ("; see `kiln %s --help`"):format(command)) end
  if command == "completion" then
    io.stdout:write(require("kiln.cli.completion").scripts[options.shell])
    return 0
  end
  return require("kiln.cli." .. handlers[command])[command](from_environment(options), argv)
end

return function(argv)
  local command = argv[1]
  if command == "lua" then return run_lua(table.move(argv, 2, #argv, 1, {})) end
  if command == "version" or command == "--version" then
    io.stdout:write("kiln ", host.version, "\n")
    return 0
  end
  local trace = require "kiln.trace"
  local ok, status = xpcall(dispatch, trace.handler, argv)
  if ok then return status end
  local screen, secret = require "kiln.cli.screen", require "kiln.secret"
  if status.kind == "error" and not status.at then -- a fault of kiln's own: with its traceback
    error(screen.fields(secret.redact_fields(status)), 0)
  end
  screen.warn("kiln: " .. secret.redact(status.message))
  return status.kind == "usage" and 64 or 1
end
