---`kiln up`: local machines run again after their host's restart: those of the site, of whichever
---project.
local provider = require "kiln.provider"
local screen = require "kiln.cli.screen"

local commands = {}

---Starts what ran when this host went down.
---@async
---@return integer status 1 when a machine does not start
function commands.up()
  local rows, status = provider.driver("local"):revive(), 0
  for _, line in ipairs(provider.revived(rows)) do screen.say("%s", line) end
  for _, row in ipairs(rows) do
    if row.problem then status = 1 end
  end
  if #rows == 0 then screen.say "everything that ran when this host went down runs" end
  return status
end

return commands
