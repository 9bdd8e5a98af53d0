---@meta rt.json

---Reads and writes JSON without losing anything: whole numbers are integers, `null` is not absent,
---an empty array is not an empty object.
---@class rt.json
---@field null lightuserdata the JSON null; present in a table, unlike nil
local json = {}

---Writes a value as JSON, with sorted keys, so that the same value gives the same text. A table
---with keys 1 to n is an array, one with string keys an object, an empty one an object unless it
---came from `json.array` or `json.decode`.
---Raises for what JSON cannot carry, with its place: floats that are whole numbers of 15 digits
---or more (an integer of any size is exact), NaN and infinity, strings that are not UTF-8, tables
---with holes or mixed keys, functions, secrets, nesting deeper than 500 levels.
---@param value any
---@param opts? { pretty: boolean?, sorted: boolean?, bytes: "refuse"|"keep"|"replace"? } indented
---  lines (false); keys sorted (true); bytes that are not UTF-8: raise, write byte 0xXX as \udcXX
---  for `decode` to read back, or write U+FFFD for others to read ("refuse")
---@return string text
function json.encode(value, opts) end

---Reads JSON (RFC 8259). Arrays stay arrays when emptied or encoded again.
---@param text string
---@param opts? { bytes: "refuse"|"keep"?, last_wins: boolean? } what \udc80 to \udcff are:
---  wrong, or bytes ("refuse"); of a key that comes twice the last is taken (false)
---@return any value `json.null` for null
---@return { kind: "invalid", message: string, line: integer?, column: integer? }? err bad JSON or
---  UTF-8, a whole number beyond 64 bits or a fraction of 15 digits or more, the same key twice,
---  nesting deeper than 500 levels
function json.decode(text, opts) end

---Marks a table as an array, so that it is one even when empty.
---@param list? table ({})
---@return table list the same table
function json.array(list) end

---Tells whether a value would be written as an array.
---@param value any
---@return boolean
function json.is_array(value) end

return json
