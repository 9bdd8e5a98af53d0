---What http_bench.lua measures from outside: the server, and the requests.
---  http_requests.lua serve           prints its URL and serves until its input ends
---  http_requests.lua ask URL N AT_ONCE [rt]   through kiln.http, or rt.http below it
local http = require "kiln.http"
local httpd = require "kiln.httpd"
local rt_http = require "rt.http"
local scope = require "kiln.scope"

if arg[1] == "serve" then
  local body = ("x"):rep(512)
  local server <close> = httpd.serve { handler = function() return { body = body } end,
    connections = 1000 }
  io.write(server.url, "/\n")
  io.flush()
  server:wait()
end

local url, requests, at_once = arg[2], tonumber(arg[3]), tonumber(arg[4])
local ask = arg[5] == "rt" and function() return assert(rt_http.request { url = url }) end
  or function() return http.get(url) end
local left = requests
local workers = {}
for worker = 1, at_once do
  workers[worker] = function()
    while left > 0 do
      left = left - 1
      local answer = ask()
      assert(answer.status == 200 and #answer.body == 512)
    end
  end
end
scope.all(workers)
