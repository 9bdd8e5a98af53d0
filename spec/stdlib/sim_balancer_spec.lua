---A simulator's load balancer passes traffic to members that are well, in turn, and to no other.
local balancer = require "kiln.sim.balancer"
local error_ = require "kiln.error"
local http = require "kiln.http"
local httpd = require "kiln.httpd"
local rt_http = require "rt.http"
local timer = require "rt.timer"

---Starts a member: an HTTP server on a loopback address of its own.
local function member(id, port)
  local self = { id = id, address = "127.77.9." .. id, well = true, asked = {} }
  self.server = httpd.serve {
    host = self.address, port = port,
    handler = function(request)
      if request.path == "/health" then return { status = self.well and 200 or 500 } end
      self.asked[#self.asked + 1] = request
      return { status = 207, headers = { ["X-Member"] = tostring(id) }, body = request.body }
    end,
  }
  return self
end

---Opens a load balancer with two members; closes all of it with its block.
local function open()
  local one = member(1, 0)
  local port = one.server.port
  local self = { one = one, two = member(2, port), said = {},
    rules = { { entry_protocol = "http", entry_port = port, target_port = port } } }
  self.members = { one, self.two }
  self.front = balancer.open(function()
    return { members = self.members, rules = self.rules, health = {
      protocol = "http", port = port, path = "/health", check_interval_seconds = 0.02,
      response_timeout_seconds = 5, healthy_threshold = 2, unhealthy_threshold = 2,
    } }
  end, function(text) self.said[#self.said + 1] = text end)

  function self.ask(body)
    return http.request {
      method = body and "POST" or "GET", check = false, attempts = 1, body = body,
      url = ("http://%s:%d/a%%20b?c=d"):format(self.front.ip, port),
    }
  end

  ---Asks until the answers come from these members and no other.
  function self.await(wanted)
    local deadline = timer.now() + 30
    repeat
      local seen = {}
      for index = 1, 4 do
        local answer = self.ask()
        seen[index] = answer.headers["x-member"] or tostring(answer.status)
      end
      table.sort(seen)
      if table.concat(seen, " ") == wanted then return end
      timer.sleep(0.01)
    until timer.now() > deadline
    error("the members never were " .. wanted)
  end

  return setmetatable(self, { __close = function()
    self.front:close()
    one.server:close()
    self.two.server:close()
    rt_http.forget()
  end })
end

describe("a simulator's load balancer", function()
  setup(function()
    rt_http.request { url = "http://127.0.0.1:1/" } -- libcurl opens what it keeps for good
  end)

  it("gives each member its turn, with request and answer as they are", function()
    local bed <close> = open()
    bed.await "1 1 2 2"
    local answer = bed.ask "some bytes"
    assert.equal(207, answer.status)
    assert.equal("some bytes", answer.body)
    local last = (answer.headers["x-member"] == "1" and bed.one or bed.two).asked
    local seen = last[#last]
    assert.equal("POST", seen.method)
    assert.equal("/a%20b?c=d", seen.target)
    assert.equal("127.0.0.1", seen.headers["x-forwarded-for"])
    assert.same({}, bed.said)
  end)

  it("leaves out who is not well, and takes it back", function()
    local bed <close> = open()
    bed.await "1 1 2 2"
    bed.one.well = false
    bed.await "2 2 2 2"
    bed.one.well = true
    bed.await "1 1 2 2"
  end)

  it("answers 503 while nobody is well, and follows its members", function()
    local bed <close> = open()
    bed.one.well, bed.two.well = false, false
    bed.await "503 503 503 503"
    bed.one.well = true
    bed.await "1 1 1 1"
    bed.members = { bed.two }
    bed.await "503 503 503 503"
  end)

  it("has an address of its own, and none after its end", function()
    local bed <close> = open()
    local other = balancer.open(function()
      return { members = {}, rules = bed.rules, health = { check_interval_seconds = 1 } }
    end, function() end)
    assert.not_equal(bed.front.ip, other.ip)
    other:close()
    bed.front:close()
    local ok, err = pcall(bed.ask)
    assert.is_false(ok)
    assert.is_true(error_.is(err, "unreachable"), tostring(err))
  end)
end)
