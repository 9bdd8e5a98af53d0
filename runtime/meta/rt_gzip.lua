---@meta rt.gzip

---Gzip'd bytes in memory (RFC 1952).
local gzip = {}

---Packs bytes. Holds the loop up for about 20 ms a megabyte.
---Raises for more than 16 MiB.
---@param bytes string
---@return string packed
function gzip.pack(bytes) end

---Unpacks bytes, of several members too.
---@param bytes string
---@param most integer bytes that the result may have
---@return string? plain
---@return table? err kind invalid (no gzip, or cut off), limit (more than `most`)
function gzip.unpack(bytes, most) end

return gzip
