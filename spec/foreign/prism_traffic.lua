---Prism holds the traffic against the official description: the answers that the simulator gives in
---its own specs, and everything that kiln's driver sends and gets in the conformance suite.
local do_account = require "spec.support.do_account"
local do_cloud = require "spec.support.do_cloud"
local http = require "kiln.http"
local json = require "kiln.json"
local prism = require "spec.support.prism"
local rt_http = require "rt.http"
local timer = require "rt.timer"

local conformance = assert(loadfile("spec/providers/conformance.lua", "t", _ENV))()

local function violations_of(response)
  local text = response.headers["sl-violations"]
  return text and json.decode(text) or {}
end

local function note(found, request, response, only)
  for _, one in ipairs(violations_of(response)) do
    if not only or one.location[1] == only then
      local text = ("%s %s %d: %s: %s"):format(request.method, (request.path or request.url),
        response.status, table.concat(one.location, "."), one.message)
      found[text] = (found[text] or 0) + 1
    end
  end
end

local function assert_none(found)
  local lines = {}
  for text, count in pairs(found) do lines[#lines + 1] = ("%d x %s"):format(count, text) end
  table.sort(lines)
  assert.equal("", table.concat(lines, "\n"))
end

describe("the simulator, seen by Prism", function()
  local proxy, missing, current
  local found, count = {}, 0

  setup(function()
    current = { status = 200, headers = {}, body = "{}" }
    proxy, missing = prism.start(function() return current end)
    if not proxy then return end
    do_account.witness = function(request, answer)
      if answer.status == 501 or answer.status == 405 then return end -- beyond the description
      if answer.headers["content-type"] == "text/html" or answer.delay then return end
      current = { status = answer.status, headers = answer.headers, body = answer.body }
      local query = request.query ~= "" and "?" .. request.query or ""
      local response = http.request {
        method = request.method, url = proxy.url .. request.path .. query, body = request.body,
        headers = { Authorization = "Bearer any", ["Content-Type"] = "application/json" },
        check = false, attempts = 1, fresh_connection = true, timeout = 60,
      }
      count = count + 1
      note(found, request, response, "response")
    end
  end)

  teardown(function()
    do_account.witness = nil
    if proxy then proxy:close() end
  end)

  for _, name in ipairs { "droplets", "network", "storage", "account" } do
    assert(loadfile(("spec/providers/digitalocean/sim_%s_spec.lua"):format(name), "t", _ENV))()
  end

  it("answers as the description says", function()
    if missing then
      pending("not run: " .. missing)
      return
    end
    assert.is_true(count > 200, count .. " answers only")
    print(count .. " answers of the simulator through Prism")
    assert_none(found)
  end)
end)

describe("kiln's driver behind Prism", function()
  local proxy, missing, cloud
  local found, count = {}, 0

  local function send(request)
    count = count + 1
    request.url = request.url:gsub("^%a+://[^/]+", proxy.url)
    request.fresh_connection, request.timeout = true, 60
    local response = http.request(request)
    note(found, request, response)
    return response
  end

  setup(function()
    proxy, missing = prism.start(function(request)
      return cloud and cloud.sim:answer(request) or { status = 200, headers = {}, body = "{}" }
    end, { errors = true })
  end)

  teardown(function()
    if proxy then proxy:close() end
    rt_http.forget()
  end)

  conformance("the DigitalOcean cloud", function()
    if not proxy then error("not run: " .. missing, 0) end
    timer.virtual()
    cloud = do_cloud.new { limits = { droplets = 50 }, driver = { send = send } }
    return cloud.driver
  end, { base = "debian-12-x64", many = 12, after = timer.real })

  it("sends and gets nothing that the description does not have", function()
    if missing then
      pending("not run: " .. missing)
      return
    end
    assert.is_true(count > 100, count .. " requests only")
    print(count .. " requests of kiln through Prism --errors")
    assert_none(found)
  end)
end)
