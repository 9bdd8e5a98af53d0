local crypto = require "rt.crypto"
local fs = require "rt.fs"
local json = require "rt.json"
local proc = require "rt.proc"
local yaml = require "rt.yaml"

local nasty = {
  "", " ", "yes", "No", "on", "OFF", "null", "~", "y", "true", "1", "007", "0x1f", "1_000", "1e3",
  "1.5", ".5", "-", "- a", "a: b", "a #b", "#a", "'q'", '"q"', "*a", "&a", "!a", "%a", "@a", "`a",
  "2001-12-14", "12:30:45", "[a]", "{a}", "a\nb", "a\nb\n", "a\n\n", "\na", "  a\nb", "tab\tx",
  "ends with space ", "a\r\nb", "é", "日本", "=", "<<", ".", "..", "...", "---", "?", "|", ">",
  "-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----\n", "0o14", "+1",
  "a very long line " .. ("x "):rep(100) .. "end", "\1", "k=v, w", ".inf", ".nan", "0b1", "1.",
}

describe("rt.yaml", function()
  it("reads back every string as it was", function()
    for _, text in ipairs(nasty) do
      assert.same({ a = text }, (yaml.decode(yaml.encode { a = text })), ("%q"):format(text))
      assert.same({ text }, (yaml.decode(yaml.encode { text })), ("%q"):format(text))
    end
  end)

  it("is read by PyYAML as it was written", function()
    local value = { text = nasty, n = 12, f = 1.5, big = 1e20, t = true, none = json.null,
      empty = json.array {}, map = {} }
    local path = os.tmpname()
    local file = io.open(path, "w")
    file:write(yaml.encode(value))
    file:close()
    local pipe = io.popen("/usr/bin/python3 -c 'import yaml,json,sys;"
      .. "json.dump(yaml.safe_load(open(sys.argv[1])),sys.stdout)' " .. path .. " 2>&1")
    local back, err = json.decode(pipe:read("a"))
    pipe:close()
    os.remove(path)
    assert.is_nil(err)
    assert.same(nasty, back.text)
    assert.equal(12, back.n)
    assert.equal(1.5, back.f)
    assert.equal(1e20, back.big)
    assert.is_true(back.t)
    assert.equal(json.null, back.none)
  end)

  it("carries bytes both ways, as PyYAML does", function()
    local python = [[
import yaml, sys, hashlib
path, count = sys.argv[1], int(sys.argv[2])
told = []
for index in range(count):
    value = yaml.safe_load(open("%s/%d.yaml" % (path, index)))["bytes"]
    if isinstance(value, str): value = value.encode()
    told.append(hashlib.sha256(value).hexdigest())
    with open("%s/%d.python" % (path, index), "w") as out:
        yaml.safe_dump({"bytes": value, "list": [value, "text"]}, out)
print(" ".join(told))]]
    local dir = assert(fs.temp_dir())
    local samples = { "", "\xff", "hi\0\xfe", "text\nand more\n" }
    for length = 1, 200, 7 do table.insert(samples, "\x80" .. crypto.random(length)) end
    local sums = {}
    for index, bytes in ipairs(samples) do
      sums[index] = crypto.sha256(bytes)
      assert(fs.write(("%s/%d.yaml"):format(dir, index - 1), yaml.encode { bytes = bytes }))
    end
    local done = assert(proc.run {
      argv = { "/usr/bin/python3", "-c", python, dir, tostring(#samples) },
    })
    assert.equal(table.concat(sums, " ") .. "\n", done.out, done.err)
    for index, bytes in ipairs(samples) do
      local back = assert(yaml.decode(assert(fs.read(("%s/%d.python"):format(dir, index - 1)))))
      assert.equal(bytes, back.bytes)
      assert.same({ bytes, "text" }, { back.list[1], back.list[2] })
    end
    assert(fs.remove(dir, { recursive = true }))
    assert.equal("hi there", yaml.decode("a: !!binary |\n  aGkg\n   dGhl\n  cmU=\n").a)
    assert.equal("hi", yaml.decode('a: !!binary "aG k="').a)
  end)

  it("sorts keys and writes blocks", function()
    assert.equal("a:\n- 1\n- two\nb: true\nc: {}\nd: []\ne: null\n",
      yaml.encode { b = true, a = { 1, "two" }, c = {}, d = json.array {}, e = json.null })
  end)

  it("keeps multi-line text readable", function()
    assert.equal("script: |\n  one\n  two\n", yaml.encode { script = "one\ntwo\n" })
  end)

  it("reads plain scalars by YAML 1.1", function()
    assert.same({ yes = true, no = false, n = 12, f = 1.5, x = 31, o = 8, s = "text", v = "v1" },
      yaml.decode("yes: yes\nno: off\nn: 12\nf: 1.5\nx: 0x1f\no: 010\ns: text\nv: v1\n"))
    assert.equal(json.null, yaml.decode(""))
    assert.equal(json.null, yaml.decode("a: ~").a)
  end)

  it("reads whole numbers of all 64 bits, and writes them so that they are read again", function()
    for text, number in pairs {
      ["9223372036854775807"] = math.maxinteger, ["-9223372036854775808"] = math.mininteger,
      ["0133333333333333333334"] = 1647030720866924252, ["-0b101"] = -5, ["+7"] = 7,
    } do
      assert.equal(number, yaml.decode("a: " .. text).a, text)
      assert.equal(number, yaml.decode(yaml.encode { a = number }).a, text)
    end
    assert.same({ "0b", "0b-1", "0x" }, (yaml.decode "[0b, 0b-1, 0x]"))
  end)

  it("refuses what it would give another meaning: tags, merge keys, huge numbers", function()
    for text, message in pairs {
      ["!!binary aGk=: a"] = "tag", ["!x a: 1"] = "tag", ["a: !mine x"] = "tag",
      ["a: !!set {x}"] = "tag",
      ["a: !!python/object:os.x {}"] = "tag", ['a: !!int "1"'] = "tag",
      ["x: &x {a: 1}\ny:\n  <<: *x"] = "merge keys", ["a: 123456789012345678901"] = "too large",
      ["a: 9223372036854775808"] = "too large", ["a: -9223372036854775809"] = "too large",
      ["a: 0x10000000000000000"] = "too large", ["a: 01777777777777777777777"] = "too large",
    } do
      local value, err = yaml.decode(text)
      assert.is_nil(value, text)
      assert.equal("unsupported", err.kind)
      assert.matches("line %d", err.message)
      assert.matches(message, err.message, 1, true)
    end
    assert.same({ a = "12", b = 12, c = "<<", d = { 1 }, e = "!x" },
      (yaml.decode('a: !!str 12\nb: !!int 12\nc: "<<"\nd: !!seq [1]\ne: "!x"\n')))
  end)

  it("gives an aliased value once more, without growing", function()
    local bomb = "a: &a [x, x]\n"
    for i = string.byte("b"), string.byte("z") do
      local name, before = string.char(i), string.char(i - 1)
      bomb = bomb .. ("%s: &%s [*%s, *%s]\n"):format(name, name, before, before)
    end
    local value = assert(yaml.decode(bomb))
    assert.equal("x", value.b[1][1])
    assert.has_error(function() yaml.encode(value) end)
  end)

  it("says where bad text is", function()
    for text, line in pairs { ["a: [1"] = 2, ["a: 1\na: 2"] = 2, ["a: *b"] = 1, ["{a: b}: c"] = 1,
      ["a: 1\n--- \nb: 2"] = 2, ["\tx: 1"] = 1, ["a: 1\nb: !!binary aGk"] = 2,
      ["!!binary a=Gk"] = 1, ["!!binary aGk=aGk="] = 1,
      ["!!binary ä"] = 1 } do
      local value, err = yaml.decode(text)
      assert.is_nil(value)
      assert.equal("invalid", err.kind)
      assert.matches("line " .. line, err.message, 1, true)
    end
  end)

  it("refuses what YAML cannot carry", function()
    assert.has_error(function() yaml.encode { f = print } end)
    assert.has_error(function() yaml.encode { 0 / 0 } end)
    assert.has_error(function() yaml.encode { ["\xff"] = 1 } end)
    local endless = {}
    endless[1] = endless
    assert.has_error(function() yaml.encode(endless) end)
  end)
end)
