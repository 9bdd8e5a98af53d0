---The manual page kiln(1), from the same description of the command line as help and completion.
local host = require "rt.host"
local commands = require "kiln.cli.commands"
local screen = require "kiln.cli.screen"

local manual = {}

---Returns text as man(7) has it literally.
local function literal(text)
  text = text:gsub("\\", "\\e"):gsub("%-", "\\-"):gsub("…", "...")
  return (text:gsub("^([.'])", "\\&%1"))
end

local function add_options(lines, command)
  for _, option in ipairs(command._options) do
    lines[#lines + 1] = ".TP\n\\fB" .. literal(table.concat(option._aliases, ", ")) .. "\\fR"
    lines[#lines + 1] = literal(option._description or "")
  end
end

---Prints the page; the package installs it.
---@return integer status
function manual.print()
  local parser = commands.parser()
  local lines = {
    (".TH KILN 1 \"\" \"kiln %s\" \"User Commands\""):format(host.version),
    ".SH NAME", "kiln \\- bake machine images and roll them out by replacement",
    ".SH SYNOPSIS", ".B kiln", ".I COMMAND", "[options]", ".SH DESCRIPTION",
    literal(parser._description), ".SH COMMANDS",
  }
  for _, command in ipairs(parser._commands) do
    lines[#lines + 1] = ".SS " .. literal(command._name)
    lines[#lines + 1] = literal(command._description or "")
    add_options(lines, command)
  end
  lines[#lines + 1] = ".SH EXIT STATUS\n" .. literal(parser._epilog)
  lines[#lines + 1] = ".SH SEE ALSO\n/usr/share/doc/kiln/README.md"
  screen.print(table.concat(lines, "\n"))
  return 0
end

return manual
