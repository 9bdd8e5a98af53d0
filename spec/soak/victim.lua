---A kiln process that may not live to its end: it is killed, or one of the helpers that it started.
local fs = require "rt.fs"
local proc = require "rt.proc"
local task = require "rt.task"
local timer = require "rt.timer"

local victim = {}

local LOOK = 0.003 -- seconds between two looks for new helpers

---@class spec.soak.Death
---@field of "kiln"|"helper"
---@field nth integer kiln: the line of its output after which it dies, 0 is its start; a helper:
---  which one, counted as they start, or a later one where it ends before that
---@field after number seconds from then

---Returns the verb of a machine helper that this process started; nil: it is none, or has ended.
local function verb_of(pid, parent)
  local stat = fs.read(("/proc/%s/stat"):format(pid)) or ""
  if stat:match("^.*%) %a (%d+)") ~= tostring(parent) then return nil end
  return (fs.read(("/proc/%s/cmdline"):format(pid)) or ""):match("%z__machine%z([%w_]+)%z")
end

---Calls `met` for each helper that a process starts, until it is cancelled.
local function watch(parent, met)
  local seen = {}
  while true do
    for _, path in ipairs(fs.glob(("/proc/%d/task/*/children"):format(parent)) or {}) do
      for pid in (fs.read(path) or ""):gmatch("%d+") do
        local verb = not seen[pid] and verb_of(pid, parent)
        if verb then
          seen[pid] = true
          met(pid, verb)
        end
      end
    end
    timer.sleep(LOOK)
  end
end

---Kills one helper of the process: that process alone, not what it has started.
local function kill_helper(self, parent)
  watch(parent, function(pid, verb)
    self.helpers = self.helpers + 1
    if self.killed or not self.death or self.helpers < self.death.nth then return end
    timer.sleep(self.death.after)
    if not verb_of(pid, parent) then return end -- it was quicker
    assert(proc.run { argv = { "kill", "-KILL", pid } })
    self.killed = verb
  end)
end

local function kill_kiln(self, parent)
  timer.sleep(self.death.after)
  self.killed = "kiln"
  assert(proc.run { argv = { "kill", "-KILL", ("%d"):format(parent) } })
end

---@class spec.soak.Life
---@field code? integer exit status; nil: a signal ended it
---@field signal? string which one
---@field text string what it printed
---@field killed? string "kiln", or the verb of the helper that was killed
---@field helpers integer that it started
---@field lines integer that it printed

---Runs a program to its end, or to its death.
---@async
---@param options rt.proc.Options
---@param death? spec.soak.Death
---@return spec.soak.Life
function victim.live(options, death)
  local self = { helpers = 0, death = death }
  local lines = {}
  local child <close> = assert(proc.start(options))
  local killers = { task.spawn(kill_helper, self, child:pid()) }
  local function reached()
    if not death or death.of ~= "kiln" or #lines ~= death.nth then return end
    killers[2] = task.spawn(kill_kiln, self, child:pid())
  end
  reached()
  for line in function() return (child:read_line()) end do
    lines[#lines + 1] = line
    reached()
  end
  local done = assert(child:wait())
  for _, one in ipairs(killers) do
    one:cancel()
    one:join()
  end
  local text = table.concat(lines, "\n")
  if self.killed == "kiln" and done.code then self.killed = nil end -- it was quicker
  return {
    code = done.code, signal = done.signal, text = text, killed = self.killed,
    helpers = self.helpers, lines = #lines,
  }
end

return victim
