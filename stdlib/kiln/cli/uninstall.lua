---`kiln uninstall`: nothing of this user's local machines stays on the host.
local tty = require "rt.tty"
local error_ = require "kiln.error"
local provider = require "kiln.provider"
local screen = require "kiln.cli.screen"

local commands = {}

local function confirmed(options, machines, dir)
  if options.yes then return true end
  if options.no_input or not (tty.is_tty(0) and tty.is_tty(2)) then
    error_.raise { kind = "usage",
      message = ("%d machines and the folder %s would be removed; confirm it with --yes")
        :format(machines, dir) }
  end
  local line = error_.check(screen.ask(("Remove %d machines and the folder %s? [y/N] ")
    :format(machines, dir)))
  return line ~= nil and line:lower():find("^y") ~= nil
end

---Removes the site of this user's local machines, after a question.
---@async
---@param options { yes: boolean?, no_input: boolean? }
---@return integer status
function commands.uninstall(options)
  local driver = provider.driver "local"
  if not confirmed(options, #driver:machines(), driver.site.dir) then return 1 end
  driver:uninstall(function(text) screen.say("  ✓ %s removed", text) end)
  screen.say "projects keep their folder .kiln; what they made in clouds is still there: kiln gc"
  return 0
end

return commands
