---@meta rt.exec

---Commands on an SSH session, by the host's /bin/sh, in the environment that the login shell sets
---up. Several run at once (8, more wait).
local exec = {}

---@class rt.exec.Result
---@field code integer exit status, -1 if a signal ended the command
---@field signal? string "KILL"
---@field out string last bytes of standard output
---@field err string last bytes of standard error
---@field truncated boolean whether earlier output was dropped

---@class rt.exec.Options
---@field stdin? string|userdata text or secret; without it the input is empty
---@field stdin_file? string path of a file whose content follows `stdin`
---@field pty? boolean a terminal: one stream, and what runs is hung up with the channel (false)
---@field timeout? number seconds to the command's end (300); it is not killed, only left
---@field max_output? integer bytes kept of each stream (1 MiB)

---A running command.
---@class rt.exec.Channel
local Channel = {}

---Runs a command to its end.
---Errors: `timeout`, `unreachable`, `limit`, `invalid`; with the output so far in `out`, `err`.
---@async
---@param session rt.ssh.Session
---@param command string shell text, at most 32 000 bytes
---@param opts? rt.exec.Options
---@return rt.exec.Result? done
---@return table? err
function exec.run(session, command, opts) end

---Starts a command whose output is read while it runs.
---@param session rt.ssh.Session
---@param command string
---@param opts? rt.exec.Options
---@return rt.exec.Channel? channel
---@return table? err
function exec.start(session, command, opts) end

---Waits for the next line of either stream. A slow reader slows the command down.
---@async
---@return string? line without its newline; nil at the end
---@return string|table|nil stream "out" or "err"; the error when the channel failed
function Channel:read_line() end

---Waits for the end, dropping the lines that were not read.
---@async
---@return rt.exec.Result? done
---@return table? err
function Channel:result() end

---Leaves the command: its input and output are closed, nobody waits for it. May run twice.
function Channel:close() end

return exec
