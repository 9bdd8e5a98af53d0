---Hosts behind hosts, and ports that lead through them.
local sshd = require "spec.support.sshd"
local web = require "spec.support.web"
local fs = require "rt.fs"
local http = require "rt.http"
local ssh = require "kiln.ssh"
local timer = require "rt.timer"

describe("kiln.ssh", function()
  local near, middle, far, dir

  lazy_setup(function()
    near, middle, far = sshd.start(), sshd.start(), sshd.start()
    dir = assert(fs.temp_dir())
  end)
  lazy_teardown(function()
    for _, server in ipairs { near, middle, far } do server:stop() end
    assert(fs.remove(dir, { recursive = true }))
  end)

  ---Writes the files of a user who reaches `far` by way of the others.
  local function files(lines)
    local config, known = {}, {}
    for name, server in pairs { near = near, middle = middle, far = far } do
      assert(fs.write(("%s/%s"):format(dir, name), server.key, { mode = "0600" }))
      table.insert(config, ("Host %s\n  HostName 127.0.0.1\n  Port %d\n  User %s\n  IdentityFile "
        .. "%s/%s\n%s"):format(name, server.port, server.user, dir, name, lines[name] or ""))
      table.insert(known, ("[127.0.0.1]:%d %s\n"):format(server.port, server.host_key))
    end
    sshd.write(dir .. "/config", table.concat(config) .. "Host *\n  IdentityAgent none\n")
    sshd.write(dir .. "/known_hosts", table.concat(known))
    return { host = "far", config = dir .. "/config", known_hosts = dir .. "/known_hosts",
      within = 30 }
  end

  local function connections(server)
    local _, count = server:log():gsub("Accepted publickey", "")
    return count
  end

  it("follows ProxyJump, through one host and several, and closes them with the session", function()
    for _, lines in ipairs {
      { far = "  ProxyJump near\n" }, { far = "  ProxyJump near,middle\n" },
      { far = "  ProxyJump middle\n", middle = "  ProxyJump near\n" },
    } do
      local before = connections(near)
      local session = ssh.connect(files(lines))
      assert.equal("yes\n", session:run("echo yes").out)
      assert.equal(before + 1, connections(near))
      session:close()
      assert.is_false(session:alive())
    end
    assert.equal(2, connections(middle))
  end)

  it("takes a session to go through, which stays the caller's", function()
    local opts = near:options { within = 30 }
    opts.timeout = nil
    local first <close> = ssh.connect(opts)
    opts = far:options { within = 30, via = first }
    opts.timeout = nil
    local second = ssh.connect(opts)
    assert.equal("yes\n", second:run("echo yes").out)
    second:close()
    assert.equal("yes\n", first:run("echo yes").out)
  end)

  it("names the host on the way that fails, and leaves no connection", function()
    local opts = files { far = "  ProxyJump near,middle\n" }
    sshd.write(dir .. "/middle", (near:keygen("stranger", "-t ed25519")))
    local ok, err = pcall(ssh.connect, opts)
    assert.is_false(ok)
    assert.equal("auth", err.kind)
    assert.matches("127.0.0.1:" .. middle.port, err.message, 1, true)
    ok, err = pcall(ssh.connect, files { far = "  ProxyJump near\n", near = "  ProxyJump far\n" })
    assert.is_false(ok)
    assert.equal("invalid", err.kind)
    assert.matches("circle", err.message, 1, true)
    timer.sleep(0)
  end)

  it("waits for a host behind another one, over the same connection to that", function()
    local late <close> = sshd.start()
    late:halt()
    local opts = files { far = "  ProxyJump near\n" }
    sshd.write(dir .. "/config", (sshd.read(dir .. "/config")
      :gsub("Port " .. far.port, "Port " .. late.port):gsub("/far\n", "/late\n")))
    assert(fs.write(dir .. "/late", late.key, { mode = "0600" }))
    sshd.write(dir .. "/known_hosts", sshd.read(dir .. "/known_hosts") .. ("[127.0.0.1]:%d %s\n")
      :format(late.port, late.host_key))
    local before = connections(near)
    local starter = require("rt.task").spawn(function()
      timer.sleep(0.5)
      assert(late:launch())
    end)
    local session <close> = ssh.connect(opts)
    assert.equal("yes\n", session:run("echo yes").out)
    assert.equal(before + 1, connections(near))
    starter:join()
  end)

  it("opens ports here and there that lead through a host behind another", function()
    local served <close> = web.start(function(request) return { body = "at " .. request.path } end)
    local session <close> = ssh.connect(files { far = "  ProxyJump near\n" })
    local out <close> = session:forward { to_port = served.port }
    local answer = assert(http.request { url = ("http://%s:%d/out"):format(out.host, out.port) })
    assert.equal("at /out", answer.body)
    assert.is_nil(out:failure())
    local back <close> = session:listen { to_port = served.port }
    local command = ("curl -sS http://127.0.0.1:%d/back"):format(back.port)
    assert.equal("at /back", session:run(command).out)
    out:close()
    out:close()
    assert.is_nil((http.request { url = ("http://127.0.0.1:%d/"):format(out.port), timeout = 2 }))
    local ok, err = pcall(session.forward, session, { to_port = 1, port = served.port })
    assert.is_false(ok)
    assert.equal("exists", err.kind)
  end)

  it("goes on with commands while a forwarded port waits for one that never answers", function()
    local session <close> = ssh.connect(files {})
    local port <close> = session:forward { to_port = 9, to_host = "203.0.113.1" } -- RFC 5737
    local waiting = require("rt.task").spawn(function()
      return http.request { url = ("http://127.0.0.1:%d/"):format(port.port), timeout = 60 }
    end)
    timer.sleep(0.2)
    local started = timer.now()
    assert.equal("yes\n", session:run("echo yes").out)
    assert.is_true(timer.now() - started < 30)
    waiting:cancel()
    waiting:join()
    http.forget()
  end)
end)
