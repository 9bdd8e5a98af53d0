---What the store makes of a file that is damaged, old, new, read-only, on a full disk, or shared.
local fs = require "rt.fs"
local journal = require "rt.journal"
local proc = require "rt.proc"
local recipes = require "spec.support.recipes"
local faults = require "spec.support.store_faults"
local schema = require "kiln.store_schema"
local store_ = require "kiln.store"
local task = require "rt.task"
local fault_vfs = require "fault_vfs"

local exe = assert(fs.realpath("/proc/self/exe"))

local app = [[
local op = require "kiln.op"
local app = { name = "app" }
function app.deploy(run)
  local first = op.call { name = "first", class = "read",
    perform = function() return ("the first result "):rep(400) end }
  op.call { name = "second", class = "read", perform = function()
    local world = require "kiln.spec_world"
    if world.read(run.dir .. "/again") == "" then world.stop "by the spec" end
  end }
  return #first
end
return app
]]

---A folder with a run that stopped, its state in one file.
local function stopped_run()
  local folder = recipes.folder()
  folder:write("app.lua", app)
  local outcome = folder:start("app.lua")
  assert.equal("stopped", outcome.status, outcome.error and outcome.error.message)
  folder:write("again", "yes")
  local db = assert(journal.open(folder.dir .. "/.kiln/state.db"))
  assert(db:exec("PRAGMA wal_checkpoint(TRUNCATE)"))
  db:close()
  assert(fs.remove(folder.dir .. "/.kiln/state.db-wal"))
  return folder, outcome.run, folder:read(".kiln/state.db")
end

local function with_state(folder, bytes)
  fs.remove(folder.dir .. "/.kiln/state.db-wal")
  fs.remove(folder.dir .. "/.kiln/state.db-shm")
  assert(fs.write(folder.dir .. "/.kiln/state.db", bytes))
end

local function is_refused(outcome, context)
  assert.is_not_nil(outcome.error, context)
  assert.equal("store", outcome.error.kind, context .. ": " .. outcome.error.message)
  assert.matches("damaged: copy its folder", outcome.error.message, 1, true)
end

