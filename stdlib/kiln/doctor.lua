---Tells what a cloud needs of this host, what is missing, and how to get it.
local error_ = require "kiln.error"

local doctor = {}

---@class kiln.DoctorRow
---@field name string what was tried
---@field ok boolean
---@field warning? boolean ok, but with less than it could be
---@field message string what was found
---@field remedy? string what to do when it is not ok

---Asks a driver for its checks of this host, and of what it has here. A check that cannot even run
---is a row that is not ok.
---@async
---@param driver table
---@return kiln.DoctorRow[] rows
---@return boolean ok all of them
function doctor.run(driver)
  local done, rows = xpcall(function()
    local found, parts = driver:check(), driver.parts and driver:parts() or {}
    return table.move(parts, 1, #parts, #found + 1, found)
  end, error_.from)
  if not done then
    if error_.is(rows, "cancelled", "stopped") then error(rows, 0) end
    rows = { { name = driver.name, ok = false, message = rows.message } }
  end
  local ok = true
  for _, row in ipairs(rows) do ok = ok and row.ok == true end
  return rows, ok
end

---Writes rows as lines for people: "✓ name — message" ("!": with less
---than it could be), and below what is not ok what to do.
---@param rows kiln.DoctorRow[]
---@return string[]
function doctor.lines(rows)
  local width, lines = 0, {}
  for _, row in ipairs(rows) do width = math.max(width, utf8.len(row.name) or #row.name) end
  for _, row in ipairs(rows) do
    local space = (" "):rep(width - (utf8.len(row.name) or #row.name))
    local sign = not row.ok and "✗" or row.warning and "!" or "✓"
    lines[#lines + 1] = ("%s %s%s — %s"):format(sign, row.name, space, row.message)
    if not row.ok and row.remedy then
      lines[#lines + 1] = ("  %s   %s"):format((" "):rep(width), row.remedy)
    end
  end
  return lines
end

return doctor
