---The commands and their options, in argparse's words: help and completion come from here.
local argparse = require "argparse"

local commands = {}

---Options that `kiln run` keeps for itself; every other --name is an argument of the recipe.
---@type table<string, "value"|"flag">
commands.own = {
  ["-C"] = "value", ["--dir"] = "value", ["-e"] = "value", ["--env"] = "value",
  ["--cloud"] = "value", ["--on-error"] = "value", ["--var"] = "value",
  ["--lock-wait"] = "value", ["--no-input"] = "flag", ["-y"] = "flag", ["--yes"] = "flag",
  ["--json"] = "flag", ["-q"] = "flag", ["--quiet"] = "flag", ["-v"] = "flag",
  ["--verbose"] = "flag", ["-h"] = "flag", ["--help"] = "flag",
}

local function add_dir(command)
  command:option("-C --dir", "Project folder: where the recipe and its .kiln lie."):argname "DIR"
end

local function add_output(command)
  command:flag("--json", "Events as lines of JSON on standard output.")
  command:flag("-q --quiet", "Only failures and the last line.")
  command:flag("-v --verbose", "Every operation, and what commands print.")
end

local function add_choice(command)
  command:option("--on-error", "What a failure leaves: nothing, all of it to look at and to resume "
    .. "from, or ask on a terminal (cleanup)."):choices { "cleanup", "keep", "ask" }
  command:option("--lock-wait", "Seconds to wait for another run of the service (0)."):argname "S"
    :convert(tonumber)
  command:flag("--no-input", "Ask nothing, also on a terminal.")
end

local function add_conduct(command)
  add_dir(command)
  add_choice(command)
  add_output(command)
end

local function define_run(parser)
  local run = parser:command("run", "Run a recipe. Its arguments follow as --name value; "
    .. "`kiln run FILE --help` lists them.")
  run:argument("file", "The recipe."):argname "FILE"
  run:argument("entry", "Which of its functions (deploy, or the only one)."):argname "ENTRY"
    :args "?"
  run:option("-e --env", "Environment: production, staging, … (default)."):argname "NAME"
  run:flag("-y --yes", "Make the environment if it is a new one, without asking.")
  run:option("--cloud", "Where machines are made (local)."):argname "NAME"
  run:option("--var", "An argument of the recipe, as --name VALUE."):argname "NAME=VALUE"
    :count "*"
  add_conduct(run)
end

local function define_runs(parser)
  for _, one in ipairs {
    { "resume", "Go on with a run that stopped or died." },
    { "abort", "Undo a run that stopped or died." },
  } do
    local command = parser:command(one[1], one[2])
    command:argument("run", "Its id, or the beginning of it."):argname "RUN"
    if one[1] == "resume" then
      command:flag("--edited", "With the recipe's files of today, as long as they ask for what was "
        .. "done already.")
    end
    add_conduct(command)
  end
  local rollback = parser:command("rollback", "Put the kept release of a service into service.")
  rollback:argument("service", "As `kiln status` calls it: app, app-staging."):argname "SERVICE"
  rollback:option("-e --env", "Environment (the one that the ledger has it in)."):argname "NAME"
  rollback:option("--cloud", "Where its machines are, if the ledger does not know."):argname "NAME"
  add_conduct(rollback)
end

local function define_prune(runs)
  runs:argument("action", "prune: forget old runs of which nothing exists any more; shows them "
    .. "only, without --yes."):argname "prune":args "?":choices { "prune" }
  runs:option("--keep", "With prune: how many of the newest runs stay (20)."):argname "N"
  runs:option("--older", "With prune: only runs that ended so long ago: 30d, 12h."):argname "AGE"
  runs:flag("-y --yes", "With prune: forget them without asking.")
end

local function define_reports(parser)
  for _, one in ipairs {
    { "runs", "List the runs of a project; `runs prune` forgets old ones." },
    { "show", "Show a run: its operations, its error, what it left.", "run" },
    { "log", "Show what a run did, line by line.", "run" },
    { "status", "Show every service: releases, machines, images, ages." },
    { "doctor", "Check what local machines need, and say how to get it." },
  } do
    local command = parser:command(one[1], one[2])
    if one[3] then command:argument("run", "Its id, or the beginning."):argname "RUN" end
    if one[1] ~= "doctor" then add_dir(command) end
    if one[1] == "runs" then define_prune(command) end
    if one[1] == "log" then
      command:flag("-f --follow", "Go on until the run has ended.")
    end
    command:flag("--json", "As JSON on standard output.")
  end
end

