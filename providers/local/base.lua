---The base root file system of local machines: made once by mmdebstrap, kept as an archive,
---unpacked once into an image. The archive's name carries a hash of all that it is made from.
---It is a minimal Debian with systemd, sshd and cloud-init; base_root.lua says how it is set up.
local crypto = require "rt.crypto"
local fs = require "rt.fs"
local machine = require "rt.machine"
local proc = require "rt.proc"
local error_ = require "kiln.error"
local base_root = require "providers.local.base_root"
local mirror = require "providers.local.mirror"

local base = {}

---Base images by the name that recipes use.
local bases = {
  ["debian-13"] = { suite = "trixie", more = {} },
  -- What databases of the local cloud run on; see databases.lua.
  ["debian-13-postgresql"] = { suite = "trixie", more = { "postgresql" } },
}

local packages = {
  "systemd", "systemd-sysv", "dbus", "openssh-server", "cloud-init", "curl", "ca-certificates",
  "iproute2", "procps",
}

---Nobody reads documentation on a machine that is thrown away.
local left_out = { "/usr/share/man/*", "/usr/share/doc/*", "/usr/share/locale/*",
  "/usr/share/info/*" }

---Gives the suite and the archive's name of a base. Raises `not_found` for a name that is none.
---@param name string "debian-13"
---@return string suite
---@return string[] wanted packages
---@return string stem "base-trixie-0123456789ab"; the archive is `stem`.tar.zst, the image `stem`
local function identify(name)
  local known = bases[name]
  if not known then
    error_.raise { kind = "not_found",
      message = ("there is no base image '%s'; the local cloud has debian-13"):format(name) }
  end
  local suite, wanted = known.suite, table.move(packages, 1, #packages, 1, {})
  table.move(known.more, 1, #known.more, #wanted + 1, wanted)
  local inputs = table.concat({
    suite, table.concat(wanted, ","), table.concat(left_out, ","), base_root.script,
  }, "\n")
  return suite, wanted, ("base-%s-%s"):format(suite, crypto.sha256(inputs):sub(1, 12))
end

---Runs under the lock: two kilns make the base once, and what a dead one left goes away first.
---$1 archive, $2 unfinished archive, $3 its scratch folder, $4 the program (or nothing) that makes
---us who owns what is in there; the rest is the command.
local guarded = [[
archive=$1 part=$2 scratch=$3 owner=$4
shift 4
if [ -e "$archive" ]; then exit 0; fi
clean() {
  rm -f "$part"
  [ ! -e "$scratch" ] || $owner rm -rf --one-file-system "$scratch"
}
clean
mkdir -m 755 "$scratch" || exit
TMPDIR=$scratch; export TMPDIR
"$@" && sync "$part" && mv "$part" "$archive"
status=$?
clean
exit $status
]]

---Where mmdebstrap works. For an ordinary user it works as one of the user's other ids, which must
---be able to come there, and a home is often closed; and only such an id may remove what it left.
local function scratch(folder)
  local uid = proc.info().uid
  if uid == 0 then return folder .. "/scratch", "" end
  return ("/var/tmp/kiln-base-%d-%s"):format(uid, crypto.sha256(folder):sub(1, 8)),
    "unshare --map-root-user --map-auto"
end

local function command(suite, wanted, part, sources)
  local argv = {
    "mmdebstrap", "--variant=apt",
    "--include=" .. table.concat(wanted, ","), "--customize-hook=" .. base_root.script,
  }
  for _, pattern in ipairs(left_out) do argv[#argv + 1] = "--dpkgopt=path-exclude=" .. pattern end
  if sources.keyring then argv[#argv + 1] = "--keyring=" .. sources.keyring end
  argv[#argv + 1] = suite
  argv[#argv + 1] = part
  for _, line in ipairs(sources.lines) do argv[#argv + 1] = line end
  return argv
end

local function failed(done, sources, last)
  local text = table.concat(last, "\n")
  if text:find("Could not resolve", 1, true) or text:find("Could not connect", 1, true)
    or text:find("Unable to connect", 1, true) or text:find("Connection failed", 1, true)
    or text:find("Network is unreachable", 1, true) then
    error_.raise { kind = "unreachable", output = text, message = (
      "the base root file system needs packages from %s, which does not answer; check the network "
      .. "or the proxy (http_proxy), or name another mirror by KILN_DEBIAN_MIRROR")
      :format(text:match("Failed to fetch (%S-)/dists/") or sources.mirror) }
  end
  error_.raise { kind = "exit", code = done.code, output = text,
    message = ("mmdebstrap could not make the base root file system from %s (%s): %s"):format(
      sources.mirror, done.signal and "signal " .. done.signal or "status " .. done.code,
      last[#last] or "it said nothing") }
end

---mmdebstrap's own progress bars are not lines worth showing.
local function worth_telling(line)
  return line:match("^I: (.*)$") or line:match("^[EW]: .*$")
end

---Runs the guarded command; nil when another kiln has the lock.
local function attempt(argv, progress, sources)
  local child <close> = error_.check(proc.start { argv = argv, timeout = 1800, grace = 10 })
  local last = {}
  while true do
    local line = child:read_line()
    if line == nil then break end
    last[#last + 1] = line
    if #last > 12 then table.remove(last, 1) end
    local told = worth_telling(line)
    if told then progress(told) end
  end
  local done = error_.check(child:wait())
  if done.code == 75 then return nil end
  if done.code ~= 0 then failed(done, sources, last) end
  return true
end

local function quiet() end

---Makes the archive of a base, unless it is there. Only one kiln does so at a time; the others wait
---for it. What was cut off leaves nothing that is taken for whole.
---Raises `not_found`, `unreachable`, `exit`, `unsupported`, `io`.
---@async
---@param folder string where archives are kept
---@param name string "debian-13"
---@param progress? fun(text: string) called with every line of progress
---@return string path of the archive
function base.archive(folder, name, progress)
  progress = progress or quiet
  local suite, wanted, stem = identify(name)
  local path = ("%s/%s.tar.zst"):format(folder, stem)
  if fs.stat(path) then return path end
  error_.check(fs.mkdir(folder, { parents = true }))
  local sources = mirror.sources(suite)
  local part = ("%s/part-%s.tar.zst"):format(folder, stem)
  local place, owner = scratch(folder)
  local guard = { "sh", "-c", guarded, "sh", path, part, place, owner,
    table.unpack(command(suite, wanted, part, sources)) }
  progress(("making the base root file system from %s; this happens once"):format(sources.mirror))
  local lock = folder .. "/lock"
  if attempt({ "flock", "-n", "-E", "75", lock, table.unpack(guard) }, progress, sources) then
    return path
  end
  progress "another kiln is making it; waiting for that one"
  attempt({ "flock", lock, table.unpack(guard) }, progress, sources)
  return path
end

---Gives the image's name of a base, whether it is there or not.
---@param name string
---@return string
function base.image_name(name)
  return (select(3, identify(name)))
end

---Tells whether a base's archive is there.
---@param folder string
---@param name string
---@return boolean
function base.is_archived(folder, name)
  return fs.stat(("%s/%s.tar.zst"):format(folder, base.image_name(name))) ~= nil
end

---Makes the image of a base: the archive, then unpacked into the site.
---@async
---@param site { dir: string, archives: string }
---@param name string
---@param data string kept with the image
---@param progress? fun(text: string)
---@return table row of rt.machine
function base.image(site, name, data, progress)
  progress = progress or quiet
  local path = base.archive(site.archives, name, progress)
  progress "unpacking it"
  return error_.check(machine.unpack {
    dir = site.dir, tar = path, image = base.image_name(name), data = data,
  })
end

return base