describe("kiln.store", function()
  it("loses nothing and does nothing unwritten whichever call to the disk fails (a sample; "
    .. "target faults-store runs them all)", function()
    local total = faults.matrix(23)
    io.write("\n", faults.summary(total), "\n")
    assert.is_true(total.fired >= 20)
  end)

  it("refuses to go on from a damaged page, whichever it is", function()
    local folder <close>, id, whole = stopped_run()
    local refused = 0
    for page = 0, #whole // 4096 - 1 do
      with_state(folder, whole:sub(1, page * 4096) .. ("\xA5"):rep(4096)
        .. whole:sub(page * 4096 + 4097))
      local outcome = folder:continue("resume", id)
      is_refused(outcome, "page " .. page + 1)
      refused = refused + 1
    end
    io.write(("\nstore: %d of %d damaged pages refused\n"):format(refused, #whole // 4096))
    with_state(folder, whole)
    assert.equal("done", folder:continue("resume", id).status)
  end)

  it("refuses a changed byte in what a resumed run relies on", function()
    local folder <close>, id, whole = stopped_run()
    for _, what in ipairs { "the first result ", "local app = ", "deploy{}", "secondread" } do
      local at = assert(whole:find(what, 1, true), what)
      with_state(folder, whole:sub(1, at) .. "~" .. whole:sub(at + 2))
      is_refused(folder:continue("resume", id), what)
    end
  end)

  it("refuses the file of a newer kiln and leaves it as it is", function()
    local folder <close>, _, whole = stopped_run()
    local newer = whole:sub(1, 60) .. "\0\0\3\xE7" .. whole:sub(65) -- user_version 999
    with_state(folder, newer)
    local done = assert(proc.run { argv = { exe, "-C", folder.dir, "runs" } })
    assert.equal(1, done.code)
    assert.matches("written by a newer kiln (schema 999", done.err, 1, true)
    assert.equal(newer, folder:read(".kiln/state.db"))
  end)

  local function old_store(dir)
    assert(fs.mkdir(dir .. "/.kiln", { parents = true }))
    local db = assert(journal.open(dir .. "/.kiln/state.db"))
    for statement in schema.script(1):gmatch("[^;]+") do assert(db:exec(statement)) end
    assert(db:exec([[INSERT INTO runs (id, recipe, entry, args, env, cloud, service,
      kiln_version, status, started) VALUES ('0123abcd', 'app.lua', 'deploy', '{}', 'default',
      'none', 'app', '0', 'done', 1.0)]]))
    assert(db:exec("PRAGMA wal_checkpoint(TRUNCATE)"))
    db:close()
  end

  it("brings the file of an older kiln to today's schema", function()
    local folder <close> = recipes.folder()
    old_store(folder.dir)
    local store <close> = store_.open(folder.dir)
    assert.equal("deploy", store:run("0123").entry)
    store:source_put("0123abcd", "app.lua", app)
    assert.equal(app, store:sources("0123abcd")["app.lua"])
  end)

  it("names an older kiln's releases after their environment, and finds their cloud", function()
    local folder <close> = recipes.folder()
    old_store(folder.dir)
    local db = assert(journal.open(folder.dir .. "/.kiln/state.db"))
    local old = { { "app", "default" }, { "app", "staging" }, { "web-staging", "staging" } }
    for _, row in ipairs(old) do
      row[3] = '{"machines":[],"address":{}}'
      assert(db:exec([[INSERT INTO releases (run, service, env, version, image, colour, state, data,
        created) VALUES ('0123abcd', ?1, ?2, 'v1', 'app-1', 'blue', 'serving', ?3, 1.0)]], row))
    end
    db:close()
    local store <close> = store_.open(folder.dir)
    local found = {}
    for index, row in ipairs(store:releases()) do
      found[index] = ("%s %s %s"):format(row.service, row.env, row.cloud)
    end
    local wanted = { "app default none", "app-staging staging none", "web-staging staging none" }
    assert.same(wanted, found)
    assert.same({ "default", "staging" }, store:environments())
  end)

  it("is old or new, never between, when the disk fails in the migration", function()
    local folder <close> = recipes.folder()
    old_store(folder.dir)
    local old, failed = folder:read(".kiln/state.db"), 0
    for nth = 1, 200 do
      with_state(folder, old)
      fault_vfs.arm { kind = "broken", nth = nth, sticky = true }
      local ok, err = pcall(function() store_.open(folder.dir):close() end)
      local _, fired = fault_vfs.disarm()
      if not fired then break end
      failed = failed + (ok and 0 or 1)
      assert.is_true(ok or err.kind == "store", not ok and err.message)
      local store <close> = store_.open(folder.dir)
      assert.equal("done", store:run("0123").status)
    end
    assert.is_true(failed > 20, failed)
  end)

  ---Runs a shell script as root of namespaces of its own.
  local function in_namespaces(script, ...)
    local done = assert(proc.run { timeout = 60, argv = {
      "unshare", "--user", "--map-root-user", "--mount", "sh", "-euc", script, "sh", ...,
    } })
    assert.is_nil(done.err:find("unshare:", 1, true), done.err)
    return done
  end

  it("says that a folder is read-only, and what to look at", function()
    local folder <close> = stopped_run()
    local script = 'mount --bind "$1" "$1"; mount -o remount,bind,ro "$1"; "$2" -C "$1" "$3" "$4"'
    for _, words in ipairs { { "runs", "--json" }, { "run", "app.lua" } } do
      local done = in_namespaces(script, folder.dir, exe, words[1], words[2])
      assert.equal(1, done.code, done.err)
      assert.matches("state in .*/state%.db: .*mounted read%-only%?", done.err)
    end
  end)

  it("says that the disk is full, at the start and in the middle, and goes on with room", function()
    local folder <close> = recipes.folder()
    folder:write("app.lua", [=[
      local op = require "kiln.op"
      local app = { name = "app" }
      function app.deploy()
        for i = 1, 30 do
          op.call { name = "op " .. i, class = "read",
            perform = function() return ("x"):rep(2000) end }
        end
      end
      return app]=])
    local seen = {}
    for _, size in ipairs { 40, 120, 160, 240, 400, 640, 6000 } do
      local done = in_namespaces([[
        mount -t tmpfs -o size="$3k" tmpfs /mnt && cp "$1/app.lua" /mnt
        cd /mnt; set +e; "$2" run app.lua --cloud local; code=$?; set -e
        mount -o remount,size=8m /mnt; test "$code" = 4 || exit "$code"
        id=$("$2" runs --json | tr , '\n' | sed -n 's/.*"id":"\([0-9a-f]*\)".*/\1/p')
        "$2" resume "$id" >&2; exit 44]], folder.dir, exe, tostring(size))
      seen[done.code] = true
      if done.code ~= 0 then assert.matches("make room there", done.err, 1, true) end
      assert.is_true(done.code == 0 or done.code == 1 or done.code == 44,
        ("%d KiB: %s %s"):format(size, done.code, done.err))
    end
    assert.same({ [0] = true, [1] = true, [44] = true }, seen) -- with and without room, between
  end)

  it("is one store for several processes that begin at the same time", function()
    local folder <close> = recipes.folder()
    for index = 1, 4 do
      folder:write(("app%d.lua"):format(index), ([[
        local op = require "kiln.op"
        local app = { name = "app%d" }
        function app.deploy()
          for i = 1, 40 do
            op.call { name = "op " .. i, class = "read", perform = function() return i end }
          end
        end
        return app]]):format(index))
    end
    local children = {}
    for index = 1, 4 do
      children[index] = task.spawn(function()
        return assert(proc.run { timeout = 120,
          argv = { exe, "-C", folder.dir, "run", ("app%d.lua"):format(index) } })
      end)
    end
    for _, child in ipairs(children) do
      local ok, done = child:join()
      assert.is_true(ok)
      assert.equal(0, done.code, done.err)
    end
    local store <close> = store_.open(folder.dir)
    assert.equal(4, #store:runs())
    for _, row in ipairs(store:runs()) do
      assert.equal("done", row.status)
      assert.equal(40, #store:ops(row.id))
    end
  end)
end)
