---Where Debian packages come from: what this host's apt uses, else Debian's own mirror.
local fs = require "rt.fs"
local proc = require "rt.proc"
local error_ = require "kiln.error"

local mirror = {}

local default_mirror = "http://deb.debian.org/debian"
local default_security = "http://deb.debian.org/debian-security"
local keyring = "/usr/share/keyrings/debian-archive-keyring.gpg"

---Gives the addresses in apt's source files, both formats (sources.list(5)).
local function addresses(paths)
  local found = {}
  for _, path in ipairs(paths) do
    for line in (fs.read(path) or ""):gmatch("[^\n]+") do
      local rest = line:match("^URIs:%s*(.*)$") or line:match("^deb%s+(.*)$")
      for word in (rest or ""):gsub("%b[]", ""):gmatch("%S+") do
        if word:find("^https?://") then found[#found + 1] = (word:gsub("/+$", "")) end
      end
    end
  end
  return found
end

local function files(folder)
  local paths = { folder .. "/sources.list" }
  for _, kind in ipairs { "list", "sources" } do
    for _, path in ipairs(fs.glob(folder .. "/sources.list.d/*." .. kind) or {}) do
      paths[#paths + 1] = path
    end
  end
  return paths
end

---Finds the mirrors that a host's apt is set up with; Debian's own where it has none.
---@param folder string "/etc/apt"
---@return string main "http://deb.debian.org/debian"
---@return string security
function mirror.of(folder)
  local main, security
  for _, address in ipairs(addresses(files(folder))) do
    if address:find("/debian$") then main = main or address end
    if address:find("/debian%-security$") then security = security or address end
  end
  return main or default_mirror, security or default_security
end

---Gives what mmdebstrap needs to know of where packages come from. `KILN_DEBIAN_MIRROR` names the
---mirror of a user's choice. Raises `unsupported` without the keys that packages are signed with.
---@param suite string "trixie"
---@return { mirror: string, lines: string[], keyring: string }
function mirror.sources(suite)
  local main, security = mirror.of "/etc/apt"
  local chosen = proc.getenv "KILN_DEBIAN_MIRROR"
  if chosen and chosen ~= "" then main = chosen end
  if not fs.stat(keyring) then
    error_.raise { kind = "unsupported", message = (
      "%s is missing, so packages cannot be verified; apt-get install debian-archive-keyring")
      :format(keyring) }
  end
  return {
    mirror = main, keyring = keyring,
    lines = {
      ("deb %s %s main"):format(main, suite),
      ("deb %s %s-updates main"):format(main, suite),
      ("deb %s %s-security main"):format(security, suite),
    },
  }
end

return mirror
