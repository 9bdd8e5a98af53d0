local fs = require "rt.fs"
local machine = require "rt.machine"
local proc = require "rt.proc"
local task = require "rt.task"

---The host's links and routes of a site; those of others come and go meanwhile.
local function traces(dir)
  local tag = assert(fs.read(dir .. "/id")):match("^%x+")
  local out = assert(proc.run { argv = { "sh", "-c", "ip -o link; ip -o route" } }).out
  local found = {}
  for line in out:gmatch("[^\n]+") do
    if line:find("kl-" .. tag, 1, true) then found[#found + 1] = line end
  end
  return found
end

describe("rt.machine", function()
  it("refuses wrong options before anything happens", function()
    assert.has_error(function() machine.list {} end, "option 'dir' is missing")
    assert.has_error(function() machine.destroy { dir = "/x" } end, "option 'name' is missing")
    assert.has_error(function() machine.list { dir = "/x", name = "m" } end,
      "unknown option 'name'")
    assert.has_error(function() machine.destroy { dir = "/x", name = "a\0b" } end,
      "option 'name' must not have a zero byte")
    assert.has_error(function() machine.power_off { dir = "/x", name = "m", within = -1 } end,
      "option 'within' must be seconds from 0")
  end)

  if proc.info().uid ~= 0 then
    pending "works on a site of its own: needs root"
    return
  end

  local dir
  before_each(function() dir = assert(fs.temp_dir()) end)
  after_each(function()
    assert(machine.network_down { dir = dir })
    assert(fs.remove(dir, { recursive = true }))
  end)

  it("says the same when several ask at the same time", function()
    local function said()
      local text = {}
      for _, row in ipairs(assert(machine.check { dir = dir })) do
        text[#text + 1] = row.name .. tostring(row.ok)
      end
      return table.concat(text, " ")
    end
    local alone, children = said(), {}
    for index = 1, 8 do children[index] = task.spawn(said) end
    for _, child in ipairs(children) do assert.equal(alone, select(2, child:join())) end
  end)

  it("says of each thing whether the host has it, and what to do", function()
    local rows = assert(machine.check { dir = dir })
    assert.is_true(#rows >= 8)
    for _, row in ipairs(rows) do
      assert.equal("boolean", type(row.ok))
      assert.is_true(#row.name > 0 and #row.message > 0)
      assert.equal(not row.ok, row.remedy ~= nil)
    end
  end)

  it("has nothing in a new site", function()
    assert.same({}, (assert(machine.list { dir = dir })))
    assert.same({}, (assert(machine.addresses { dir = dir })))
    assert.is_true(machine.destroy { dir = dir, name = "none" })
  end)

  it("tells what is not there and what is wrong", function()
    local row, err = machine.create { dir = dir, name = "m", image = "none" }
    assert.is_nil(row)
    assert.equal("not_found", err.kind)
    assert.matches("none", err.message)
    assert.equal("not_found", select(2, machine.power_off { dir = dir, name = "m" }).kind)
    assert.equal("invalid",
      select(2, machine.create { dir = dir, name = "../m", image = "x" }).kind)
  end)

  it("starts a network once and leaves nothing of it", function()
    local nets = machine.network_up { dir = dir }
    if not nets then
      pending "this host cannot have a site's network: see `kiln doctor`"
      return
    end
    assert.matches("^10%.199%.%d+%.0/24$", nets.machine_net)
    assert.same(nets, machine.network_up { dir = dir })
    assert.equal(4, #traces(dir)) -- a cable, its network, the machines', the floating addresses'
    local address = nets.address_net:gsub("0/24$", "1")
    local target = nets.machine_net:gsub("0/24$", "2")
    assert(machine.address_set { dir = dir, address = address, target = target })
    assert.same({ { address = address, target = target } }, (machine.addresses { dir = dir }))
    assert.equal(0, machine.connections { dir = dir, address = address, target = target })
    assert(machine.address_set { dir = dir, address = address })
    assert.same({}, (machine.addresses { dir = dir }))
    assert(machine.network_down { dir = dir })
    assert.same({}, traces(dir))
  end)
end)
