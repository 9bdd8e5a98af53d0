local crypto = require "rt.crypto"
local json = require "rt.json"
local proc = require "rt.proc"

local function refuses(text, pattern)
  local value, err = json.decode(text)
  assert.is_nil(value, "accepted: " .. text)
  assert.equal("invalid", err.kind)
  assert.matches(pattern, err.message)
  return err
end

local function round_trip(text)
  local value, err = json.decode(text)
  assert.is_nil(err)
  assert.equal(text, json.encode(value))
end

describe("rt.json", function()
  describe("numbers", function()
    it("carries whole numbers of 64 bits exactly, as Python reads and writes them", function()
      local numbers = { 99999999999999, 100000000000000, -100000000000000, (1 << 53) + 1,
        999999999999999999, math.maxinteger, math.mininteger, math.maxinteger - 1 }
      for _ = 1, 500 do
        local wide = string.unpack("<i8", crypto.random(8))
        numbers[#numbers + 1] = wide >> (#numbers % 50)
        numbers[#numbers + 1] = wide
      end
      local text = json.encode { list = numbers, one = math.mininteger }
      local python = proc.run { argv = { "python3", "-c",
        "import json,sys; print(json.dumps(json.load(sys.stdin)))" }, stdin = text }
      assert.equal(0, python.code, python.err)
      local back = assert(json.decode(python.out))
      assert.equal(math.mininteger, back.one)
      for index, number in ipairs(numbers) do
        assert.equal(number, back.list[index])
        assert.equal("integer", math.type(back.list[index]))
      end
      assert.equal(math.maxinteger, json.decode "9223372036854775807")
      round_trip('{"id":9007199254740993,"list":[1,123456789012345678,[]]}')
    end)

    it("refuses what would be rounded: beyond 64 bits, long fractions", function()
      local err = refuses('{"id":\n  9223372036854775808}', "9223372036854775808 is beyond 64 bits")
      assert.equal(2, err.line)
      assert.equal(3, err.column)
      refuses("-9223372036854775809", "64 bits")
      refuses("123456789012345.5", "15 digits")
      refuses("1.23456789012345678e20", "15 digits")
      refuses('[1e999,"5"]', "too large")
    end)

    it("raises for whole numbers of 15 digits or more that are floats", function()
      for _, n in ipairs { 2 ^ 53, 2 ^ 53 + 2, 2 ^ 63, 123456789012345.0 } do
        assert.error_matches(function() json.encode { droplet = { id = n } } end,
          "cannot encode .droplet.id as JSON: .* 15 digits or more")
      end
    end)

    it("gives whole numbers back as integers, however they are spelled", function()
      for text, number in pairs { ["1"] = 1, ["-0"] = 0, ["0"] = 0, ["1e3"] = 1000, ["2.0"] = 2,
        ["-7"] = -7, ["1E+2"] = 100, ["-0.0"] = 0, ["12e-1"] = 1.2, ["1.5"] = 1.5 } do
        local value = json.decode(text)
        assert.equal(number, value, text)
        assert.equal(math.type(number), math.type(value), text)
      end
      assert.equal("1000", json.encode(1000.0))
      assert.equal("0", json.encode(-0.0))
    end)

    it("carries fractions exactly", function()
      for _, n in ipairs { 0.1, 0.1 + 0.2, 1 / 3, 1.5, -2.5e-10, 1732374489.123456, 5e-324,
        1.7976931348623157e308 / 3 } do
        if n < 1e15 then assert.equal(n, json.decode(json.encode(n))) end
      end
      assert.equal("1.5", json.encode(1.5))
      assert.equal(1e20, json.decode(json.encode(1e20)))
    end)

    it("refuses what is no number", function()
      for _, n in ipairs { 0 / 0, 1 / 0, -1 / 0 } do
        assert.error_matches(function() json.encode { n } end, "%[1%].*not a number")
      end
      for _, text in ipairs { "01", "1.", ".5", "+1", "- 1", "0x10", "NaN", "Infinity", "-", "1e",
        "1e+", "--1", "nan", "inf" } do
        refuses(text, "JSON line 1")
      end
      refuses("1e999", "too large")
      refuses("-1e400", "too large")
      refuses("1e99999999999999999999", "too large")
      assert.equal(0, json.decode "1e-99999999999999999999")
    end)
  end)

  describe("arrays, objects and null", function()
    it("keeps empty arrays, empty objects and nested empties apart", function()
      for _, text in ipairs { "[]", "{}", "[[]]", "[{}]", "[[],[]]", '{"a":[]}', '{"a":{}}',
        "[[[]],[{}],{}]", '{"a":[{"b":[]}],"c":[]}', "[null]", "[[null],[]]", '[[1],[],"[]"]' } do
        round_trip(text)
      end
      assert.equal("[]", json.encode(json.decode " [ \n ] "))
    end)

    it("keeps null apart from absent", function()
      local value = json.decode '{"a":null,"b":[null,1]}'
      assert.equal(json.null, value.a)
      assert.equal(json.null, value.b[1])
      assert.is_nil(value.c)
      assert.equal('{"a":null,"b":[null,1]}', json.encode(value))
      assert.equal(json.null, json.decode "null")
      assert.is_false(json.decode "false")
    end)

    it("keeps an array that was emptied after decoding an array", function()
      local value = json.decode '{"tags":["a"]}'
      value.tags[1] = nil
      assert.equal('{"tags":[]}', json.encode(value))
      assert.is_true(json.is_array(value.tags))
    end)

    it("marks tables as arrays", function()
      assert.equal("[]", json.encode(json.array()))
      assert.equal("[]", json.encode(json.array {}))
      assert.equal("{}", json.encode {})
      assert.is_false(json.is_array {})
      assert.is_true(json.is_array { 1 })
      assert.is_false(json.is_array "x")
      assert.has_error(function() json.array(setmetatable({}, { __index = {} })) end)
      assert.error_matches(function() json.encode(json.array { a = 1 }) end, "string keys")
    end)

    it("refuses an object with the same key twice, and says where", function()
      local err = refuses('{"x":{"a":1},\n "y":{"a":1, "b":[{"a":2}], "a":3}}', 'key "a" twice')
      assert.equal(2, err.line)
      assert.equal(29, err.column)
      refuses('{"a":1,"\\u0061":2}', "twice")
    end)

    it("takes the last of a key that comes twice when told to", function()
      assert.same({ a = 3, b = { c = 2 } },
        json.decode('{"a":1,"b":{"c":1,"c":2},"a":3}', { last_wins = true }))
    end)

    it("raises for tables that are neither, naming the place", function()
      assert.error_matches(function() json.encode { a = { 1, nil, 3 } } end, "encode %.a as JSON")
      assert.error_matches(function() json.encode { 1, x = 2 } end, "the value")
      assert.error_matches(function() json.encode { [0] = 1 } end, "string keys")
      assert.error_matches(function() json.encode { [1.5] = 1 } end, "string keys")
      assert.error_matches(function() json.encode { a = { b = { 1, print } } } end,
        "%.a%.b%[2%].*function")
    end)

    it("bounds the depth both ways, so a circle raises", function()
      local circle = {}
      circle.again = circle
      assert.error_matches(function() json.encode(circle) end, "circle")
      assert.is_not_nil(json.decode(("["):rep(500) .. ("]"):rep(500)))
      refuses(("["):rep(502) .. ("]"):rep(502), "nested deeper than 500")
      refuses(('{"a":'):rep(100000), "nested deeper than 500")
      local deep = json.decode(("["):rep(499) .. ("]"):rep(499))
      assert.equal(("["):rep(499) .. ("]"):rep(499), json.encode(deep))
    end)
  end)

  describe("strings", function()
    it("reads every escape and writes the short ones", function()
      assert.equal('\"\\/\b\f\n\r\t\0é€😀', json.decode
        [["\"\\\/\b\f\n\r\t\u0000\u00e9\u20AC\ud83d\ude00"]])
      assert.equal([["\"\\/\b\f\n\r\t\u0000\u001f\u007fé😀"]],
        json.encode '\"\\/\b\f\n\r\t\0\31\127é😀')
      round_trip '"http://example.org/a?b=c"'
    end)

    it("refuses half surrogate pairs, bad escapes and control characters", function()
      for _, text in ipairs { [["\ud83d"]], [["\ud83dx"]], [["\ude00"]], [["\ud83d\u0041"]],
        [["\ud83d\ud83d"]] } do
        refuses(text, "surrogate")
      end
      refuses([["\x41"]], "escape")
      refuses([["\u00g0"]], "hexadecimal")
      refuses('"a\nb"', "control character")
      refuses('"a\0b"', "control character")
      refuses('"abc', "without an end")
      refuses('"abc\\', "escape")
    end)

    it("refuses invalid UTF-8 both ways", function()
      for _, bytes in ipairs { "\xff", "\xc0\x80", "\xed\xa0\x80", "\xf5\x80\x80\x80", "\xe2\x82",
        "\x80", "\xf4\x90\x80\x80", "\xe0\x80\x80" } do
        refuses('{"a": "' .. bytes .. '"}', "UTF%-8")
        assert.error_matches(function() json.encode { list = { bytes } } end,
          "%.list%[1%].*UTF%-8")
        assert.error_matches(function() json.encode { [bytes] = 1 } end, "UTF%-8")
      end
    end)
  end)

  it("carries any bytes when told to keep them, in text that is valid JSON", function()
    local all = {}
    for i = 0, 255 do all[i + 1] = string.char(i) end
    local bytes = { bytes = "keep" }
    for _, text in ipairs { table.concat(all), "\xff", "a\xe2\x82b", "\xe2\x82\xac", "\xed\xa0\x80",
      "\xff\xfe", "é\x80é", "\xf0\x9f\x98", "😀\xf0" } do
      local encoded = json.encode({ [text] = { text } }, bytes)
      assert.is_not_nil(utf8.len(encoded))
      assert.same({ [text] = { text } }, (json.decode(encoded, bytes)))
    end
    assert.equal([["\udcff"]], json.encode("\xff", bytes))
    assert.equal("😀\x80", json.decode([["\ud83d\ude00\udc80"]], bytes))
    assert.same({ "\x80", {} }, (json.decode([=[["\udc80",[]]]=], bytes)))
    assert.is_nil((json.decode([["\udc7f"]], bytes)))
    assert.is_nil((json.decode([["\udd00"]], bytes)))
    refuses([["\udc80"]], "surrogate")
  end)

  it("replaces bytes that are not UTF-8 when told so", function()
    assert.equal('"a\u{FFFD}\u{FFFD}b€"', json.encode("a\xff\xe2b€", { bytes = "replace" }))
    assert.has_error(function() json.encode("", { bytes = "drop" }) end)
  end)

  it("says line and column of what is wrong", function()
    local err = refuses('{\n  "a": 1,\n  "b" 2\n}', "line 3, column 7: ':' was expected, not '2'")
    assert.equal(3, err.line)
    assert.equal(7, err.column)
    for text, message in pairs {
      [""] = "the text ends where a value was expected",
      ["[1,]"] = "a value was expected, not ']'",
      ["[1 2]"] = "',' or ']' was expected, not '2'",
      ['{"a":1,}'] = "a string as key was expected",
      ["{a:1}"] = "a string as key was expected, not 'a'",
      ["[1}"] = "',' or ']' was expected, not '}'",
      ["1 1"] = "the end of the text was expected",
      ["[1"] = "the text ends where",
      ["tru"] = "a value was expected, not 't'",
      ["nullx"] = "the end of the text",
      ["\xef\xbb\xbf{}"] = "not byte 0xef",
      ["[1]\0"] = "the end of the text was expected, not byte 0x00",
    } do
      refuses(text, message:gsub("%p", "%%%0"))
    end
  end)

  it("writes keys sorted by byte, so the same value gives the same text", function()
    assert.equal('{"":0,"B":1,"a":2,"a-1":3,"aa":4,"é":5}',
      json.encode { aa = 4, a = 2, B = 1, [""] = 0, ["é"] = 5, ["a-1"] = 3 })
    assert.equal('{"a":1}', json.encode({ a = 1 }, { sorted = false }))
    local many = {}
    for i = 1, 200 do many["k" .. i] = i end
    assert.same(many, json.decode(json.encode(many, { sorted = false })))
  end)

  it("indents when told to", function()
    assert.equal([[{
  "a": [],
  "b": {},
  "c": [
    1,
    {
      "d": null
    }
  ]
}]], json.encode({ a = json.array(), b = {}, c = { 1, { d = json.null } } }, { pretty = true }))
  end)

  it("raises on misuse", function()
    assert.has_error(function() json.encode() end)
    assert.has_error(function() json.encode(nil) end)
    assert.has_error(function() json.decode(nil) end)
    assert.error_matches(function() json.encode({}, { indent = 2 }) end, "unknown option")
  end)

  it("reads and writes a big document", function()
    local list = {}
    for i = 1, 20000 do
      list[i] = { id = i, name = "machine-" .. i, tags = json.array(), up = true }
    end
    local text = json.encode(list)
    assert.same(list, json.decode(text))
    assert.equal(text, json.encode(json.decode(text)))
  end)
end)
