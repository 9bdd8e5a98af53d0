---A command's lines as they come from a machine, each told once.
local json = require "rt.json"
local secret = require "kiln.secret"

local lines = {}

---Makes what reports a command's lines. A connection that is made again reads them from the start:
---what was told before is not told again, by this process or by the one whose run is resumed. Only
---a line that was cut off comes again, whole.
---@param machine kiln.Machine
---@param key string the command's
---@param in_doubt? boolean an earlier process may have begun it
---@param on_line? fun(line: string, stream: "out"|"err", name: string) called with each line, too
---@return fun(): fun(line: string, stream: "out"|"err") attach each connection's own
function lines.report(machine, key, in_doubt, on_line)
  local run = machine.on
  local count, last, passed = { out = 0, err = 0 }, {}, { out = 0, err = 0 }
  for _, row in ipairs(in_doubt and run.store:output(run.id, key) or {}) do
    local event = json.decode(row.body)
    count[event.stream], last[event.stream] = count[event.stream] + 1, event.text
  end
  return function()
    local at = { out = 0, err = 0 }
    return function(line, stream)
      at[stream] = at[stream] + 1
      if on_line and at[stream] > passed[stream] then
        passed[stream] = at[stream]
        on_line(line, stream, machine.name)
      end
      local text, told = secret.redact(line), count[stream]
      if at[stream] < told or at[stream] == told and text == last[stream] then return end
      count[stream], last[stream] = at[stream], text
      run:emit { type = "line", stream = stream, text = line, name = machine.name, key = key }
    end
  end
end

return lines
