---@meta rt.tty

---The terminal.
local tty = {}

---Tells whether a descriptor is a terminal.
---@param fd integer 0 standard input, 1 output, 2 error
---@return boolean
function tty.is_tty(fd) end

---Measures a terminal.
---@param fd integer
---@return integer? columns 0 when the terminal does not know
---@return integer|table rows_or_err
function tty.size(fd) end

---Writes all of a text to a descriptor, not through Lua's buffers.
---@param fd integer
---@param text string
---@return true? done
---@return table? err unreachable when the reader is gone
function tty.write(fd, text) end

---Writes a prompt to standard error and waits for a line on standard input. Takes nothing after the
---line. The terminal is as before afterwards, also when cancelled or interrupted.
---@async
---@param prompt string
---@param opts? { echo: boolean? } what is typed shows (true); if not, the line comes as a secret
---@return string|rt.Secret|nil line without its newline; nil at the end of the input
---@return table? err stopped: SIGINT, SIGTERM, SIGHUP or SIGQUIT came meanwhile
function tty.read_line(prompt, opts) end

return tty
