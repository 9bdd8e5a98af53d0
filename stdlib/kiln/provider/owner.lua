---Whose a thing in a cloud is: project, environment, service and run, by the ledger and by labels.
local owner = {}

---@class kiln.Owner
---@field project? string
---@field env? string
---@field service? string
---@field run? string
---@field known boolean whether this project's ledger has it
---@field kiln boolean whether kiln made it

---Returns who made a thing: what the ledger says, else what its labels say.
---@param run kiln.Run
---@param kind "machine"|"address"|"database"
---@param row table the driver's
---@return kiln.Owner
function owner.of(run, kind, row)
  local tags = row.tags or {}
  local found = {
    project = tags.kiln_project, env = tags.kiln_env, service = tags.kiln_service,
    run = row.token and row.token:match("^kl%-(%x+)%-"), known = false,
    kiln = row.token ~= nil or tags.kiln_project ~= nil,
  }
  for _, made in ipairs(run.store:ledger { kind = kind, state = "live" }) do
    if made.provider == run.cloud.name and made.id == row.id then
      local maker = run.store:run(made.run)
      found.known, found.kiln = true, true
      found.project = found.project or run.store:project()
      found.env = found.env or maker and maker.env
      found.service = found.service or made.service
      found.run = found.run or made.run
    end
  end
  return found
end

---Tells whether a thing is of another project or another environment.
---@param run kiln.Run
---@param found kiln.Owner
---@return boolean
function owner.is_foreign(run, found)
  if not found.project then return false end -- an older kiln wrote nothing down
  return found.project ~= run.store:project() or found.env ~= nil and found.env ~= run.env
end

---Describes an owner: "belongs to this project, environment default, service app, run 81c0".
---@param run kiln.Run
---@param found kiln.Owner
---@return string
function owner.text(run, found)
  if not found.kiln then return "was not made by kiln" end
  local parts, ours = {}, run.store:project()
  if found.project and found.project ~= ours then
    parts[1] = "project " .. found.project
  elseif found.project then
    parts[1] = "this project"
  end
  for _, name in ipairs { "env", "service", "run" } do
    local text = found[name]
    if text and name == "run" then text = text:sub(1, 4) end
    if text then parts[#parts + 1] = (name == "env" and "environment" or name) .. " " .. text end
  end
  return "belongs to " .. table.concat(parts, ", ")
end

return owner
