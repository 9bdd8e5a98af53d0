---@meta rt.yaml

---YAML: written so that YAML 1.1 readers see the types that were meant. Values are those of
---`rt.json`: `json.null`, arrays marked by `json.array`.
local yaml = {}

---Writes a value as one document, in block style, with sorted keys.
---A value that is not UTF-8 becomes `!!binary`. Raises for what YAML cannot carry here: functions,
---secrets, NaN, names that are not UTF-8, tables with mixed keys, nesting deeper than 500 levels.
---@param value any
---@return string text
function yaml.encode(value) end

---Reads one document. Plain scalars follow YAML 1.1 (yes, no, on, off are booleans), without
---sexagesimal numbers. `!!binary` gives the bytes. Keys are text. Aliases give the same table
---again.
---@param text string
---@return any? value `json.null` for an empty document
---@return table? err with the line; kind invalid, or unsupported for what would get another
---  meaning: tags (!mine), merge keys (<<), whole numbers above 64 bits
function yaml.decode(text) end

return yaml
