---Shows a run's events: a live line per step on a terminal, one line per step elsewhere, or JSON.
local task = require "rt.task"
local timer = require "rt.timer"
local tty = require "rt.tty"
local error_ = require "kiln.error"
local failure = require "kiln.cli.failure"
local screen = require "kiln.cli.screen"

local render = {}

---@class kiln.Display
---@field live boolean a terminal: lines that change
---@field colour boolean
---@field active table[] steps that run, in the order of their start
---@field drawn integer live lines on the screen
---@field moving_since table<string, number> by operation: when its transfer was told last
local Display = {}
Display.__index = Display

local full_width, name_width, detail_width = 95, 44, 38
local progress_pause = 30 -- seconds between two lines about a transfer where there is no terminal

---How wide a line may be: the terminal, up to what looks good.
local function width_of(self)
  local columns = self.live and tty.size(2) or full_width
  return math.min(columns >= 20 and columns or 80, full_width)
end

---Pads to a width in characters, not bytes.
local function pad(text, width)
  local length = utf8.len(text) or #text
  return length < width and text .. (" "):rep(width - length) or text
end

local function cut(text, width)
  local length = utf8.len(text)
  if not length or length <= width then return text end
  return text:sub(1, utf8.offset(text, width) - 1) .. "…"
end

local colours = { red = "31", green = "32", yellow = "33", grey = "90", bold = "1" }

local function paint(self, text, colour)
  if not self.colour then return text end
  return "\27[" .. colours[colour] .. "m" .. text .. "\27[0m"
end

