---@meta rt.proc

---Runs local programs by their arguments (no shell), and tells who kiln is.
local proc = {}

---A program's own session and process group is ended with it: SIGTERM, then SIGKILL after `grace`.
---It has none of kiln's descriptors but the three streams.
---@class rt.proc.Options
---@field argv string[] the program (looked up in PATH) and its arguments
---@field cwd? string working directory
---@field env? table<string, string> variables added to kiln's own
---@field clear_env? boolean only `env` (false)
---@field stdin? string|rt.Secret standard input (empty)
---@field timeout? number seconds (300); math.huge or 0: none
---@field grace? number seconds between SIGTERM and SIGKILL (2)
---@field max_output? integer bytes kept of each stream, the last ones (1 MiB)
---@field inherit? boolean kiln's own streams, nothing captured: for programs that talk to the user

---@class rt.proc.Result
---@field code? integer exit status; nil when a signal ended it
---@field signal? string that ended it: "KILL"
---@field out string
---@field err string
---@field truncated boolean out or err lack their beginning

---Runs a program to its end. When cancelled, ends its process group without waiting for it: it may
---live on for the grace time. A background child that keeps the output open is waited for one
---second.
---@async
---@param options rt.proc.Options
---@return rt.proc.Result? result
---@return table? err not_found and denied name the program; timeout has `out`, `err`, `truncated`
function proc.run(options) end

---Starts a program whose output is read by line. Close it (`local child <close>`).
---@param options rt.proc.Options
---@return rt.proc.Child? child
---@return table? err
function proc.start(options) end

---Waits for one delivery of a signal to kiln. Between two waits it does what it always does.
---@async
---@param name string "INT", "SIGTERM", …
---@return true
function proc.signal(name) end

---Tells who kiln is. `pid`, `start_time`, `boot_id` and `pid_namespace` together name this process
---for ever.
---@return rt.proc.Info
function proc.info() end

---@class rt.proc.Info
---@field pid integer
---@field ppid integer
---@field uid integer
---@field start_time integer clock ticks since boot
---@field host string
---@field user string
---@field exe string path of the program
---@field boot_id string
---@field pid_namespace string where `pid` counts: "pid:[4026531836]"; "" when it cannot be known

---Tells whether a process lives; a dead one that was not waited for does not.
---@param pid integer
---@param start_time? integer and is the same one, not another with its number
---@return boolean
function proc.alive(pid, start_time) end

---Gives a variable of kiln's environment.
---@param name string
---@return string?
function proc.getenv(name) end

---Gives kiln's environment.
---@return table<string, string>
function proc.environ() end

---Watches for SIGINT, SIGTERM and SIGHUP. The first one is told by `next`; the second ends the
---program at once with the status, whatever it is doing, and gives the terminal back. One at a
---time.
---@param status integer
---@return rt.proc.Interrupts
function proc.interrupts(status) end

---@class rt.proc.Interrupts
local Interrupts = {}

---Waits for the first signal. Does not count as something that could wake other tasks.
---@async
---@return string? name "INT", "TERM" or "HUP"; nothing when it was closed
function Interrupts:next() end

---Ends the watch: from now on the signals have no effect, since what there was to stop has ended
---and the program is about to. May run twice.
function Interrupts:close() end

---@class rt.proc.Child
local Child = {}

---Waits for the next line, without its newline; nothing at the end. A line above 64 KiB comes in
---pieces. A program whose lines nobody reads is held up after 1 MiB.
---@async
---@return string? line
---@return "out"|"err"? stream
function Child:read_line() end

---Waits for the end; lines that nobody read may be dropped.
---@async
---@return rt.proc.Result? result
---@return table? err timeout; cancelled when it was closed meanwhile
function Child:wait() end

---Sends a signal to its process group.
---@param signal? string ("TERM")
function Child:kill(signal) end

---Tells its process id, also of one that ended.
---@return integer
function Child:pid() end

---Ends it, if it still runs, without waiting.
function Child:close() end

return proc
