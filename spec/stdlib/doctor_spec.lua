local doctor = require "kiln.doctor"
local error_ = require "kiln.error"

local function driver_with(check)
  return { name = "cloud", check = check }
end

describe("kiln.doctor", function()
  it("says whether everything is there", function()
    local rows, ok = doctor.run(driver_with(function()
      return { { name = "kernel", ok = true, message = "6.1" } }
    end))
    assert.is_true(ok)
    assert.same({ "✓ kernel — 6.1" }, doctor.lines(rows))
  end)

  it("says what to do about what is missing, and nothing about the rest", function()
    local rows, ok = doctor.run(driver_with(function()
      return {
        { name = "ip", ok = true, message = "the network", remedy = "never shown" },
        { name = "mmdebstrap", ok = false, message = "makes the base",
          remedy = "apt-get install mmdebstrap" },
        { name = "x", ok = false, message = "no remedy known" },
      }
    end))
    assert.is_false(ok)
    assert.same({
      "✓ ip         — the network",
      "✗ mmdebstrap — makes the base",
      "               apt-get install mmdebstrap",
      "✗ x          — no remedy known",
    }, doctor.lines(rows))
  end)

  it("takes a check that fails for a finding", function()
    local rows, ok = doctor.run(driver_with(function()
      error_.raise { kind = "denied", message = "needs root" }
    end))
    assert.is_false(ok)
    assert.same({ "✗ cloud — needs root" }, doctor.lines(rows))
  end)

  it("does not take a cancelled check for a finding", function()
    local done, err = pcall(doctor.run, driver_with(function()
      error_.raise { kind = "cancelled", message = "cancelled" }
    end))
    assert.is_false(done)
    assert.equal("cancelled", err.kind)
  end)
end)
