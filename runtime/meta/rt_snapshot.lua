---@meta rt.snapshot

---Images of local machines: layers that never change; a machine from one is a mount.
local snapshot = {}

---@class rt.snapshot.Row
---@field name string
---@field digest? string sha256 of the layer; a base has none
---@field bytes? integer of the layer
---@field token? string
---@field data? string
---@field created integer seconds since 1970

---Freezes a stopped machine into an image, cleaned of its identity. The machine can only be
---destroyed afterwards. An image of that name is left and returned.
---@async
---@param options { dir: string, name: string, image: string, token: string?, data: string? }
---@return rt.snapshot.Row? row
---@return table? err not_found, invalid (it runs), io
function snapshot.freeze(options) end

---Lists the site's images.
---@async
---@param options { dir: string }
---@return rt.snapshot.Row[]? rows
---@return table? err
function snapshot.list(options) end

---Removes an image, and what a freeze under its name left that was cut off; fine when it is gone.
---@async
---@param options { dir: string, image: string, token: string? } only if it is that token's
---@return true? done
---@return table? err exists: a machine or an image stands on it
function snapshot.remove(options) end

return snapshot
