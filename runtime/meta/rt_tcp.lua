---@meta rt.tcp

---Plain TCP.
local tcp = {}

---Connects and closes again. Errors: `unreachable`, `timeout`.
---@async
---@param target { host: string, port: integer, timeout: number? } seconds (10)
---@return { seconds: number }? reached
---@return table? err
function tcp.reach(target) end

return tcp
