---@meta rt.log

---Diagnostics: lines on standard error, "kiln: <level>: <text>". Control characters are escaped,
---further lines of a text are indented. The level comes from KILN_LOG at the start ("warn").
local log = {}

---@alias rt.log.Level "debug"|"info"|"warn"|"error"|"off"

---Writes what helps to find a fault in kiln.
---@param text string
function log.debug(text) end

---Writes what a curious user wants to know.
---@param text string
function log.info(text) end

---Writes what looks wrong and does not stop kiln.
---@param text string
function log.warn(text) end

---Writes what went wrong.
---@param text string
function log.error(text) end

---Tells, and sets, from which level on texts are written.
---@param name? rt.log.Level
---@return rt.log.Level
function log.level(name) end

---Sets the function that every text goes through, to take secrets out; nil: none. A text whose
---filter fails is not written.
---@param filter? fun(text: string): string
function log.filter(filter) end

return log