---Name and detail in columns, the time at the right; a narrow terminal gets them closer together.
local function line_of(self, mark, name, detail, seconds)
  local room = width_of(self) - 13
  local first = math.max(utf8.len(name) or #name, math.min(name_width, room - detail_width))
  local text = ("  %s %s %s"):format(mark, pad(name, first), pad(detail or "", room - first))
  if seconds then return text .. (" %6.1fs"):format(seconds) end
  return (text:gsub("%s+$", ""))
end

---How far the transfers of a step are, together.
local function moving_text(step)
  if not step.moving or not next(step.moving) then return nil end
  local progress, states = require "kiln.ssh.progress", {}
  for _, state in pairs(step.moving) do states[#states + 1] = state end
  return progress.text(progress.sum(states))
end

---Takes the live lines away and puts them back below what was printed meanwhile.
local function draw(self, finished)
  if not self.live and not finished then return end
  local out = {}
  if self.drawn > 0 then out[1] = ("\27[%dA\27[J"):format(self.drawn) end
  if finished then out[#out + 1] = finished .. "\n" end
  self.drawn = 0
  if self.live then
    local columns = tty.size(2) or 0
    if columns < 20 then columns = 80 end
    for _, step in ipairs(self.active) do
      local moving, width = moving_text(step), name_width
      if moving then width = math.max(math.min(width, columns - 15 - #moving), 12) end
      local text = ("  · %s %6.1fs  %s"):format(pad(cut(step.name, width), width),
        timer.now() - step.started, moving or step.last or "")
      out[#out + 1] = paint(self, cut(text, columns - 1), "grey") .. "\n"
      self.drawn = self.drawn + 1
    end
  end
  if #out > 0 then screen.draw(table.concat(out)) end
end

local function print_line(self, text)
  if self.live then return draw(self, text) end
  if self.to_stdout then return screen.put(text) end
  screen.draw(text .. "\n")
end

local function remove_active(self, id)
  for index, step in ipairs(self.active) do
    if step.id == id then table.remove(self.active, index) end
  end
end

local shown = {}

shown["run.start"] = function(self, event)
  local parts = { "run " .. event.run:sub(1, 4), event.name, event.entry, event.cloud }
  local names = {}
  for name, value in pairs(event.args or {}) do
    if value ~= "" then names[#names + 1] = name end
  end
  table.sort(names)
  for _, name in ipairs(names) do
    parts[#parts + 1] = ("%s %s"):format(name, tostring(event.args[name]))
  end
  if event.resumed then parts[#parts + 1] = event.aborting and "aborting" or "resumed" end
  print_line(self, paint(self, table.concat(parts, " · "), "bold"))
end

shown["step.start"] = function(self, event)
  self.active[#self.active + 1] = {
    id = event.step_id, name = event.name, started = timer.now(),
  }
  if self.live then draw(self) end
end

shown["step.done"] = function(self, event)
  remove_active(self, event.step_id)
  if event.step then return end -- within another step
  local mark = event.undo and paint(self, "↩", "yellow") or paint(self, "✓", "green")
  print_line(self, line_of(self, mark, event.name, event.detail,
    not event.replayed and event.seconds or nil) .. (event.replayed and " earlier" or ""))
end

shown["step.fail"] = function(self, event)
  remove_active(self, event.step_id)
  if event.step then return end
  local err = event.error or {}
  local mark = paint(self, "✗", "red")
  print_line(self, ("  %s %s"):format(mark, event.name))
  print_line(self, "      " .. (err.message or "failed"):match("[^\n]*"))
  for _, text in ipairs(failure.output(err)) do print_line(self, "      " .. text) end
  self.told[tostring(err.output)] = true
end

shown["step.stop"] = function(self, event)
  remove_active(self, event.step_id)
  if event.step then return end
  print_line(self, line_of(self, paint(self, "■", "yellow"), event.name, "stopped"))
end

---Finds what a transfer is shown with: its step, or itself.
local function shown_with(self, event)
  for _, active in ipairs(self.active) do
    if active.id == (event.step or event.key) then return active end
  end
end

---A transfer has ended.
local function moved(self, event)
  self.moving_since[event.key] = nil
  local active = shown_with(self, event)
  if active and active.moving then active.moving[event.key] = nil end
  if not event.step then remove_active(self, event.key) end
end

shown["progress"] = function(self, event)
  if not self.live then
    local since = self.moving_since[event.key] or event.time
    self.moving_since[event.key] = since
    if event.time - since < progress_pause then return end
    self.moving_since[event.key] = event.time
    return print_line(self, line_of(self, "·", cut(event.name, name_width),
      require("kiln.ssh.progress").text(event)))
  end
  local active = shown_with(self, event)
  if not active then
    if event.step then return end -- it has ended
    active = { id = event.key, name = cut(event.name, name_width), started = timer.now() }
    table.insert(self.active, active)
  end
  active.moving = active.moving or {}
  active.moving[event.key] = event
end

shown["op.fail"] = moved

shown["op.done"] = function(self, event)
  moved(self, event)
  if not self.verbose and (event.step or event.quiet) then return end
  local mark = paint(self, "-", "grey")
  print_line(self, line_of(self, mark, cut(event.name, name_width), event.detail,
    not event.replayed and event.seconds or nil) .. (event.replayed and " earlier" or ""))
end

shown["line"] = function(self, event)
  local last, text = self.active[#self.active], event.text
  if last then last.last = text end
  if not self.verbose then return end
  if event.dropped then
    print_line(self, paint(self, ("      … %d lines, %.1f MB, are not kept …"):format(
      event.dropped.out + event.dropped.err, event.dropped.bytes / 1e6), "grey"))
  end
  print_line(self, paint(self, "      " .. text, "grey"))
end

shown["output.cut"] = function(self, event)
  local text = ("printed %.1f MB: its result has the end%s"):format(event.bytes / 1e6,
    event.dropped > 0 and ", the log the first and the last MiB" or "")
  print_line(self, line_of(self, "·", event.name, text))
end

shown["note"] = function(self, event)
  if self.drawn > 0 then screen.draw(("\27[%dA\27[J"):format(self.drawn)) end
  self.drawn = 0 -- the next tick puts them back below
  screen.print(event.text)
  io.stdout:flush()
end

shown["hint"] = function(self, event)
  print_line(self, "  ! " .. event.text)
end

shown["run.end"] = function(self, event)
  local err = event.error
  if not self.to_stdout or not err then return end -- else `finish` shows it
  local status, step = event.status:gsub("_", " "), err.step and " at " .. err.step or ""
  print_line(self, ("%s%s: %s"):format(status, step, err.message))
  for _, text in ipairs(failure.traceback(err)) do print_line(self, text) end
end

local loud = { ["step.fail"] = true, note = true }

---Makes a display on standard error. With `json`, events go to standard output; with `to_stdout`,
---so do the lines, and none of them changes, also on a terminal.
---@param options { json: any, quiet: any, verbose: any, to_stdout: any }
---@return kiln.Display
function render.new(options)
  local live = not options.to_stdout and not options.json and not options.quiet and tty.is_tty(2)
    and os.getenv("TERM") ~= "dumb"
  local self = setmetatable({
    json = options.json, quiet = options.quiet, verbose = options.verbose,
    to_stdout = options.to_stdout,
    live = live, colour = live and (os.getenv("NO_COLOR") or "") == "",
    active = {}, drawn = 0, moving_since = {}, told = {},
  }, Display)
  if live then
    self.ticker = task.spawn(function()
      while true do
        timer.sleep(0.12)
        draw(self)
      end
    end)
  end
  return self
end

---Shows an event.
---@param event table
function Display:event(event)
  if self.json then
    screen.json(error_.plain_fields(event))
    io.stdout:flush()
    return
  end
  if self.quiet and not loud[event.type] then return end
  local show = shown[event.type]
  if not show then return end
  local text = event.type == "line" and screen.output(event.text)
  event = screen.fields(event)
  event.text = text or event.text
  show(self, event)
end

---Asks what a failure leaves. The end of the input means: nothing.
---@async
---@param err kiln.Error
---@return "cleanup"|"keep"
function Display:ask_kept(err)
  local live = self.live
  if self.drawn > 0 then screen.draw(("\27[%dA\27[J"):format(self.drawn)) end
  self.drawn, self.live = 0, false -- the prompt keeps its line
  local answer
  repeat
    local line, problem = screen.ask(("  ? %s failed. Clean up, or keep it to look at and to "
      .. "go on from? [c/k] "):format(err.step or "it"))
    if problem then error(error_.from(problem), 0) end
    answer = ({ c = "cleanup", k = "keep" })[(line or "c"):lower():sub(1, 1)]
  until answer
  self.live = live
  return answer
end

---Says that the run waits for its lock.
---@param text string who has it
function Display:waiting(text)
  if self.json then
    screen.json { v = 1, type = "run.wait", text = text }
    return io.stdout:flush()
  end
  if self.quiet then return end
  print_line(self, paint(self, "waiting: " .. screen.line(text), "grey"))
end

---Ends the display with what became of the run.
---@param outcome kiln.Outcome
function Display:finish(outcome)
  if self.ticker then
    self.ticker:cancel()
    self.ticker:join()
  end
  self.active = {}
  if self.live then draw(self) end
  if self.json and outcome.run then return end
  for _, text in ipairs(failure.ending(outcome, self.verbose, self.told)) do
    screen.warn(text)
  end
end

return render
