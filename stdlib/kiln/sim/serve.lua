---A simulator over HTTP: what it answers is sent, what a fault loses is not.
local timer = require "rt.timer"
local httpd = require "kiln.httpd"

local serve = {}

---Gives a clock for a simulator: real time, or so many times as fast.
---@param speed? number (1)
---@return fun(): number seconds since 1970
function serve.clock(speed)
  local began, epoch = timer.now(), timer.time()
  return function() return epoch + (timer.now() - began) * (speed or 1) end
end

local function deliver(simulator, request, speed)
  local answer = simulator:answer {
    method = request.method, path = request.path, query = request.query,
    headers = request.headers, body = request.body,
  }
  if not answer then return { hang_up = true } end
  if answer.delay then timer.sleep(answer.delay / speed) end
  return { status = answer.status, headers = answer.headers, body = answer.body }
end

---Serves a simulator until the server is closed.
---Raises `exists` when the port is taken, and what `httpd.serve` raises.
---@param simulator table with `answer(request)`
---@param opts { host: string?, port: integer?, speed: number?, max_body: integer? } ("127.0.0.1"),
---  (a free one), (1)
---@return kiln.httpd.Server server
function serve.start(simulator, opts)
  return httpd.serve {
    host = opts.host, port = opts.port or 0,
    handler = function(request) return deliver(simulator, request, opts.speed or 1) end,
  }
end

return serve