local function define_sim(parser)
  local sim = parser:command("sim", "Serve a simulated cloud, for kiln and for other clients.")
  sim:argument("provider", "Which cloud: digitalocean."):argname "CLOUD"
  sim:option("--port", "Port to listen on (a free one)."):argname "N"
  sim:option("--host", "Address to listen on (127.0.0.1)."):argname "ADDRESS"
  sim:option("--latency", "Seconds that things take: create=33,off=7,snapshot=50,assign=4.")
    :count "*":argname "NAME=SECONDS,…"
  sim:option("--limit", "Limits of the account: droplets=3,minute=250."):count "*"
    :argname "NAME=N,…"
  sim:option("--faults", "File with the faults to place."):argname "FILE"
  sim:flag("--list-faults", "List the kinds of faults, and what is not modelled.")
  sim:option("--machines", "What a droplet is: a machine on this host (local), or a row (none).")
    :argname "KIND"
  sim:option("--speed", "How many times as fast its time passes (1)."):argname "FACTOR"
  sim:option("--token", "The token it accepts (a fresh one)."):argname "TOKEN"
  sim:flag("-q --quiet", "Not the list of what it does not model.")
  sim:flag("-v --verbose", "Every request, on standard error.")
end

local function define_gc(parser)
  local command = parser:command("gc", "Show what no run and no release needs any more; remove it.")
  add_dir(command)
  command:option("-e --env", "Environment of what is adopted (default)."):argname "NAME"
  command:option("--cloud", "Look in this cloud (those that the ledger knows)."):argname "NAME"
  command:flag("-y --yes", "Remove it without asking.")
  command:flag("--adopt", "Take what carries kiln's tags and is in no ledger into this project's.")
  command:flag("--no-input", "Ask nothing, also on a terminal.")
  command:flag("--json", "As JSON on standard output.")
end

local function define_rest(parser)
  parser:command("up", "Start local machines again that ran when this host went down, repair "
    .. "their network, and remove what is kept longer than promised.")
  local uninstall = parser:command("uninstall", "End this user's local machines, and remove them, "
    .. "their network and images from this host.")
  uninstall:flag("-y --yes", "Without asking.")
  uninstall:flag("--no-input", "Ask nothing, also on a terminal.")
  local ssh = parser:command("ssh", "Log in to a machine that kiln made, or run a command on it.")
  ssh:argument("machine", "Its name, id or address."):argname "MACHINE"
  ssh:argument("words", "The command; without it, a login shell."):argname "COMMAND":args "*"
  add_dir(ssh)
  local lua = parser:command("lua", "Run a Lua file with kiln's modules, outside any run.")
  lua:argument("file"):argname "FILE"
  lua:argument("arguments"):args "*"
  parser:command("version", "Print kiln's version.")
  parser:command("completion", "Print a completion script.")
    :argument("shell"):choices { "bash", "zsh", "fish" }
end

---Makes the parser.
---@param only? string one command suffices: a start need not describe the others (all)
---@return table parser argparse's
---@return table<string, table> by_name its commands
function commands.parser(only)
  local parser = argparse("kiln",
    "Bakes machine images and rolls them out by replacement, from Lua recipes.",
    "Exit status: 0 done, 1 failed, 3 failed and rolled back, 4 stopped and resumable, 5 locked, "
    .. "7 not authorised, 64 usage. Every option has a variable KILN_<NAME>.")
  parser:command_target "command"
  parser:require_command(false)
  parser:help_max_width(100)
  define_run(parser)
  if only ~= "run" then
    define_runs(parser)
    define_reports(parser)
    define_gc(parser)
    define_sim(parser)
    define_rest(parser)
  end
  local by_name = {}
  for _, command in ipairs(parser._commands) do by_name[command._name] = command end
  return parser, by_name
end

---Marks where the command for a machine begins, as `ssh` finds it: at the second word that is no
---option. What follows is the command's, also what looks like an option.
---@param words string[] of `kiln ssh`
---@return string[] words for the parser, with "--" before the command
function commands.mark_command(words)
  local marked, index, plain = {}, 1, 0
  while index <= #words do
    local word = words[index]
    if word == "--" then break end
    if word:sub(1, 1) ~= "-" then
      plain = plain + 1
      if plain == 3 then -- "ssh", the machine, the command
        marked[#marked + 1] = "--"
        break
      end
    elseif commands.own[word] == "value" then
      marked[#marked + 1] = word
      index = index + 1
    end
    marked[#marked + 1] = words[index]
    index = index + 1
  end
  return table.move(words, index, #words, #marked + 1, marked)
end

---Takes the recipe's own arguments out of `kiln run`'s: every option that kiln does not have.
---@param words string[]
---@return string[] ours
---@return table<string, string> theirs name, with "_" for "-", to text
function commands.split(words)
  local ours, theirs, index = {}, {}, 1
  while index <= #words do
    local word = words[index]
    local name, value = word:match("^(%-%-[^=]+)=(.*)$")
    name = name or word
    local own = commands.own[name]
    if own or not name:find("^%-%-.") then
      ours[#ours + 1] = word
      if own == "value" and not value then
        index = index + 1
        ours[#ours + 1] = words[index]
      end
    else
      if not value and words[index + 1] and not words[index + 1]:find("^%-%-") then
        index = index + 1
        value = words[index]
      end
      theirs[(name:sub(3):gsub("-", "_"))] = value or "true"
    end
    index = index + 1
  end
  return ours, theirs
end

return commands
