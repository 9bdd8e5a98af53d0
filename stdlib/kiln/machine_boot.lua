---The end of cloud-init on a machine: whether what its user-data asked for was done.
local json = require "rt.json"
local error_ = require "kiln.error"

local machine_boot = {}

---How cloud-init can end, from good to bad, as `cloud-init status --long` calls it.
local ends = { done = 1, degraded = 2, error = 3 }

---Waits for cloud-init's end and prints how it was, then status.json. `cloud-init status --wait`
---has the same answer for the price of a Python that imports all of cloud-init: 0.4 s of CPU on
---each machine. cloud-init's generator writes `disabled`; a last stage that was killed writes no
---result.
local await_end = [[
d=/run/cloud-init turns=0
command -v cloud-init >/dev/null || { echo absent; exit; }
while [ ! -e $d/result.json ]; do
  if [ -e /etc/cloud/cloud-init.disabled ] || [ -e $d/disabled ]; then echo disabled; exit; fi
  if [ $((turns % 20)) = 19 ] && systemctl --quiet is-failed cloud-final cloud-init-main &&
    [ ! -e $d/result.json ]; then echo broken; exit; fi
  turns=$((turns + 1))
  sleep 0.1
done
echo ended
cat $d/status.json
]]

---What says more about a failure, the most telling last: its end is what people see.
local details = [[
cloud-init status --long
tail -n 15 /var/log/cloud-init-output.log
cloud-init schema --system 2>&1 | grep -v '^Valid schema'
]]

local function add(list, seen, text)
  text = text:gsub("%s+", " ")
  if not seen[text] then list[#list + 1] = text end
  seen[text] = true
end

---Sorts what the stages recorded. A deprecated key was obeyed all the same.
---@param status table status.json
---@return string[] errors, string[] warnings, string[] deprecations
local function problems_of(status)
  local errors, warnings, deprecations, seen = {}, {}, {}, {}
  local names = {}
  for name, stage in pairs(status.v1 or {}) do
    if type(stage) == "table" then names[#names + 1] = name end
  end
  table.sort(names)
  for _, name in ipairs(names) do
    local stage = status.v1[name]
    for _, text in ipairs(stage.errors or {}) do add(errors, seen, tostring(text)) end
    for level, texts in pairs(stage.recoverable_errors or {}) do
      for _, text in ipairs(texts) do
        add(level == "DEPRECATED" and deprecations or warnings, seen, tostring(text))
      end
    end
  end
  return errors, warnings, deprecations
end

local function fail(self, session, how, problems)
  local said = session:run(details, { check = false, timeout = 30 })
  error_.raise {
    kind = "exit", machine = self.name, output = said.out,
    message = ("cloud-init of %s %s%s"):format(self.name, how,
      #problems > 0 and ": " .. table.concat(problems, "; ") or ""),
  }
end

---Checks the option that says how cloud-init may end. Raises `invalid`.
---@param allowed? "done"|"degraded"|"error" ("done")
---@return "done"|"degraded"|"error"
function machine_boot.allowed(allowed)
  if allowed == nil or ends[allowed] then return allowed or "done" end
  error_.raise { kind = "invalid", message = ('cloud_init must be "done", "degraded" or "error", '
    .. "the worst end of cloud-init with which a machine is ready, not %s")
    :format(tostring(allowed)) }
end

---Waits until cloud-init has ended, and raises `exit` when that was worse than allowed. What is
---allowed, and what is deprecated, is noted in the run.
---@async
---@param self kiln.Machine
---@param session kiln.ssh.Session
---@param within number seconds
---@param allowed "done"|"degraded"|"error"
function machine_boot.await(self, session, within, allowed)
  local answer = session:run(await_end, { timeout = within }).out
  local word, text = answer:match("^(%a+)\n(.*)$")
  if word == "disabled" then return end
  if word ~= "ended" then
    fail(self, session, word == "absent" and "is not installed, and its user-data never ran"
      or "was ended before it was done", {})
  end
  local status = error_.check(json.decode(text))
  local errors, warnings, deprecations = problems_of(status)
  local ended = #errors > 0 and "error" or #warnings > 0 and "degraded" or "done"
  local problems = table.move(warnings, 1, #warnings, #errors + 1, errors)
  if ends[ended] > ends[allowed] then
    fail(self, session, ended == "error" and "failed" or "ended degraded", problems)
  end
  for _, list in ipairs { problems, deprecations } do
    for _, problem in ipairs(list) do
      self.on:note(("cloud-init of %s: %s"):format(self.name, problem))
    end
  end
end

return machine_boot
