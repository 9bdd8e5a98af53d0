---Completion of the command line: the shells' scripts, and `kiln __complete WORD…`, which they ask.
---It reads the recipe and the state on the line, and touches no cloud.
local commands = require "kiln.cli.commands"
local environment = require "kiln.run.environment"
local screen = require "kiln.cli.screen"

local completion = {}

---A script asks kiln for the words that may stand at the cursor. A line of the answer is a word, a
---tab and its description; ":files" and ":folders" leave the word to the shell.
completion.scripts = {
  bash = [=[
_kiln() {
    local value rest cur=${COMP_WORDS[COMP_CWORD]}
    local IFS=$'\n'
    COMPREPLY=()
    while IFS=$'\t' read -r value rest; do
        case $value in
        :files)
            compopt -o filenames 2>/dev/null
            COMPREPLY+=($(compgen -f -X '!*.lua' -- "$cur") $(compgen -d -- "$cur")) ;;
        :folders)
            compopt -o filenames 2>/dev/null
            COMPREPLY+=($(compgen -d -- "$cur")) ;;
        ?*)
            printf -v value %q "$value" # readline puts it into the line as it is
            COMPREPLY+=("$value") ;;
        esac
    done < <("${COMP_WORDS[0]}" __complete "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)
}
complete -F _kiln kiln
]=],
  zsh = [=[
#compdef kiln
_kiln() {
    local value text
    local -a found
    while IFS=$'\t' read -r value text; do
        case $value in
        (:files) _files -g '*.lua' ;;
        (:folders) _files -/ ;;
        (?*) found+=("${value//:/\\:}:$text") ;;
        esac
    done < <("${words[1]}" __complete "${(@)words[2,CURRENT]}" 2>/dev/null)
    (( $#found )) && _describe kiln found
}
if [ "$funcstack[1]" = _kiln ]; then _kiln "$@"; else compdef _kiln kiln; fi
]=],
  fish = [=[
function __kiln_complete
    set -l words (commandline -opc)
    set -l program $words[1]
    set -l current (commandline -ct)
    for line in ($program __complete $words[2..-1] "$current" 2>/dev/null)
        switch $line
            case :files
                __fish_complete_suffix .lua
            case :folders
                __fish_complete_directories "$current"
            case '*'
                echo $line
        end
    end
end
complete -c kiln -f -a '(__kiln_complete)'
]=],
}

local function in_store(line, see)
  local store <close> = require("kiln.store").open(line.dir or ".", { existing = true })
  see(store)
end

local function recipe_of(line)
  local file = line.plain[1]
  if line.dir and file:sub(1, 1) ~= "/" then file = line.dir .. "/" .. file end
  return require("kiln.run").load(file)
end

local function add_runs(line, add)
  in_store(line, function(store)
    for _, row in ipairs(store:runs()) do
      local state = store:state_of(row)
      local open = state == "stopped" or state == "kept" or state == "died"
      if open or line.command == "show" or line.command == "log" then
        add(row.id:sub(1, 4), ("%s %s, %s"):format(environment.name(row.service, row.env),
          row.entry, (state:gsub("_", " "))))
      end
    end
  end)
end

---What may stand as the nth word of a command that is no option.
local plain_words = {
  run = function(line, add)
    if #line.plain == 0 then return add ":files" end
    if #line.plain > 1 then return end
    for _, entry in ipairs(recipe_of(line).entries) do add(entry.name, entry.doc) end
  end,
  rollback = function(line, add)
    in_store(line, function(store)
      for _, row in ipairs(store:releases(line.env)) do
        if row.state == "kept" then add(row.service, "back to " .. row.version) end
      end
    end)
  end,
  ssh = function(line, add)
    if #line.plain > 0 then return end
    in_store(line, function(store)
      for _, row in ipairs(store:ledger { kind = "machine", state = "live" }) do
        add(row.name, row.provider)
      end
    end)
  end,
  completion = function(_, add)
    for _, shell in ipairs { "bash", "zsh", "fish" } do add(shell) end
  end,
  runs = function(_, add) add("prune", "forget old runs") end,
  sim = function(_, add) add "digitalocean" end,
  lua = function(_, add) add ":files" end,
  resume = add_runs, abort = add_runs, show = add_runs, log = add_runs,
}

---What may stand behind an option that takes a value.
local function add_values(line, name, option, add)
  if name == "-C" or name == "--dir" then return add ":folders" end
  if name == "--faults" then return add ":files" end
  if name == "-e" or name == "--env" then
    if line.command == "run" and line.plain[1] then
      for _, one in ipairs(recipe_of(line).module.environments or {}) do add(one) end
    end
    return in_store(line, function(store)
      for _, one in ipairs(store:environments()) do add(one) end
    end)
  end
  if name == "--cloud" then
    add "local"
    return add "digitalocean"
  end
  for _, choice in ipairs(option and option._choices or {}) do add(choice) end
end

local function add_options(line, parser, add)
  for _, option in ipairs(parser._options) do
    for _, alias in ipairs(option._aliases) do
      if line.last:sub(1, 2) ~= "--" or alias:sub(1, 2) == "--" then
        add(alias, option._description)
      end
    end
  end
  if line.command ~= "run" or not line.plain[1] then return end
  for name, spec in pairs(recipe_of(line).args) do add("--" .. name:gsub("_", "-"), spec.doc) end
end

local function option_named(parser, name)
  for _, option in ipairs(parser._options) do
    for _, alias in ipairs(option._aliases) do
      if alias == name then return option end
    end
  end
end

---Takes the words apart: the command, the words that are no options, what the last one is.
local function read_line(words, by_name)
  local line = { plain = {}, last = words[#words] or "" }
  local waits -- the option that the next word is the value of
  for index = 1, #words - 1 do
    local word = words[index]
    if waits then
      if waits == "-C" or waits == "--dir" then line.dir = word end
      if waits == "-e" or waits == "--env" then line.env = word end
      waits = nil
    elseif word:sub(1, 1) == "-" then
      local option = line.command and option_named(by_name[line.command], word)
      local takes = option and option._maxargs > 0 or commands.own[word] == "value"
      local theirs = not option and line.command == "run" and word:find "^%-%-[^=]+$"
        and not commands.own[word]
      if takes or theirs then waits = word end
    elseif not line.command then
      line.command = word
      if not by_name[word] then return nil end
    else
      line.plain[#line.plain + 1] = word
    end
  end
  line.waits = waits
  return line
end

local function collect(words, add)
  local parser, by_name = commands.parser()
  local line = read_line(words, by_name)
  if not line then return end
  local command = line.command and by_name[line.command]
  if line.waits then
    local option = command and option_named(command, line.waits)
    if command and not option and not commands.own[line.waits] then
      local spec = recipe_of(line).args[(line.waits:sub(3):gsub("-", "_"))]
      for _, choice in ipairs(spec and spec.choices or {}) do add(choice) end
      return
    end
    return add_values(line, line.waits, option, add)
  end
  if line.last:sub(1, 1) == "-" then return add_options(line, command or parser, add) end
  if command then
    local see = plain_words[line.command]
    return see and see(line, add)
  end
  for name, one in pairs(by_name) do add(name, one._description) end
end

---Prints what may stand at the cursor, as the scripts read it.
---@async
---@param words string[] after "kiln", up to the cursor; the last one is the one to complete
---@return integer status 1 when a recipe does not load or there is no state: nobody can be told
---  while a line is written
function completion.complete(words)
  local last, found, seen = words[#words] or "", {}, {}
  local ok = pcall(collect, words, function(word, text)
    if seen[word] or word:find "%c" then return end
    if word:sub(1, 1) ~= ":" and word:sub(1, #last) ~= last then return end
    seen[word] = true
    found[#found + 1] = text and ("%s\t%s"):format(word, (text:gsub("%c", " "))) or word
  end)
  table.sort(found)
  if #found > 0 then screen.print(table.concat(found, "\n")) end
  return ok and 0 or 1
end

return completion
