---`kiln up`: local machines run again after their host's restart, and their network is repaired:
---those of the site, of whichever project.
local provider = require "kiln.provider"
local screen = require "kiln.cli.screen"

local commands = {}

---Starts what ran when this host went down, and repairs the network of the machines.
---@async
---@return integer status 1 when a machine does not start, or the network stays broken
function commands.up()
  local driver = provider.driver "local"
  local rows, status = driver:revive(), 0
  for _, line in ipairs(provider.revived(rows)) do screen.say("%s", line) end
  for _, row in ipairs(rows) do
    if row.problem then status = 1 end
  end
  for _, row in ipairs(driver:broken()) do
    screen.say("still broken: %s: %s", row.name, row.message)
    status = 1
  end
  if #rows == 0 and status == 0 then
    screen.say "everything that ran when this host went down runs, and its network is whole"
  end
  return status
end

return commands
