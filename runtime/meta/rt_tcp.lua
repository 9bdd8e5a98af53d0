---@meta rt.tcp

---Plain TCP.
local tcp = {}

---Connects and closes again. Errors: `unreachable`, `timeout`.
---@async
---@param target { host: string, port: integer, timeout: number? } seconds (10)
---@return { seconds: number }? reached
---@return table? err
function tcp.reach(target) end

---Looks a name up as the system does. Errors: `not_found` (it has no address), `unreachable`.
---@async
---@param name string
---@return { canonical: string }? found the name that the address record has: a CNAME's target
---@return table? err
function tcp.look_up(name) end

---Writes an IPv4 or IPv6 address in its one usual form.
---@param text string
---@return string? address nil: it is none
function tcp.address(text) end

return tcp
