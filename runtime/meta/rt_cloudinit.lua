---@meta rt.cloudinit

---User-data as cloud-init reads it.
---https://cloudinit.readthedocs.io/en/latest/explanation/format.html
local cloudinit = {}

---Renders a cloud-config document.
---@param config table
---@param opts? { max_bytes: integer? } what the cloud takes (65536)
---@return string? text "#cloud-config\n…"
---@return table? err kind limit
function cloudinit.config(config, opts) end

---Renders several parts as one MIME document. The same parts give the same text.
---@param parts { type: "cloud-config"|"shellscript"|"cloud-boothook"|"jinja2", content: string,
---  filename: string? }[]
---@param opts? { max_bytes: integer? } what the cloud takes (65536)
---@return string? text
---@return table? err kind limit
function cloudinit.multipart(parts, opts) end

return cloudinit
