---Every field of every answer that DigitalOcean's driver reads, once null, once missing, once of
---another type: the driver goes on, or names the request and the field.
local json = require "rt.json"
local answers = require "providers.digitalocean.answers"
local do_cloud = require "spec.support.do_cloud"
local odd_answers = require "spec.support.odd_answers"
local virtual = require "spec.support.virtual"

local public = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAwrAzFIL4LUj2jPLFlVoXUy1Ft86TOUYIexbMTQyhG3 x"

---The steps whose work a step needs.
local needs = {
  [5] = { 3 }, [6] = { 3 }, [7] = { 3, 6 }, [8] = { 3, 6, 7 }, [9] = { 3, 4 }, [10] = { 3, 4 },
  [13] = { 4 }, [14] = { 3, 4, 6, 7, 9, 10, 11 },
}

---What a driver is used for.
local function steps(driver)
  local made = {}
  local function machines(names)
    local specs = {}
    for index, name in ipairs(names) do
      specs[index] = { name = name, token = "kl-1-" .. name, image = "debian-12-x64",
        tags = { kiln_service = "app" }, user_public = public }
    end
    for _, row in ipairs(driver:create_machines(specs)) do
      made[row.name] = row.id
      driver:await_machine(row.id)
    end
  end
  return {
    function() driver:preflight { machines = 2, image = "debian-12-x64", user_data = 10 } end,
    function() driver:base_image "debian-12" end,
    function() machines { "a", "b" } end,
    function() machines { "c" } end,
    function() return driver:machine(made.a), driver:find_machine "kl-1-b", driver:targets() end,
    function() driver:power_off(made.a) end,
    function()
      local spec = { machine = made.a, name = "app", token = "kl-1-i", data = { of = "app" } }
      made.image = driver:snapshot(spec).id
    end,
    function()
      driver:find_image { name = "app" }
      driver:copy_image(made.image, { "ams3" })
      driver:preflight { image = made.image }
    end,
    function()
      made.address = driver:create_address({ name = "app", token = "kl-1-x" }).id
      driver:assign_address(made.address, made.b)
      driver:assign_address(made.address, made.c)
      driver:address "app"
    end,
    function()
      local health = { path = "/", port = 80 }
      made.balancer = driver:create_balancer({ name = "app", health = health }).id
      driver:await_balancer(made.balancer)
      driver:set_members(made.balancer, { made.b })
      driver:set_members(made.balancer, { made.c })
    end,
    function()
      made.database = driver:create_database({ name = "app-db" }).id
      driver:await_database(made.database)
      driver:database_secrets(made.database)
      driver:allow_database(made.database, "kiln_service", "app")
      driver:allow_database(made.database, "kiln_service", "other")
    end,
    function()
      driver:create_domain "example.com"
      driver:set_record { domain = "example.com", name = "app", data = "192.0.2.7" }
      driver:set_record { domain = "example.com", name = "app", data = "192.0.2.8" }
      driver:record("example.com", "app", "A")
      driver:create_certificate { name = "app", domains = { "app.example.com" } }
    end,
    function()
      driver:set_firewall { name = "app", key = "k", value = "v", open = { [22] = true } }
      driver:set_firewall { name = "app", key = "k", value = "v", open = { [80] = true } }
      driver:create_vpc { name = "app" }
      made.volume = driver:create_volume({ name = "data", gigabytes = 10 }).id
      driver:attach_volume(made.volume, made.c)
      driver:create_volume { name = "data", gigabytes = 10 }
      driver:attach_volume(made.volume, nil)
    end,
    function()
      driver:destroy_balancer(made.balancer)
      driver:destroy_address(made.address)
      driver:destroy_image(made.image)
      driver:destroy_database(made.database)
      for _, name in ipairs { "a", "b", "c" } do driver:destroy_machine(made[name]) end
    end,
  }
end

