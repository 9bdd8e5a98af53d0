local proc = require "rt.proc"
local sh = require "kiln.sh"

local nasty = {
  "", " ", "a b", "'", "''", "'a'b'", '"', "\\", "\\'", "$HOME", "`id`", "$(id)", "a\nb", "\n",
  "\t", "*", "?", "[a-z]", "~", "~root", "-n", "--", "#x", "x#y", "!", "!!", "a;b", "a&b", "a|b",
  "a>b", "{a,b}", "a=b", "ünï", "\1\127\255", "%s", "\\n", "if", "while", ("x'"):rep(500),
}

local function shell(text)
  local done = assert(proc.run { argv = { "sh", "-c", text } })
  assert.equal("", done.err)
  assert.equal(0, done.code)
  return done.out
end

describe("kiln.sh", function()
  it("gives a real shell exactly the bytes of every word", function()
    for _, word in ipairs(nasty) do
      assert.equal("<" .. word .. ">", shell("printf '<%s>' " .. sh.quote(word)))
    end
  end)

  it("keeps words apart", function()
    local argv = { "printf", "<%s>" }
    for _, word in ipairs(nasty) do argv[#argv + 1] = word end
    assert.equal("<" .. table.concat(nasty, "><") .. ">", shell(sh.join(argv)))
  end)

  it("leaves plain words as they are", function()
    assert.equal("install -m 0755 ./a_b.c /usr/bin/x-1",
      sh.join { "install", "-m", "0755", "./a_b.c", "/usr/bin/x-1" })
    assert.equal("sleep 0.5", sh.join { "sleep", 0.5 })
  end)

  it("does not let a program's name become an assignment", function()
    local done = assert(proc.run { argv = { "sh", "-c", sh.join { "a=b", "x" } } })
    assert.equal(127, done.code)
  end)

  it("sets variables for one command, sorted by name", function()
    local variables = { B = "two words", A = "'$x'\n", C = 3 }
    assert.equal("A=''\\''$x'\\''\n' B='two words' C=3", sh.env(variables))
    assert.equal("'$x'\n|two words|3", shell(sh.env(variables)
      .. [[ sh -c 'printf "%s|%s|%s" "$A" "$B" "$C"']]))
    assert.equal("", sh.env {})
  end)

  it("refuses what a shell cannot carry", function()
    for _, call in ipairs {
      function() sh.quote "a\0b" end,
      function() sh.quote {} end,
      function() sh.env { ["A B"] = "" } end,
      function() sh.env { ["1A"] = "" } end,
      function() sh.env { ["A;id"] = "" } end,
    } do
      local ok, err = pcall(call)
      assert.is_false(ok)
      assert.equal("invalid", err.kind)
    end
  end)
end)
