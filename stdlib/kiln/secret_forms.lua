---The texts in which a secret's value shows: itself, in base64, escaped for a URL, for JSON, quoted
---for a shell, for systemd or in YAML.
local crypto = require "rt.crypto"
local json = require "rt.json"

local forms = {}

local SHORTEST = 4 -- bytes: shorter values would take away half of every text

---The characters of its base64 that depend on the value alone, when `before` other bytes come first
---(RFC 4648, section 4: six bits a character).
local function add_base64(add, value)
  add("base64", crypto.base64(value))
  for before = 0, 2 do
    local text = crypto.base64(("\0"):rep(before) .. value)
    local first = before == 0 and 1 or before + 2
    local core = text:sub(first, (before + #value) * 8 // 6)
    if #core >= 6 then
      add("base64." .. before, core)
      local other = core:gsub("[+/]", { ["+"] = "-", ["/"] = "_" }) -- RFC 4648, section 5
      add("base64url." .. before, other)
    end
  end
end

---RFC 3986, section 2.1; forms write a blank as "+", some encoders use small letters or spare
---more characters.
local function add_url(add, value)
  for index, spared in ipairs { "%w%-%._~", "%w%-%._~!'%(%)%*", "%w%-%._~/" } do
    for _, letter in ipairs { "X", "x" } do
      local name = ("url.%d%s"):format(index, letter)
      local text = value:gsub("[^" .. spared .. "]", function(c)
        return ("%%%02" .. letter):format(c:byte())
      end)
      add(name, text)
      add(name .. "+", (text:gsub("%%20", "+")))
    end
  end
end

local short = { ['"'] = '\\"', ["\\"] = "\\\\", ["\n"] = "\\n", ["\t"] = "\\t", ["\r"] = "\\r",
  ["\b"] = "\\b", ["\f"] = "\\f" }

---RFC 8259, section 7: what is not ASCII as UTF-16 in hexadecimal digits.
local function ascii(text)
  if not utf8.len(text) then return text end
  return (text:gsub(utf8.charpattern, function(c)
    local code = utf8.codepoint(c)
    if code < 0x80 then return nil end
    if code < 0x10000 then return ("\\u%04x"):format(code) end
    code = code - 0x10000
    return ("\\u%04x\\u%04x"):format(0xD800 | code >> 10, 0xDC00 | code & 0x3FF)
  end))
end

---RFC 8259, section 7, as the usual encoders write it, and as kiln does.
local function add_json(add, value)
  local text = value:gsub('[%c"\\]', function(c)
    return short[c] or ("\\u%04x"):format(c:byte())
  end)
  add("json", text)
  add("json/", (text:gsub("/", "\\/")))
  add("json<", (text:gsub("[<>&']", function(c) return ("\\u%04x"):format(c:byte()) end)))
  add("json.ascii", ascii(text))
  add("json.own", json.encode(value, { bytes = "keep" }):sub(2, -2))
end

---Between quotes: POSIX.1-2017, XCU 2.2.2; systemd.exec(5), EnvironmentFile=; YAML 1.2, 7.3.2.
local function add_quoted(add, value)
  add("sh", (value:gsub("'", "'\\''")))
  add("env", (value:gsub('[\\"$`]', "\\%0")))
  add("yaml", (value:gsub("'", "''")))
end

local function add_all(add, value)
  add("value", value)
  add_base64(add, value)
  add_url(add, value)
  add_json(add, value)
  add_quoted(add, value)
end

---Gives the forms by name. A value of several lines shows in its lines too, since output comes by
---line. Values shorter than 4 bytes have none.
---@param value string
---@return table<string, string>
function forms.of(value)
  local out = {}
  local function adder(prefix)
    return function(name, text)
      if #text >= SHORTEST then out[prefix .. name] = text end
    end
  end
  if #value < SHORTEST then return out end
  add_all(adder "", value)
  if not value:find("\n", 1, true) then return out end
  local number = 0
  for line in value:gmatch("[^\r\n]+") do
    number = number + 1
    if #line >= 8 and line:sub(1, 5) ~= "-----" then
      add_all(adder(("line%d."):format(number)), line)
    end
  end
  return out
end

---Lists the names of a value's forms in a fixed order, the value itself first: forms are often the
---same text, and a journal has to name it the same way every time.
---@param of table<string, string>
---@return string[]
function forms.names(of)
  local names = {}
  for name in pairs(of) do names[#names + 1] = name end
  table.sort(names, function(a, b)
    if (a == "value") ~= (b == "value") then return a == "value" end
    return a < b
  end)
  return names
end

return forms
