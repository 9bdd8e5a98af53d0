---What every provider does alike: busted tests over the driver contract of `kiln.provider`.
---
---`conformance(name, make_driver, opts)` declares them: `opts.base` names a base image, `opts.many`
---says how many machines are made at once, `opts.after(driver)` ends what `make_driver` began.
---Load it with the spec's own environment, where busted's functions are:
---`loadfile("spec/providers/conformance.lua", "t", _ENV)()`.
local json = require "rt.json"
local error_ = require "kiln.error"
local scope = require "kiln.scope"

---Fields of a row and their types; "?" marks one that may be absent.
local shapes = {
  machine = { id = "string", name = "string", address = "string", state = "string",
    image = "string", tags = "table", token = "string", created = "number" },
  image = { id = "string", name = "string", created = "number", data = "table",
    token = "string?", bytes = "number?" },
  address = { id = "string", name = "string", ip = "string", target = "string?" },
}

local function check_shape(kind, row)
  assert.equal("table", type(row), kind)
  for field, wanted in pairs(shapes[kind]) do
    local optional = wanted:match("^(.*)%?$")
    if not (optional and row[field] == nil) then
      assert.equal(optional or wanted, type(row[field]), kind .. "." .. field)
    end
  end
  assert.same(row, json.decode(json.encode(row)), "a row survives JSON")
  return row
end

local function names_of(rows)
  local names = {}
  for index, row in ipairs(rows) do names[index] = row.name end
  table.sort(names)
  return names
end

local function ids_of(rows)
  local ids = {}
  for index, row in ipairs(rows) do ids[index] = row.id end
  return ids
end

