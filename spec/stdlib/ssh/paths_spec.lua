---Where files go over ssh: the home folder there, folders as targets, modes.
local sshd = require "spec.support.sshd"
local fs = require "rt.fs"
local ssh = require "kiln.ssh"

describe("a path of kiln.ssh", function()
  local server, session, here

  lazy_setup(function()
    server = sshd.start() -- its users' home is its own folder
    session = ssh.connect {
      host = server.host, port = server.port, user = server.user, key = server.key,
      host_key = server.host_key, within = 20,
    }
  end)
  lazy_teardown(function()
    session:close()
    server:stop()
  end)
  before_each(function()
    here = assert(fs.temp_dir())
    assert(fs.mkdir(here .. "/tree"))
    assert(fs.write(here .. "/tree/in", "in the tree"))
    assert(fs.write(here .. "/tool", "#!/bin/sh\necho works\n", { mode = "0775" }))
  end)
  after_each(function() assert(fs.remove(here, { recursive = true })) end)

  local function refuses(said, method, ...)
    local ok, err = pcall(session[method], session, ...)
    assert.is_false(ok)
    assert.equal("invalid", err.kind)
    assert.matches(said, err.message, 1, true)
  end

  it("may begin in the home folder there, which the message names as it was given", function()
    session:upload(here .. "/tool", "~/new folder/tool")
    session:upload(here .. "/tree", "~/tree")
    session:write("~/text", "written")
    assert.equal("works\n", session:run("'./new folder/tool'", { cwd = server.dir }).out)
    assert.equal("in the tree", fs.read(server.dir .. "/tree/in"))
    assert.equal("written", fs.read(server.dir .. "/text"))
    session:download("~/text", here .. "/text")
    session:download("~/tree", here .. "/tree-back")
    assert.equal("written", fs.read(here .. "/text"))
    assert.equal("in the tree", fs.read(here .. "/tree-back/in"))
    local ok, err = pcall(session.download, session, "~/absent", here .. "/x")
    assert.is_false(ok)
    assert.equal("not_found", err.kind)
    assert.matches("~/absent", err.message, 1, true)
    refuses("on a machine only ~/… is known", "upload", here .. "/tool", "~root/x")
    refuses("on a machine only ~/… is known", "download", "~", here .. "/x")
  end)

  it("that ends in / is a folder which takes the source under its own name", function()
    session:upload(here .. "/tool", "~/bin/")
    session:upload(here .. "/tree/", server.dir .. "/all/")
    assert.equal("works\n", session:run(server.dir .. "/bin/tool").out)
    assert.equal("in the tree", fs.read(server.dir .. "/all/tree/in"))
    session:upload(here .. "/tool", "~/")
    assert.equal("works\n", session:run(server.dir .. "/tool").out)
    session:download("~/bin/tool", here .. "/")
    session:download(server.dir .. "/all/tree/", here .. "/tree/")
    assert.equal("in the tree", fs.read(here .. "/tree/tree/in"))
    refuses("has no name of its own", "upload", here .. "/tree/..", "~/x/")
  end)

  it("keeps its mode, but nobody else may write it; a given mode counts more", function()
    session:upload(here .. "/tool", "~/kept")
    assert.equal("0755", fs.stat(server.dir .. "/kept").mode)
    session:upload(here .. "/tool", "~/given", { mode = "0600" })
    assert.equal("0600", fs.stat(server.dir .. "/given").mode)
    assert(fs.write(here .. "/private", "x", { mode = "0600" }))
    session:upload(here .. "/private", "~/private")
    assert.equal("0600", fs.stat(server.dir .. "/private").mode)
  end)
end)
