---A process of the kill matrix on local machines: starts, resumes or aborts a run, and is ended by
---SIGKILL at a point of it. Prints the points that it passed.
---
---  kiln lua spec/matrix/local_life.lua start DIR/app.lua POINT [VERSION]
---  kiln lua spec/matrix/local_life.lua resume|abort DIR POINT RUN
local death = require "spec.matrix.death"
local fs = require "rt.fs"
local json = require "rt.json"
local proc = require "rt.proc"
local task = require "rt.task"
local timer = require "rt.timer"

death.watch_journals() -- before kiln.store takes the journal's functions

local pid = proc.info().pid
local how, where, at, word = table.unpack(arg, 1, 4)

---Ends this process; `helpers`: and what works for it, in the middle of its work.
local function kill(helpers)
  if helpers then
    os.execute(("kill -KILL %d $(ps -o pid= --ppid %d)"):format(pid, pid))
  else
    os.execute(("kill -KILL %d"):format(pid))
  end
end

function death.kill() kill(false) end

---Names of points are the same in every run: without what each run numbers anew.
local function named(what)
  return (what:gsub("10%.199%.(%d+)%.%d+", function(net)
    return math.tointeger(tonumber(net)) % 4 == 1 and "MACHINE" or "FRONT" -- 77 and 78, 81 and 82
  end):gsub("%-%x%x%x%x%x%x%x%x", "-HASH"):gsub("builder%-%x+", "builder"):gsub("/tmp/%w+", "DIR")
    :gsub("app%-%a+%-%d+", "app-N"):gsub("%f[%w]v%d+%f[%W]", "V"):gsub("%s+", " "))
end

local pass, times, seen = death.pass, {}, {}

---Passes a point; the second one of a name is "NAME #2".
local function point(what)
  what = named(what)
  times[what] = (times[what] or 0) + 1
  if times[what] > 1 then what = ("%s #%d"):format(what, times[what]) end
  seen[#seen + 1] = what
  pass(what)
end

death.pass = point

---Lists the processes that work for this one.
local function children()
  local found = {}
  for _, path in ipairs(assert(fs.glob(("/proc/%d/task/*/children"):format(pid)))) do
    for number in (fs.read(path) or ""):gmatch("%d+") do found[number] = true end
  end
  return found
end

---Waits until a new process works for this one, which it does as soon as a change to a machine has
---begun: however short that takes, the cut comes in the middle. A command over ssh has none; it
---takes longer than this waits.
local function await_work(before)
  local deadline = timer.now() + 0.02
  while timer.now() < deadline do
    timer.sleep(0)
    for number in pairs(children()) do
      if not before[number] then return end
    end
  end
end

---Does something to the world. Three points: in the middle of it, kiln alone; in the middle, with
---what works for it; done, and nobody knows.
local function effect(what, body, ...)
  for _, prefix in ipairs { "during ", "cutting " } do
    local name = named(prefix .. what)
    seen[#seen + 1] = name
    if at == name then
      local before = children()
      task.spawn(function()
        await_work(before)
        kill(prefix == "cutting ")
      end)
    end
  end
  local results = table.pack(body(...))
  point("done " .. what)
  return table.unpack(results, 1, results.n)
end

local provider = require "providers.local"
local new = provider.new

provider.new = function(options)
  local driver = new(options)
  local face = setmetatable({}, { __index = driver })
  for _, name in ipairs { "create_machine", "power_off", "destroy_machine", "snapshot",
    "destroy_image", "create_address", "assign_address", "destroy_address" } do
    face[name] = function(_, ...) return effect(name, driver[name], driver, ...) end
  end
  return face
end

local ssh = require "kiln.ssh"
local connect = ssh.connect

ssh.connect = function(options)
  local session = connect(options)
  local face = setmetatable({}, { __index = function(_, name)
    local method = session[name]
    return type(method) == "function" and function(_, ...) return method(session, ...) end or method
  end })
  function face.run(_, command, opts)
    local guarded = command:match("kiln%-guard %S+ '?([^\n]*)")
    if not guarded then return session:run(command, opts) end
    return effect("command " .. guarded:sub(1, 40), session.run, session, command, opts)
  end
  function face.upload(_, source, target, opts)
    return effect("upload " .. target, session.upload, session, source, target, opts)
  end
  function face.write(_, target, content, opts)
    return effect("write " .. target, session.write, session, target, content, opts)
  end
  return face
end

local run = require "kiln.run"
death.live(at ~= "" and at or nil)
local made
if how == "start" then
  made = run.start { file = where, args = { version = word, health_within = 2 } }
else
  made = run[how] { dir = where, run = word }
end
print(json.encode {
  status = made.status, points = seen, error = made.error and made.error.message,
})