---A driver whose answers pass through `hook`.
local function open(hook)
  local opened = { hook = hook }
  opened.cloud = do_cloud.new { driver = { project = "kiln" } }
  local client = opened.cloud.driver.api
  local send = client.send
  client.send = function(request)
    local answer = send(request)
    if opened.hook and answer.status < 300 then
      local path = request.url:match("^%a+://[^/]+(.*)$")
      answer.body = opened.hook(request.method, odd_answers.route(path), answer.body)
    end
    return answer
  end
  opened.cloud.driver.api:call("POST", "/v2/projects", { name = "kiln", purpose = "spec" })
  opened.steps = steps(opened.cloud.driver)
  return opened
end

---Lists the fields of the answers of a step that no step before had, with the last such answer.
local function cases_of(at, seen)
  local cases = {}
  local opened = open(nil)
  for _, before in ipairs(needs[at] or {}) do opened.steps[before]() end
  opened.hook = function(method, route, body)
    for _, place in ipairs(odd_answers.fields(body)) do
      local key = method .. " " .. route .. " " .. place
      if not seen[key] then
        seen[key] = { method = method, route = route, place = place }
        cases[#cases + 1] = seen[key]
      end
      seen[key].body = body
    end
    return body
  end
  opened.steps[at]()
  return cases
end

---Runs a step while the fields of these cases are odd.
local function try(at, cases, way)
  local places = {}
  for _, case in ipairs(cases) do
    local kind = case.method .. " " .. case.route
    places[kind] = places[kind] or {}
    table.insert(places[kind], case.place)
  end
  local opened = open(nil)
  for _, before in ipairs(needs[at] or {}) do opened.steps[before]() end
  opened.hook = function(method, route, body)
    return odd_answers.change(body, places[method .. " " .. route] or {}, way)
  end
  local ok, err = pcall(opened.steps[at])
  return not ok and err or nil
end

---What is wrong with an answer for this field; nil when the driver does not mind.
local function refusal_of(case, way)
  local changed = json.decode(odd_answers.change(case.body, { case.place }, way))
  return answers.problem(case.method, case.route, changed)
end

---Tries many fields at once, and finds which of them fail.
local function explore(at, cases, way, tally)
  if #cases == 0 then return end
  local err = try(at, cases, way)
  if not err then
    tally.harmless = tally.harmless + #cases
    return
  end
  local one = #cases == 1 and cases[1] or nil
  local problem = odd_answers.problem_of(err, one)
  if problem then
    table.insert(tally.problems, ("%s %s: %s"):format(one and one.method .. " " .. one.route .. " "
      .. one.place or #cases .. " fields", way, problem))
  end
  if one then
    tally.told = tally.told + 1
    return
  end
  explore(at, table.move(cases, 1, #cases // 2, 1, {}), way, tally)
  explore(at, table.move(cases, #cases // 2 + 1, #cases, 1, {}), way, tally)
end

describe("DigitalOcean's driver", function()
  local tally, seen = { told = 0, harmless = 0 }, {}

  for at = 1, #steps() do
    it("names what an answer lacks, or does well without it, in step " .. at, function()
      local _ <close> = virtual()
      local cases = cases_of(at, seen)
      -- Fields before the objects that they are in.
      table.sort(cases, function(a, b) return #a.place > #b.place end)
      tally.problems = {}
      for _, way in ipairs(odd_answers.ways) do
        local others, tried = {}, {}
        for _, case in ipairs(cases) do
          local item = way == "missing" and case.place:sub(-1) == "]" -- a shorter list is no fault
          local problem, kind = refusal_of(case, way), case.method .. case.route
          if problem and not tried[kind] then
            tried[kind] = true -- what is refused is refused at one place: once a kind of request
            explore(at, { case }, way, tally)
          elseif problem then
            tally.told = tally.told + 1
            assert.is_true(odd_answers.names(problem, case.place), problem .. " " .. case.place)
          elseif not item then
            others[#others + 1] = case
          end
        end
        explore(at, others, way, tally)
      end
      assert.same({}, tally.problems)
    end)
  end

  teardown(function()
    io.stdout:write(("\nodd fields of answers: %d named, %d did no harm\n"):format(tally.told,
      tally.harmless))
  end)
end)
