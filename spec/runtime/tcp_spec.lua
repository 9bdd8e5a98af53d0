local httpd = require "rt.httpd"
local task = require "rt.task"
local tcp = require "rt.tcp"
local timer = require "rt.timer"

describe("rt.tcp", function()
  it("reaches a port that is open", function()
    local server <close> = assert(httpd.listen())
    local reached = assert(tcp.reach { host = "127.0.0.1", port = server:port() })
    assert.is_true(reached.seconds >= 0 and reached.seconds < 5)
  end)

  it("says that nobody listens, or that a name does not exist", function()
    local _, err = tcp.reach { host = "127.0.0.1", port = 1 }
    assert.equal("unreachable", err.kind)
    assert.matches("127.0.0.1:1: ", err.message, 1, true)
    assert.equal("unreachable", select(2, tcp.reach { host = "no-such.invalid", port = 1 }).kind)
  end)

  it("gives up in time, and stops when cancelled", function()
    local nowhere = { host = "192.0.2.1", port = 9, timeout = 0.1 } -- RFC 5737: never assigned
    local before = timer.now()
    local _, err = tcp.reach(nowhere)
    assert.is_true(err.kind == "timeout" or err.kind == "unreachable") -- no route here, perhaps
    assert.is_true(timer.now() - before < 2)
    nowhere.timeout = 60
    local trying = task.spawn(tcp.reach, nowhere)
    timer.sleep(0)
    trying:cancel()
    trying:join()
    assert.is_true(timer.now() - before < 2)
  end)

  it("looks names up, and says which have no address", function()
    assert.equal("localhost", assert(tcp.look_up "localhost").canonical)
    local found, err = tcp.look_up "no-such.invalid"
    assert.is_nil(found)
    assert.is_true(err.kind == "not_found" or err.kind == "unreachable") -- no name server, perhaps
    assert.matches("no-such.invalid: ", err.message, 1, true)
    local looking = task.spawn(tcp.look_up, "other.invalid")
    timer.sleep(0)
    looking:cancel()
    looking:join()
  end)

  it("writes addresses in one form", function()
    assert.equal("2001:db8::1", tcp.address "2001:DB8:0:0::1")
    assert.equal("192.0.2.1", tcp.address "192.0.2.1")
    assert.is_nil(tcp.address "192.0.2")
    assert.is_nil(tcp.address "web")
  end)

  it("raises for wrong options", function()
    assert.has_error(function() tcp.reach { host = "h" } end)
    assert.has_error(function() tcp.reach { host = "h", port = 1, tiemout = 1 } end)
  end)
end)