local function raises(kind, call, ...)
  local ok, err = pcall(call, ...)
  assert.is_false(ok, "an error of kind " .. kind)
  assert.is_true(error_.is(err, kind), tostring(err))
  assert.is_true(#err.message > 0)
end

---@param name string
---@param make_driver fun(): table
---@param opts { base: string, many: integer?, after: (fun(driver: table))? }
local function conformance(name, make_driver, opts)
  describe(name, function()
    local driver, base, images_before
    local serial = 0

    local function spec(fields)
      serial = serial + 1
      local made = {
        name = "spec-" .. serial, token = "spec-token-" .. serial, image = base.id,
        user_data = "#cloud-config\n{}\n", tags = { kiln_spec = "yes" },
      }
      for key, value in pairs(fields or {}) do made[key] = value end
      return made
    end

    ---Waits until a machine runs and has an address.
    local function up(row)
      return driver.await_machine and driver:await_machine(row.id) or driver:machine(row.id)
    end

    setup(function()
      driver = make_driver()
      base = driver:base_image(opts.base)
      images_before = ids_of(driver:images())
    end)

    teardown(function()
      if opts.after then opts.after(driver) end
    end)

    after_each(function()
      scope.all(driver:machines { tag = "kiln_spec" }, function(row)
        driver:destroy_machine(row.id)
      end)
    end)

    it("says what it can do, in words and booleans", function()
      assert.equal("string", type(driver.name))
      for capability, able in pairs(driver.capabilities) do
        assert.equal("string", type(capability))
        assert.equal("boolean", type(able), capability)
      end
    end)

    it("finds nothing wrong with this host", function()
      for _, row in ipairs(driver:check()) do
        assert.equal("boolean", type(row.ok))
        assert.is_true(row.ok, row.name .. ": " .. row.message)
      end
    end)

    it("has its base image once, whoever asks again", function()
      check_shape("image", base)
      assert.equal(base.id, driver:base_image(opts.base).id)
      assert.equal(base.id, driver:find_base(opts.base).id)
      raises("not_found", driver.base_image, driver, "no-such-base")
    end)

    it("makes one machine of one token", function()
      local wanted = spec { tags = { kiln_spec = "yes", kiln_role = "one" } }
      local made = check_shape("machine", driver:create_machine(wanted))
      assert.equal(wanted.name, made.name)
      assert.equal(wanted.token, made.token)
      assert.equal(base.id, made.image)
      assert.same(wanted.tags, made.tags)
      assert.equal(made.id, driver:create_machine(wanted).id)
      assert.equal(1, #driver:machines { tag = "kiln_spec" })
      assert.equal(made.id, check_shape("machine", driver:find_machine(wanted.token)).id)
      assert.equal(made.id, check_shape("machine", driver:machine(made.id)).id)
    end)

    it("makes many machines at once, each with an address of its own", function()
      local wanted = {}
      for index = 1, opts.many or 3 do wanted[index] = spec() end
      local made = scope.all(wanted, function(one) return driver:create_machine(one) end)
      local seen = {}
      for index, row in ipairs(made) do
        assert.equal(wanted[index].name, row.name)
        local address = check_shape("machine", up(row)).address
        assert.matches("^%d+%.%d+%.%d+%.%d+$", address)
        assert.is_nil(seen[address])
        seen[address] = true
      end
      assert.same(names_of(made), names_of(driver:machines { tag = "kiln_spec" }))
    end)

    it("lists machines by tag, with and without a value", function()
      local red = driver:create_machine(spec { tags = { kiln_spec = "yes", colour = "red" } })
      local blue = driver:create_machine(spec { tags = { kiln_spec = "yes", colour = "blue" } })
      assert.same({ red.name }, names_of(driver:machines { tag = "colour=red" }))
      assert.same(names_of { red, blue }, names_of(driver:machines { tag = "colour" }))
      assert.same({}, driver:machines { tag = "colour=green" })
    end)

    it("says that there is no such machine, image or token", function()
      assert.is_nil(driver:machine("none"))
      assert.is_nil(driver:find_machine("none"))
      assert.is_nil(driver:find_image { name = "none" })
      assert.is_nil(driver:find_image { token = "none" })
      raises("not_found", driver.create_machine, driver, spec { image = "no-such-image" })
      raises("not_found", driver.power_off, driver, "none")
      assert.same({}, driver:machines { tag = "kiln_spec" })
    end)

    it("destroys a machine once, and what is gone again", function()
      local made = driver:create_machine(spec())
      driver:destroy_machine(made.id)
      assert.is_nil(driver:machine(made.id))
      driver:destroy_machine(made.id)
      driver:destroy_machine("never-there")
    end)

    it("switches a machine off, twice as well as once", function()
      local made = driver:create_machine(spec())
      driver:power_off(made.id)
      assert.equal("stopped", driver:machine(made.id).state)
      driver:power_off(made.id)
    end)

    it("freezes a stopped machine into an image that starts machines", function()
      local source = driver:create_machine(spec())
      local wanted = { machine = source.id, name = "spec-image", token = "spec-image-token",
        tags = { kiln_spec = "yes" }, data = { inputs = "abc", files = { ["a b"] = "d" } } }
      local running, err = pcall(driver.snapshot, driver, wanted)
      if not running then assert.is_true(error_.is(err, "invalid"), tostring(err)) end
      driver:power_off(source.id)
      local image = check_shape("image", driver:snapshot(wanted))
      assert.equal(wanted.name, image.name)
      assert.same(wanted.data, image.data)
      assert.equal(image.id, driver:snapshot(wanted).id)
      assert.equal(image.id, check_shape("image", driver:find_image { name = image.name }).id)
      assert.equal(image.id, driver:find_image({ token = wanted.token }).id)
      for _, one in ipairs { "other", image.name } do
        driver:discard_snapshot { machine = source.id, name = one, token = "never-begun" }
      end
      assert.equal(image.id, driver:find_image({ token = wanted.token }).id)
      driver:destroy_machine(source.id)

      local made = driver:create_machine(spec { image = image.id })
      assert.equal(image.id, made.image)
      driver:destroy_machine(made.id)
      driver:destroy_image(image.id)
      assert.is_nil(driver:find_image { name = image.name })
      driver:destroy_image(image.id)
    end)

    it("moves a floating address from machine to machine", function()
      if not driver.capabilities.addresses then
        pending "this cloud has no floating addresses"
        return
      end
      local first, second = up(driver:create_machine(spec())), up(driver:create_machine(spec()))
      local made = check_shape("address", driver:create_address { name = "spec", token = "t" })
      assert.equal("spec", made.name)
      assert.is_nil(made.target)
      assert.equal(made.id, driver:create_address({ name = "spec", token = "t" }).id)
      assert.equal(made.ip, driver:address("spec").ip)
      assert.is_nil(driver:address("another"))
      for _, target in ipairs { first.id, second.id, second.id } do
        driver:assign_address(made.id, target)
        assert.equal(target, check_shape("address", driver:address("spec")).target)
        assert.same({ target }, driver:targets())
      end
      assert.equal(1, #driver:addresses())
      if driver.capabilities.connections then
        assert.equal(0, driver:connections(made.id, second.id))
      end
      raises("not_found", driver.assign_address, driver, made.id, "none")
      driver:assign_address(made.id, nil)
      assert.is_nil(driver:address("spec").target)
      driver:destroy_address(made.id)
      assert.is_nil(driver:address("spec"))
      driver:destroy_address(made.id)
    end)

    it("removes what the creation of a floating address left, and no other's", function()
      if not driver.capabilities.addresses then
        pending "this cloud has no floating addresses"
        return
      end
      local kept = driver:create_address { name = "kept", token = "kl-spec-kept" }
      driver:create_address { name = "spec", token = "kl-spec-a" }
      assert.is_true(driver:discard_address { name = "spec", token = "kl-spec-a" })
      assert.is_nil(driver:address "spec")
      assert.is_false(driver:discard_address { name = "spec", token = "kl-spec-a" })
      assert.is_false(driver:discard_address { name = "kept", token = "kl-spec-b" })
      assert.equal(kept.ip, driver:address("kept").ip)
      driver:destroy_address(kept.id)
    end)

    it("leaves nothing", function()
      assert.same({}, driver:machines { tag = "kiln_spec" })
      assert.same(images_before, ids_of(driver:images()))
      if driver.capabilities.addresses then assert.same({}, driver:addresses()) end
    end)
  end)
end

return conformance
