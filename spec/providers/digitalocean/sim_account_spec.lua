local json = require "kiln.json"
local sim = require "providers.digitalocean.sim"
local do_account = require "spec.support.do_account"

local public = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAwrAzFIL4LUj2jPLFlVoXUy1Ft86TOUYIexbMTQyhG3 x"

describe("the simulated account", function()
  it("wants a token, and only the one it was given", function()
    local account = do_account.new { token = "right" }
    for _, header in ipairs { "", "Bearer ", "Bearer wrong", "Basic right" } do
      local answer = account.sim:answer { method = "GET", path = "/v2/account",
        headers = { authorization = header } }
      assert.equal(401, answer.status)
      assert.equal("unauthorized", json.decode(answer.body).id)
    end
    assert.equal(200, account.sim:answer { method = "GET", path = "/v2/account",
      headers = { authorization = "Bearer right" } }.status)
  end)

  it("tells paths it does not model from paths that do not exist", function()
    local account = do_account.new()
    assert.equal("not_modelled", account:expect(501, "GET", "/v2/kubernetes/clusters").id)
    assert.equal("not_found", account:expect(404, "GET", "/v2/nothing").id)
    account:expect(405, "PATCH", "/v2/droplets")
    assert.equal(400, account.sim:answer { method = "POST", path = "/v2/tags", body = "{",
      headers = { authorization = "Bearer x" } }.status)
  end)

  it("gives lists in pages, with only the links that lead somewhere", function()
    local account = do_account.new()
    for number = 1, 5 do account:expect(201, "POST", "/v2/tags", { name = "t" .. number }) end
    local all = account:expect(200, "GET", "/v2/tags")
    assert.same({ 5, 5, {} }, { #all.tags, all.meta.total, all.links })
    local middle = account:expect(200, "GET", "/v2/tags?page=2&per_page=2")
    assert.same({ "t3", "t4" }, { middle.tags[1].name, middle.tags[2].name })
    local base = "http://api.test/v2/tags?page="
    assert.same({ first = base .. "1&per_page=2", prev = base .. "1&per_page=2",
      next = base .. "3&per_page=2", last = base .. "3&per_page=2" }, middle.links.pages)
    local last = account:expect(200, "GET", "/v2/tags?page=3&per_page=2")
    assert.is_nil(last.links.pages.next)
    assert.equal(0, #account:expect(200, "GET", "/v2/tags?page=9").tags)
  end)

  it("finds keys by id and by fingerprint, and refuses one that it has", function()
    local account = do_account.new()
    local key = account:expect(201, "POST", "/v2/account/keys",
      { name = "mine", public_key = public }).ssh_key
    assert.equal(sim.fingerprint(public), key.fingerprint)
    assert.equal("SSH Key is already in use on your account", account:expect(422, "POST",
      "/v2/account/keys", { name = "again", public_key = public }).message)
    account:expect(422, "POST", "/v2/account/keys", { name = "x", public_key = "ssh-rsa zzz" })
    assert.equal(key.id,
      account:expect(200, "GET", "/v2/account/keys/" .. key.fingerprint).ssh_key.id)
    account:expect(204, "DELETE", "/v2/account/keys/" .. key.id)
    account:expect(404, "GET", "/v2/account/keys/" .. key.id)
  end)

  it("tags what exists, and refuses a tag for an image before the tag is there", function()
    local account = do_account.new()
    local id = account:droplet()
    local body = { resources = { { resource_type = "droplet", resource_id = tostring(id) } } }
    account:expect(404, "POST", "/v2/tags/live/resources", body)
    account:expect(201, "POST", "/v2/tags", { name = "live" })
    account:expect(204, "POST", "/v2/tags/live/resources", body)
    assert.same({ "live" }, account:expect(200, "GET", "/v2/droplets/" .. id).droplet.tags)
    assert.equal(1, account:expect(200, "GET", "/v2/tags/live").tag.resources.droplets.count)
    account:expect(204, "DELETE", "/v2/tags/live/resources", body)
    assert.equal(0, account:expect(200, "GET", "/v2/droplets?tag_name=live").meta.total)
  end)

  it("counts requests, and answers 429 with retry-after for a burst only", function()
    local account = do_account.new { limits = { minute = 5, hour = 8 } }
    local _, _, answer = account:call("GET", "/v2/account")
    assert.same({ "8", "7" },
      { answer.headers["ratelimit-limit"], answer.headers["ratelimit-remaining"] })
    account:pass(30)
    for _ = 1, 4 do account:expect(200, "GET", "/v2/account") end
    local status, body
    status, body, answer = account:call("GET", "/v2/account")
    assert.same({ 429, "too_many_requests", "30" },
      { status, body.id, answer.headers["retry-after"] })
    account:pass(30)
    account:expect(200, "GET", "/v2/account")
    account:pass(60)
    for _ = 1, 2 do account:expect(200, "GET", "/v2/account") end
    status, _, answer = account:call("GET", "/v2/account")
    assert.same({ 429, nil, "0" },
      { status, answer.headers["retry-after"], answer.headers["ratelimit-remaining"] })
    account:pass(3600)
    account:expect(200, "GET", "/v2/account")
  end)

  it("limits lists of keys to 10 a minute, and look-ups of one key not", function()
    local account = do_account.new()
    for _ = 1, 10 do account:expect(200, "GET", "/v2/account/keys") end
    account:expect(429, "GET", "/v2/account/keys")
    account:expect(404, "GET", "/v2/account/keys/1")
    account:pass(61)
    account:expect(200, "GET", "/v2/account/keys")
  end)
end)
