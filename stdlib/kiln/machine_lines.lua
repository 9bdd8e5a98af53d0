---A command's lines as they come from a machine, each told once.
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
---@return fun(cut: boolean?) finish to be called when the command has ended; `cut`: its result does
---  not have all that it printed
function lines.report(machine, key, in_doubt, on_line)
  local run = machine.on
  local count, last, passed = { out = 0, err = 0 }, {}, { out = 0, err = 0 }
  if in_doubt then count, last = run.store:output_told(run.id, key) end
  local bytes = 0
  local function attach()
    local at = { out = 0, err = 0 }
    return function(line, stream)
      at[stream] = at[stream] + 1
      if at[stream] > passed[stream] then
        passed[stream] = at[stream]
        bytes = bytes + #line + 1
        if on_line then on_line(line, stream, machine.name) end
      end
      local told = count[stream]
      if at[stream] < told or at[stream] == told and secret.redact(line) == last[stream] then
        return
      end
      count[stream] = at[stream]
      last[stream] = run:line { stream = stream, text = line, name = machine.name, key = key }
    end
  end
  return attach, function(cut)
    local dropped = run.store:output_end(key)
    if not cut and dropped == 0 then return end
    run:emit { type = "output.cut", name = machine.name, bytes = bytes, dropped = dropped }
  end
end

return lines
