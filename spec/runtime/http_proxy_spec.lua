---rt.http through proxies: our own server for plain http, a tunnelling one in Python for https.
local crypto = require "rt.crypto"
local http = require "rt.http"
local proc = require "rt.proc"
local certificates = require "spec.support.certificates"
local web = require "spec.support.web"

---Starts the tunnelling proxy; nil and a skipped test where there is no Python.
local function tunnel(...)
  local child = proc.start { argv = { "python3", "spec/support/connect_proxy.py", ... } }
  local port = child and child:read_line()
  if not port then
    pending "python3 is not installed: tunnels through proxies are not tried"
    return nil
  end
  return setmetatable({ port = port, child = child }, {
    __close = function()
      child:kill("KILL")
      child:wait()
    end,
  })
end

describe("rt.http through a proxy", function()
  it("asks the explicit one, with its credentials, which nobody else sees", function()
    local proxy <close> = web.start(function(request) return { body = request.path } end)
    local address = crypto.secret(("http://user:s3cr3t@127.0.0.1:%d"):format(proxy.port))
    local answer = assert(http.request { url = "http://far.invalid/a", proxy = address })
    assert.equal(200, answer.status)
    local seen = proxy.seen[1].headers
    assert.equal("far.invalid", seen.host)
    assert.equal("Basic " .. crypto.base64("user:s3cr3t"), seen["proxy-authorization"])
    proxy:close()
    local _, err = http.request { url = "http://far.invalid/a", proxy = address }
    assert.same({ "unreachable", "none" }, { err.kind, err.effect })
    assert.not_matches("s3cr3t", err.message, 1, true)
  end)

  it("asks it for this machine's servers too, and not for those that are excepted", function()
    local proxy <close> = web.start(function() return { body = "by proxy" } end)
    local site <close> = web.start(function() return { body = "direct" } end)
    local address = ("http://127.0.0.1:%d"):format(proxy.port)
    local function ask(no_proxy)
      return assert(http.request { url = site.url, proxy = address, no_proxy = no_proxy }).body
    end
    assert.equal("by proxy", ask(nil))
    assert.equal("by proxy", ask("192.0.2.0/24,a.example"))
    assert.equal("direct", ask("127.0.0.0/8"))
    assert.has_error(function() http.request { url = site.url, no_proxy = "a.example" } end)
    assert.has_error(function()
      http.request { url = site.url, proxy = address, direct = true }
    end)
  end)

  it("tunnels to an https server, which learns nothing of the proxy", function()
    local made <close> = certificates.make()
    local server <close> = made:serve()
    local proxy <close> = tunnel "user:s3cr3t"
    if not proxy then return end
    local target = server.url:match("//(.-)/")
    local request = {
      url = server.url, ca = made:text "ca.pem",
      proxy = crypto.secret("http://user:s3cr3t@127.0.0.1:" .. proxy.port),
    }
    local answer = assert(http.request(request))
    assert.equal("CONNECT " .. target .. " user", proxy.child:read_line())
    assert.equal(200, answer.status)
    assert.is_nil(answer.headers["x-proxy"])
    http.forget()
    request.ca = nil
    local _, err = http.request(request)
    assert.same({ "tls", "none" }, { err.kind, err.effect })
    http.forget()
  end)

  it("sends nothing when the proxy refuses the tunnel", function()
    local proxy <close> = tunnel "user:s3cr3t"
    if not proxy then return end
    local _, err = http.request { url = "https://127.0.0.1:1/", method = "POST", body = "x",
      proxy = "http://user:wrong@127.0.0.1:" .. proxy.port }
    assert.equal("none", err.effect)
    assert.not_matches("wrong", err.message, 1, true)
    http.forget()
  end)
end)
