---The store's part on what commands print: packed in few rows, and bounded for each command.
---
---The first and the last mebibyte of a command's lines are kept. A row of type "output" has the
---lines' common fields as JSON in its body, and beside it the packed lines themselves, each as
---"o<text>\n" or "e<text>\n" for standard output and standard error.
local gzip = require "rt.gzip"
local json = require "rt.json"
local timer = require "rt.timer"
local error_ = require "kiln.error"

local head_bytes = 1024 * 1024 -- kept of a command's first lines
local tail_bytes = 1024 * 1024 -- kept of its last lines
local most_bytes = head_bytes + tail_bytes -- of a row
local row_bytes = 64 * 1024    -- lines that are packed together
local row_seconds = 1          -- lines that are older are written, so that `kiln log -f` shows them
local keep_bytes = { bytes = "keep" } -- commands may print what is not UTF-8

local marks = { out = "o", err = "e" }
local streams = { o = "out", e = "err" }

---@class kiln.Output what one command has printed and no row has yet
---@field fields table the lines' common fields
---@field head integer bytes that the head may still take
---@field pending string[] marked lines of the head
---@field pending_bytes integer
---@field since? number when the oldest pending line came
---@field tail string[] marked lines behind the head; `first` to `last`
---@field first integer
---@field last integer
---@field tail_size integer
---@field dropped { out: integer, err: integer, bytes: integer } lines between head and tail

local function new_output(event)
  return {
    fields = {
      v = event.v, type = "output", run = event.run, path = event.path, step = event.step,
      name = event.name, key = event.key,
    },
    head = head_bytes, pending = {}, pending_bytes = 0, tail = {}, first = 1, last = 0,
    tail_size = 0, dropped = { out = 0, err = 0, bytes = 0 },
  }
end

local function drop_first(output)
  local line = output.tail[output.first]
  output.tail[output.first] = nil
  output.first = output.first + 1
  output.tail_size = output.tail_size - #line
  local stream = streams[line:sub(1, 1)]
  output.dropped[stream] = output.dropped[stream] + 1
  output.dropped.bytes = output.dropped.bytes + #line - 1
end

---Adds the methods to the store's class.
---@param Store table
---@param exec fun(self: kiln.Store, sql: string, ...: any): table[]
---@param atomic fun(self: kiln.Store, body: fun(): any): any
return function(Store, exec, atomic)
  local function write(self, output, lines, dropped)
    local fields = output.fields
    fields.time, fields.dropped = timer.time(), dropped
    exec(self, [[INSERT INTO events (run, key, type, body, time, output)
      VALUES (?1, ?2, 'output', ?3, ?4, ?5)]], fields.run, fields.key or "",
      json.encode(fields, { bytes = "replace" }), fields.time, gzip.pack(table.concat(lines)))
  end

  local function write_pending(self, output)
    if #output.pending == 0 then return end
    local lines = output.pending
    output.pending, output.pending_bytes, output.since = {}, 0, nil
    write(self, output, lines)
  end

  ---Keeps a line that a command printed. Written with the next durable change, or when a second has
  ---passed.
  ---@param event table run, path, step, name, key, stream "out"|"err", text without secrets
  function Store:output_line(event)
    local key = event.key or ""
    local output = self.outputs[key]
    if not output then
      output = new_output(event)
      self.outputs[key] = output
    end
    local line = marks[event.stream] .. event.text .. "\n"
    if output.last == 0 and #line <= output.head then
      output.head = output.head - #line
      table.insert(output.pending, line)
      output.pending_bytes = output.pending_bytes + #line
      output.since = output.since or timer.now()
    else
      output.last = output.last + 1
      output.tail[output.last] = line
      output.tail_size = output.tail_size + #line
      while output.tail_size > tail_bytes do drop_first(output) end
    end
    if output.pending_bytes >= row_bytes
      or output.since and timer.now() - output.since >= row_seconds then
      atomic(self, function() write_pending(self, output) end)
    end
  end

  ---Writes the lines that were kept back, but for those that may yet be left out.
  function Store:output_flush()
    for _, output in pairs(self.outputs) do write_pending(self, output) end
  end

  ---Writes all that is kept of a command that has ended.
  ---@param key string the command's
  ---@return integer dropped bytes that were left out between the first and the last lines
  function Store:output_end(key)
    local output = self.outputs[key]
    if not output then return 0 end
    self.outputs[key] = nil
    atomic(self, function()
      write_pending(self, output)
      if output.last == 0 then return end
      write(self, output, table.move(output.tail, output.first, output.last, 1, {}),
        output.dropped.bytes > 0 and output.dropped or nil)
    end)
    return output.dropped.bytes
  end

  ---Unpacks a row of type "output" into the events that the lines were. The first has `dropped`
  ---where lines were left out before it.
  ---@param row table of `events`
  ---@return table[] events type "line"
  function Store.output_events(row)
    local fields = json.decode(row.body, keep_bytes)
    local text = error_.check(gzip.unpack(row.output, most_bytes))
    local events = {}
    for mark, line in text:gmatch("([oe])([^\n]*)\n") do
      local event = { type = "line", stream = streams[mark], text = line, time = row.time }
      for _, name in ipairs { "v", "run", "path", "step", "name", "key" } do
        event[name] = fields[name]
      end
      events[#events + 1] = event
    end
    if events[1] then events[1].dropped = fields.dropped end
    return events
  end

  ---Counts the lines that a command is known to have printed, and returns the last of each stream.
  ---@param run string
  ---@param key string the command's
  ---@return { out: integer, err: integer } count
  ---@return { out: string?, err: string? } last
  function Store:output_told(run, key)
    self:flush()
    local count, last = { out = 0, err = 0 }, {}
    for _, row in ipairs(exec(self, [[SELECT body, output, time FROM events WHERE run = ?1
      AND key = ?2 AND type = 'output' ORDER BY seq]], run, key)) do
      for _, event in ipairs(Store.output_events(row)) do
        for _, stream in ipairs { "out", "err" } do
          count[stream] = count[stream] + (event.dropped and event.dropped[stream] or 0)
        end
        count[event.stream], last[event.stream] = count[event.stream] + 1, event.text
      end
    end
    return count, last
  end
end
