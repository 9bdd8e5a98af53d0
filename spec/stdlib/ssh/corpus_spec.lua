---Configuration files as people write them (corpus/*.conf), each with hosts: `ssh -G` is asked, and
---kiln must say the same, refuse what ssh refuses, or refuse by itself with the file and the line.
local fs = require "rt.fs"
local proc = require "rt.proc"
local sshd = require "spec.support.sshd"
local ssh_g = require "spec.support.ssh_g"
local config = require "kiln.ssh.config"

---The pairs that kiln refuses and ssh does not: a new one is a fault, or belongs here.
local refused_by_kiln = {
  ["match_exec web"] = "unsupported", ["match_exec_vpn db.corp"] = "unsupported",
  ["match_more_and_all web"] = "invalid", ["path_hash web"] = "invalid",
  ["path_bad_token web"] = "invalid", ["port_words web"] = "invalid",
  ["odd_addresses 127.1"] = "invalid", ["odd_addresses 0x7f000001"] = "invalid",
  ["odd_addresses 010.0.0.1"] = "invalid", ["odd_addresses 1.2.3"] = "invalid",
}

describe("kiln.ssh.config and ssh -G", function()
  local dir

  lazy_setup(function()
    dir = assert(fs.temp_dir())
    os.execute(("cp -r spec/stdlib/ssh/corpus/. %s && chmod -R go-w %s && chmod o+w "
      .. "%s/include/writable"):format(dir, dir, dir))
  end)
  lazy_teardown(function() assert(fs.remove(dir, { recursive = true })) end)

  ---One host of one file: "equal", "both refuse", "kiln refuses", or what is wrong.
  local function compare(name, path, host)
    local said, refusal = ssh_g.ask(path, host)
    local ok, ours = pcall(config.resolve, host, { file = path })
    if ok and said then
      local differences = ssh_g.differences(said, ours, host)
      return #differences == 0 and "equal" or table.concat(differences, "; ")
    elseif ok then
      return "ssh refuses and kiln does not: " .. refusal
    elseif type(ours) ~= "table" or not ours.message then
      return "kiln ends with a fault: " .. tostring(ours)
    elseif not said then
      return "both refuse"
    end
    local expected = refused_by_kiln[name .. " " .. host]
    return expected == ours.kind and "kiln refuses" or "kiln alone refuses: " .. ours.message
  end

  local function hosts_of(text)
    local hosts = {}
    for host in assert(text:match("^# hosts: ([^\n]*)")):gsub('"[^"]*"', ""):gmatch("%S+") do
      hosts[#hosts + 1] = host
    end
    return hosts
  end

  it("agree on canonical names, as /etc/hosts has them", function()
    if proc.info().uid ~= 0 then pending "needs root for a mount namespace" return end
    sshd.write(dir .. "/hosts", "127.0.0.1 localhost\n127.0.0.2 web.example.com.\n"
      .. "127.0.0.3 real.example.net db.example.com.\n127.0.0.4 other.example.net mail\n")
    local text = "CanonicalizeHostname %s\nCanonicalDomains example.org example.com\n"
      .. "CanonicalizePermittedCNAMEs *.example.com:*.example.net\n%sHost *.example.com\n"
      .. "  User com\nHost *.example.net\n  User net\nMatch canonical\n  Port 2200\n"
    sshd.write(dir .. "/program.lua", [[
      local ssh_g = require "spec.support.ssh_g"
      local host, path = ...
      local said = assert(ssh_g.ask(path, host))
      local ours = require("kiln.ssh.config").resolve(host, { file = path })
      local wrong = table.concat(ssh_g.differences(said, ours, host), "; ")
      print(wrong, ours.host, ours.user, ours.port) ]])
    for index, case in ipairs {
      { "yes", "", "web", "web.example.com", "com", 2200 },
      { "yes", "", "db", "real.example.net", "net", 2200 },
      { "yes", "", "mail", "mail", "root", 2200 }, -- its CNAME is not permitted
      { "yes", "", "web.example.com.", "web.example.com", "com", 2200 },
      { "yes", "ProxyJump gate\n", "web", "web", "root", 2200 },
      { "always", "ProxyJump gate\n", "web", "web.example.com", "com", 2200 },
      { "no", "", "mail", "mail", "root", 22 },
    } do
      local path = ("%s/canonical%d"):format(dir, index)
      sshd.write(path, text:format(case[1], case[2]))
      local done = assert(proc.run { argv = { "unshare", "-m", "sh", "-c", "mount --bind \"$1\" "
        .. "/etc/hosts && exec \"$2\" lua \"$3\" \"$4\" \"$5\"", "sh", dir .. "/hosts",
        proc.info().exe, dir .. "/program.lua", case[3], path }, env = { KILN_PATH = "." } })
      assert.equal(("\t%s\t%s\t%d\n"):format(case[4], case[5], case[6]), done.out, done.err)
    end
  end)

  it("agree, on every file and host of the corpus", function()
    local counts, wrong, files = { equal = 0, ["both refuse"] = 0, ["kiln refuses"] = 0 }, {}, 0
    for _, path in ipairs(assert(fs.glob(dir .. "/*.conf"))) do
      local name = path:match("([^/]*)%.conf$")
      local text = sshd.read(path):gsub("DIR", dir)
      local hosts = hosts_of(text)
      sshd.write(path, (text:gsub("^[^\n]*\n", ""))) -- the first line may be one that matters
      files = files + 1
      for _, host in ipairs(hosts) do
        local verdict = compare(name, path, host)
        if counts[verdict] then
          counts[verdict] = counts[verdict] + 1
        else
          wrong[#wrong + 1] = ("%s %s: %s"):format(name, host, verdict)
        end
      end
    end
    assert.equal("", table.concat(wrong, "\n"))
    print(("\nssh -G: %d files, %d pairs equal, %d refused by both, %d by kiln alone"):format(files,
      counts.equal, counts["both refuse"], counts["kiln refuses"]))
    assert.is_true(files >= 100 and counts.equal >= 110 and counts["both refuse"] >= 30)
    assert.is_true(counts["kiln refuses"] <= 10)
  end)
end)
