---`kiln runs prune`: forgets old runs, of which nothing exists any more.
local json = require "rt.json"
local timer = require "rt.timer"
local tty = require "rt.tty"
local error_ = require "kiln.error"
local screen = require "kiln.cli.screen"

local prune = {}

local say = screen.say

local units = { d = 86400, h = 3600, m = 60 }

local function seconds_of(text)
  local number, unit = text:match("^(%d+)([dhm])$")
  if number then return tonumber(number) * units[unit] end
  error_.raise { kind = "usage",
    message = ("--older %s: write a number and d, h or m, such as 30d"):format(text) }
end

local function count_of(text)
  local number = math.tointeger(tonumber(text))
  if number and number >= 0 then return number end
  error_.raise { kind = "usage", message = ("--keep %s: write a whole number"):format(text) }
end

local function confirmed(options, count)
  if options.yes then return true end
  if options.no_input or options.json or not (tty.is_tty(0) and tty.is_tty(2)) then return false end
  local line = error_.check(screen.ask(("Forget these %d runs? [y/N] "):format(count)))
  return line ~= nil and line:lower():find("^y") ~= nil
end

---Shows the runs that may be forgotten, and forgets them when told to.
---@async
---@param store kiln.Store
---@param options { keep: string?, older: string?, yes: boolean?, no_input: boolean?,
---  json: boolean? } `keep`: how many of the newest runs stay (20); `older`: "30d", "12h", "5m"
---@return integer status
function prune.run(store, options)
  local rows = store:runs_prunable {
    keep = count_of(options.keep or "20"),
    before = options.older and timer.time() - seconds_of(options.older) or nil,
  }
  local bytes = 0
  for _, row in ipairs(rows) do
    bytes = bytes + row.bytes
    if not options.json then
      say("  %s  %-12s %-12s %-12s %9.1f kB", row.id:sub(1, 4), row.service,
        row.entry, (row.status:gsub("_", " ")), row.bytes / 1000)
    end
  end
  local forget = #rows > 0 and confirmed(options, #rows)
  if forget then
    for _, row in ipairs(rows) do store:run_forget(row.id) end
    store:shrink()
  end
  if options.json then
    screen.json { runs = json.array(rows), bytes = bytes, forgotten = forget }
  elseif #rows == 0 then
    say("no run can be forgotten: the newest 20 stay (--keep N), and those of which "
      .. "something exists")
  else
    say("%d runs, %.1f MB%s", #rows, bytes / 1e6,
      forget and ", are forgotten" or "; forget them: kiln runs prune --yes")
  end
  return 0
end

return prune
