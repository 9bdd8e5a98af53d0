---A recipe that uses a little of everything, for runs in which memory ends.
local cloudinit = require "kiln.cloudinit"
local http = require "kiln.http"
local httpd = require "kiln.httpd"
local op = require "kiln.op"
local scope = require "kiln.scope"

local app = { name = "starve", secrets = { token = { command = { "printf", "token-of-starve" } } } }

local function read(name, perform)
  return op.call { name = name, class = "read", args = { name = name }, perform = perform }
end

---Asks a server of its own, in two tasks, with a secret.
function app.deploy(run)
  return run:transaction(function(undo)
    local token = run:secret "token"
    undo("nothing", function() return read("undo", function() return true end) end)
    local server <close> = httpd.serve {
      handler = function(request) return { body = request.method .. request.body } end,
    }
    local answers = scope.all({ "a", "b" }, function(name)
      return read("ask " .. name, function()
        return http.post(server.url .. "/" .. name, { body = token }).body
      end)
    end)
    run:step { name = "text", perform = function()
      return read("user-data", function()
        return cloudinit.config { cloudinit.env_file("/etc/app.env", { NAME = answers[1] }) }
      end)
    end }
    return #answers
  end)
end

return app
