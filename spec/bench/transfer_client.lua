---What transfer_bench.lua measures of kiln:
---`kiln lua transfer_client.lua FOLDER HOST PORT USER VERB [SOURCE TARGET]`. The folder has the key
---and the host key.
local exec = require "rt.exec"
local fs = require "rt.fs"
local ssh = require "rt.ssh"
local transfer = require "rt.transfer"

local folder, host, port, user, verb, source, target = table.unpack(arg)
local session <close> = assert(ssh.connect {
  host = host, port = math.tointeger(tonumber(port)), user = user, timeout = 60,
  key = assert(fs.read(folder .. "/key")), host_key = assert(fs.read(folder .. "/host_key")),
})
if verb == "commands" then
  for _ = 1, 1000 do assert(exec.run(session, "true").code == 0) end
else
  assert(transfer[verb](session, { source = source, target = target, timeout = 600 }))
end
