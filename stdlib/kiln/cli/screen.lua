---What kiln prints. The commands write through this module alone.
---
---Names, messages and output come from machines and clouds: on a terminal a control character in
---them could move the cursor, change the title or forge a line. So they are shown as escapes: \x1b.
local json = require "rt.json"
local tty = require "rt.tty"

local screen = {}

local function escaped(bytes)
  local point = utf8.codepoint(bytes)
  return (point < 0x100 and "\\x%02x" or "\\u{%x}"):format(point)
end

---Shows the bytes that are no part of UTF-8.
local function without_bytes(text)
  local out, at = {}, 1
  while at <= #text do
    local length, bad = utf8.len(text, at)
    if length then break end
    out[#out + 1] = text:sub(at, bad - 1)
    out[#out + 1] = ("\\x%02x"):format(text:byte(bad))
    at = bad + 1
  end
  out[#out + 1] = text:sub(at)
  return table.concat(out)
end

---C1 controls, and what changes the direction or the line of what follows (Unicode 15, 23.2).
local hidden = {
  "\xC2[\x80-\x9F]", "\xD8\x9C", "\xE2\x80[\x8E\x8F\xA8-\xAE]", "\xE2\x81[\xA6-\xA9]",
}

local function clean(text, controls)
  if not text:find "[%c\x80-\xFF]" then return text end
  text = without_bytes(text):gsub(controls, escaped)
  for _, pattern in ipairs(hidden) do text = text:gsub(pattern, escaped) end
  return text
end

---Makes a text of several lines safe to show.
---@param text string
---@return string text in UTF-8; control characters but newline and tab are escapes
function screen.text(text)
  return clean(text, "[\0-\8\11-\31\127]")
end

---Makes a text safe to show within a line.
---@param text string
---@return string text without newlines, too
function screen.line(text)
  return clean(text, "%c")
end

---Makes a line that a command printed safe to show. Its colours are dropped: they are meant for a
---terminal that is the command's own.
---@param text string
---@return string
function screen.output(text)
  return screen.line((text:gsub("\27%[[%d;:]*m", ""):gsub("\r+$", "")))
end

---The fields of an event or an error that may have several lines.
local long = { message = true, output = true, traceback = true, text = true, undone_text = true }

---Makes an event safe to show: each text in it, at any depth.
---@generic T
---@param value T
---@param name? any the field that it is
---@return T copy
function screen.fields(value, name)
  if type(value) == "string" then
    return long[name] and screen.text(value) or screen.line(value)
  end
  if type(value) ~= "table" then return value end
  local out = {}
  for key, item in next, value do
    out[screen.fields(key)] = screen.fields(item, type(key) == "number" and name or key)
  end
  return out
end

---Prints a line on standard output.
---@param format string
---@param ... any texts among them are shown within the line
function screen.say(format, ...)
  local words = table.pack(...)
  for index = 1, words.n do
    if type(words[index]) == "string" then words[index] = screen.line(words[index]) end
  end
  io.stdout:write(format:format(table.unpack(words, 1, words.n)), "\n")
end

---Prints lines on standard output.
---@param text string
function screen.print(text)
  io.stdout:write(screen.text(text), "\n")
end

---Prints lines on standard error. Those after the first are indented: what a message brings along
---is no line of kiln's.
---@param text string
function screen.warn(text)
  tty.write(2, (screen.text(text):gsub("\n", "\n    ")) .. "\n")
end

---Prints a value as a line of JSON on standard output.
---@param value any
function screen.json(value)
  local text = json.encode(value, { bytes = "replace" })
  for _, pattern in ipairs(hidden) do
    text = text:gsub(pattern, function(bytes) return ("\\u%04x"):format(utf8.codepoint(bytes)) end)
  end
  io.stdout:write(text, "\n")
end

---Writes on standard error what was made safe before, with kiln's own colours and cursor moves.
---@param text string
function screen.draw(text)
  tty.write(2, text)
end

---Prints a line on standard output that was made safe before.
---@param text string
function screen.put(text)
  io.stdout:write(text, "\n")
end

---Asks for a line.
---@async
---@param prompt string
---@return string? line
---@return table? err
function screen.ask(prompt)
  return tty.read_line(screen.line(prompt))
end

return screen
