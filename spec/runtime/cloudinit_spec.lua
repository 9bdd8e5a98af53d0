local cloudinit = require "rt.cloudinit"

describe("rt.cloudinit", function()
  it("renders a cloud-config document", function()
    assert.equal("#cloud-config\nruncmd:\n- echo hi\n", cloudinit.config { runcmd = { "echo hi" } })
  end)

  it("refuses what the cloud would not take, with both sizes", function()
    local text, err = cloudinit.config({ runcmd = { ("x"):rep(200) } }, { max_bytes = 100 })
    assert.is_nil(text)
    assert.equal("limit", err.kind)
    assert.matches("of 225 bytes", err.message, 1, true)
    assert.matches("takes 100", err.message, 1, true)
  end)

  it("renders parts that Python's mail parser takes apart again", function()
    local text = cloudinit.multipart {
      { type = "cloud-config", content = "#cloud-config\n{}\n", filename = "a.yaml" },
      { type = "shellscript", content = "#!/bin/sh\necho 'é'", filename = "b.sh" },
    }
    local path = os.tmpname()
    local file = io.open(path, "w")
    file:write(text)
    file:close()
    local pipe = io.popen("/usr/bin/python3 -c 'import email,sys;"
      .. "m=email.message_from_file(open(sys.argv[1]));"
      .. "[print(p.get_content_type(),p.get_filename(),len(p.get_payload()))"
      .. " for p in m.walk() if not p.is_multipart()]' " .. path .. " 2>&1")
    local seen = pipe:read("a")
    pipe:close()
    os.remove(path)
    assert.equal("text/cloud-config a.yaml 16\ntext/shellscript b.sh 18\n", seen)
  end)

  it("raises for an unknown type, a missing content, an unknown key", function()
    assert.has_error(function() cloudinit.multipart { { type = "exe", content = "x" } } end)
    assert.has_error(function() cloudinit.multipart { { type = "shellscript" } } end)
    assert.has_error(function()
      cloudinit.multipart { { type = "shellscript", content = "", name = "x" } }
    end, "unknown option 'name'")
    assert.has_error(function() cloudinit.config({}, { max_byte = 1 }) end,
      "unknown option 'max_byte'")
  end)
end)
