local crypto = require "rt.crypto"
local fs = require "rt.fs"
local json = require "rt.json"
local proc = require "rt.proc"
local secret = require "kiln.secret"

local function raises(kind, call, ...)
  local ok, err = pcall(call, ...)
  assert.is_false(ok)
  assert.equal(kind, err.kind)
  return err
end

local function percent(text)
  return (text:gsub("[^%w%-%._~]", function(c) return ("%%%02X"):format(c:byte()) end))
end

describe("kiln.secret", function()
  describe("redact", function()
    local value = 'pa/ss+w"ord\\ ünï & <so> on\n?'
    local known = secret.remember(crypto.secret(value))

    local function hides(text, parts)
      local out = secret.redact(text)
      assert.matches("<secret>", out, 1, true)
      for _, part in ipairs(parts or {}) do
        assert.is_nil(out:find(part, 1, true), out)
      end
      return out
    end

    it("hides the value, wherever and as often as it stands", function()
      assert.equal("a<secret>b<secret>", hides("a" .. value .. "b" .. value, { "ord" }))
      assert.equal("<secret>", hides(value .. value))
      assert.equal("<secret>", tostring(known))
    end)

    it("hides its base64 at each of the three alignments, in both alphabets", function()
      for before = 0, 20 do
        for after = 0, 4 do
          local text = crypto.base64(("u"):rep(before) .. value .. ("v"):rep(after))
          local core = crypto.base64(value:sub(4, -4)):sub(1, 8)
          hides("Authorization: Basic " .. text .. " x", { core })
          hides((text:gsub("[+/]", { ["+"] = "-", ["/"] = "_" })))
          local out = secret.redact(text)
          assert.is_true(#out - #"<secret>" <= (before + after) * 8 // 6 + 6, out)
        end
      end
    end)

    it("hides its URL-escaped forms", function()
      local escaped = percent(value)
      assert.equal("https://u:<secret>@host/?x=1", hides("https://u:" .. escaped .. "@host/?x=1"))
      hides((escaped:gsub("%%20", "+")))
      hides((escaped:gsub("%%%x%x", string.lower)))
    end)

    it("hides its JSON-escaped forms", function()
      assert.equal('{"password":"<secret>"}', hides(json.encode { password = value }))
      hides((json.encode(value):gsub("/", "\\/")))
    end)

    it("hides the lines of a private key, which are shown one by one", function()
      local pair = crypto.ed25519_keypair "spec"
      secret.remember(pair.private)
      local text = crypto.reveal(pair.private)
      for line in text:gmatch "[^\n]+" do
        if line:sub(1, 5) ~= "-----" then
          assert.equal("  | <secret>", secret.redact("  | " .. line))
        end
      end
      assert.equal("<secret>", (secret.redact(text):gsub("%s", "")))
      assert.equal(pair.public, secret.redact(pair.public))
    end)

    it("leaves other text alone, and too short values visible", function()
      secret.remember "abc"
      assert.equal("abc abcd", secret.redact "abc abcd")
      local text = "nothing to see: " .. crypto.base64 "nothing at all, really"
      assert.equal(text, secret.redact(text))
      assert.equal("", secret.redact "")
    end)

    it("hides it in tables at any depth, and keeps what is no text", function()
      local meta = {}
      local shared = { text = "x " .. value }
      local fields = setmetatable({ 1, true, shared, again = shared, [value] = { value } }, meta)
      fields.circle = fields
      local got = secret.redact_fields(fields)
      assert.equal("x <secret>", got[3].text)
      assert.equal(got[3], got.again)
      assert.equal(got, got.circle)
      assert.same({ "<secret>" }, got["<secret>"])
      assert.equal(meta, getmetatable(got))
      assert.equal("x " .. value, shared.text)
      assert.is_nil((secret.redact_fields(nil)))
      assert.equal("<secret>", secret.redact_fields(value))
    end)

    it("does not take a secret inside another one apart", function()
      secret.remember "inner-secret"
      secret.remember "outer+inner-secret+outer"
      assert.equal("<<secret>>", secret.redact "<outer+inner-secret+outer>")
      assert.equal("x <secret> y", secret.redact "x inner-secret y")
    end)
  end)

  describe("seal", function()
    local value = 'se"al/ed&\nsecond line of it é'
    secret.remember(value, "env KILN_SPEC_SEALED")

    local function forms(text)
      return { text, crypto.base64(text), crypto.base64("x" .. text .. "yz"), percent(text),
        json.encode(text), json.encode { [text] = { text } }, "second line of it é" }
    end

    it("takes every form out, and unseal puts exactly it back", function()
      local result = { code = 0, out = table.concat(forms(value), "|"), [value] = { true, value } }
      local kept = json.encode(secret.seal(result), { bytes = "keep" })
      assert.equal(kept, secret.redact(kept))
      for _, form in ipairs(forms(value)) do assert.is_nil(kept:find(form, 1, true)) end
      assert.same(result, secret.unseal(json.decode(kept, { bytes = "keep" })))
    end)

    it("keeps what looks like a reference in somebody else's text as it is", function()
      local forged = "\1env KILN_SPEC_SEALED\31value\0311\0314\2 \1\1 \1"
      assert.equal(forged, secret.unseal(secret.seal(forged)))
      assert.is_nil(secret.unseal(secret.seal(forged)):find("se\"al", 1, true))
    end)

    it("puts every byte of overlapping secrets back", function()
      secret.remember("overlap-first-half", "env A")
      secret.remember("half-and-second", "env B")
      local text = "x overlap-first-half-and-second y"
      local kept = secret.seal(text)
      for _, part in ipairs { "overlap", "half", "second" } do
        assert.is_nil(kept:find(part, 1, true), kept)
      end
      assert.equal(text, secret.unseal(kept))
    end)

    it("knows a secret again by each place that it came from, and by its digest", function()
      secret.remember "in two places"
      local nameless = secret.seal "in two places"
      secret.remember("in two places", "env KILN_SPEC_FIRST")
      secret.remember("in two places", "file second")
      assert.equal("in two places", secret.unseal(nameless))
      assert.equal("two", secret.unseal "\1file second\31value\0314\0316\2")
      assert.equal("two", secret.unseal "\1env KILN_SPEC_FIRST\31value\0314\0316\2")
    end)

    it("reads and runs nothing for a secret that nobody asked for", function()
      local dir = assert(fs.temp_dir())
      local touch = ('command ["touch","%s/touched"]'):format(dir)
      for _, source in ipairs { "env HOME", "file /etc/hostname", touch, "key id", "value 00" } do
        local kept = ("\1%s\31value\2"):format(source)
        local err = raises("not_found", secret.unseal, { deep = { kept } })
        assert.is_true(err.unknown_secret)
      end
      assert.is_nil(fs.stat(dir .. "/touched"))
      assert(fs.remove(dir, { recursive = true }))
    end)
  end)

  describe("from_env", function()
    it("names the variable that is missing", function()
      local err = raises("not_found", secret.from_env, "KILN_SPEC_NO_SUCH_SECRET")
      assert.matches("KILN_SPEC_NO_SUCH_SECRET", err.message, 1, true)
    end)

    it("takes the value, opaque and known", function()
      local path = secret.from_env "PATH"
      assert.is_true(secret.is(path))
      assert.equal("<secret>", tostring(path))
      assert.equal("<secret>", secret.redact(proc.getenv "PATH"))
    end)
  end)

  describe("from_file", function()
    local dir
    before_each(function() dir = assert(fs.temp_dir()) end)
    after_each(function() fs.remove(dir, { recursive = true }) end)

    it("takes the file without the newline at its end", function()
      assert(fs.write(dir .. "/s", "two\nlines of it\n", { mode = "0600" }))
      assert.equal("two\nlines of it", crypto.reveal(secret.from_file(dir .. "/s")))
    end)

    it("names the file that is missing or empty", function()
      assert.matches(dir .. "/none", raises("not_found", secret.from_file, dir .. "/none").message,
        1, true)
      assert(fs.write(dir .. "/empty", "\n"))
      assert.matches("empty", raises("invalid", secret.from_file, dir .. "/empty").message)
    end)
  end)

  describe("from_command", function()
    it("takes what the program writes, without the newline at its end", function()
      local value = secret.from_command { "printf", "%s\\n", "from a command" }
      assert.equal("from a command", crypto.reveal(value))
    end)

    it("tells why the program failed, and never what it wrote", function()
      local err = raises("exit", secret.from_command,
        { "sh", "-c", "echo half-a-secret; echo 'no such item' >&2; exit 4" })
      assert.equal(4, err.code)
      assert.matches("exit status 4: no such item", err.message, 1, true)
      assert.is_nil(err.message:find("half", 1, true))
      err = raises("timeout", secret.from_command, { "sh", "-c", "echo half; sleep 9" },
        { timeout = 0.1 })
      assert.is_nil(err.out)
    end)

    it("names the program that is missing", function()
      assert.matches("no-such-vault", raises("not_found", secret.from_command,
        { "no-such-vault" }).message, 1, true)
    end)
  end)
end)
