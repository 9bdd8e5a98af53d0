---Databases of the local cloud: Debian's PostgreSQL on a local machine of its own, which no release
---replaces. What a managed database is elsewhere, so that a recipe is the same here.
local crypto = require "rt.crypto"
local fs = require "rt.fs"
local json = require "rt.json"
local machines = require "rt.machine"
local timer = require "rt.timer"
local cloudinit = require "kiln.cloudinit"
local error_ = require "kiln.error"
local probe = require "kiln.probe"
local secret = require "kiln.secret"

local databases = {}

local base = "debian-13-postgresql"
local port = 5432
local tag = "kiln_database"

local function path_of(site, name)
  return ("%s/databases/%s"):format(site.dir, name)
end

local function role_of(name)
  return (name:gsub("[^%l%d]", "_"))
end

local function kept(site, name)
  local text = fs.read(path_of(site, name))
  return text and json.decode(text)
end

---Gives a new database's user and password; whoever writes them first decides. 0600, beside the
---machines.
local function access(site, spec)
  error_.check(fs.mkdir(site.dir .. "/databases", { parents = true, mode = "0700" }))
  local role = role_of(spec.name)
  local text = json.encode {
    user = spec.user or role, database = spec.database or role,
    password = spec.password or crypto.hex(crypto.random(24)),
  }
  local done, err = fs.write(path_of(site, spec.name), text, { exclusive = true, mode = "0600" })
  if not done and not error_.is(err, "exists") then error_.check(nil, err) end
  return error_.check(kept(site, spec.name))
end

local function answers(address)
  local ok, err = xpcall(probe.tcp, error_.from, {
    host = address, port = port, successes = 1, within = 1, timeout = 1,
  })
  if not ok and not error_.is(err, "probe") then error(err, 0) end
  return ok
end

local function row_of(site, machine)
  local name = machine.tags[tag]
  local role, known = role_of(name), kept(site, name) or {}
  return {
    id = machine.id, name = name, tags = machine.tags, host = machine.address, port = port,
    user = known.user or role, database = known.database or role, ssl = true, engine = "pg",
    state = answers(machine.address) and "online" or "creating",
  }
end

local folder = "/etc/postgresql/17/main/"

---Makes the server's own certificate, which is its authority as well.
local certificate = "cd " .. folder .. " && openssl req -x509 -newkey ec -pkeyopt "
  .. "ec_paramgen_curve:P-256 -nodes -days 3650 -subj /CN=$(hostname) -keyout server.key "
  .. "-out server.crt -addext subjectAltName=IP:$(hostname -I | cut -d' ' -f1)"
  .. " && chown postgres: server.key server.crt"

---Makes the role and the database over the local socket, and only then listens for others: whoever
---can connect finds both.
local function user_data(known)
  return cloudinit.config {
    cloudinit.write_file("/run/kiln.sql", ("create role %s login password '%s';\n"
      .. "create database %s owner %s;\n"):format(known.user, known.password, known.database,
      known.user),
      { mode = "0640", owner = "root:postgres" }),
    cloudinit.write_file(folder .. "conf.d/kiln.conf", ("listen_addresses = '*'\n"
      .. "ssl_cert_file = '%sserver.crt'\nssl_key_file = '%sserver.key'\n"):format(folder, folder)),
    cloudinit.run_command(certificate),
    cloudinit.run_command("echo 'hostssl all all 0.0.0.0/0 scram-sha-256'"
      .. " >>" .. folder .. "pg_hba.conf"),
    cloudinit.run_command {
      "sh", "-c", "cd / && systemctl stop postgresql@17-main"
        .. " && pg_ctlcluster 17 main start -o '-c listen_addresses='"
        .. " && runuser -u postgres -- psql -q -v ON_ERROR_STOP=1 -f /run/kiln.sql"
        .. " && pg_ctlcluster 17 main stop && rm /run/kiln.sql"
        .. " && systemctl start postgresql@17-main",
    },
  }
end

---Finds a database by name.
---@async
---@param driver kiln.local.Driver
---@param name string
---@return table?
function databases.find(driver, name)
  for _, machine in ipairs(driver:machines { tag = tag }) do
    if machine.tags[tag] == name then return row_of(driver.site, machine) end
  end
end

---Makes a database; one of that name is taken as it is. Raises `unsupported` for another engine.
---@async
---@param driver kiln.local.Driver
---@param spec { name: string, engine: string?, user: string?, database: string?,
---  password: string?, tags: table? } ("pg"), (of the name), (of the name), (a random one)
---@return table database
function databases.create(driver, spec)
  local there = databases.find(driver, spec.name)
  if there then return there end
  if (spec.engine or "pg") ~= "pg" then
    error_.raise { kind = "unsupported", message = ("the local cloud has PostgreSQL (\"pg\") only, "
      .. "not '%s'"):format(spec.engine) }
  end
  local tags = { [tag] = spec.name }
  for key, value in pairs(spec.tags or {}) do tags[key] = value end
  return row_of(driver.site, driver:create_machine {
    name = "db-" .. spec.name, token = "database-" .. spec.name, image = driver:base_image(base).id,
    tags = tags,
    user_data = user_data(access(driver.site, spec)),
  })
end

---Waits until a database answers. Raises `failed`, `timeout`.
---@async
---@param driver kiln.local.Driver
---@param id string
---@return table database
function databases.await(driver, id)
  local deadline = timer.now() + 180
  while true do
    local machine = driver:machine(id)
    if not machine or machine.state == "stopped" then
      error_.raise { kind = "failed", message = ("the database's machine %s is %s"):format(id,
        machine and "switched off" or "gone") }
    end
    local row = row_of(driver.site, machine)
    if row.state == "online" then return row end
    if timer.now() > deadline then
      error_.raise { kind = "timeout", message = ("PostgreSQL on %s does not answer at %s:%d after "
        .. "180 s; look there: journalctl, cloud-init status"):format(id, row.host, port) }
    end
    timer.sleep(0.2)
  end
end

---Gives what must not be in a journal, and the certificate, read where the machine keeps it.
---@async
---@param driver kiln.local.Driver
---@param id string
---@return { password: userdata, uri: userdata, ca: string }
function databases.secrets(driver, id)
  local machine = driver:machine(id)
  local made = machine and kept(driver.site, machine.tags[tag] or "")
  if not made then
    error_.raise { kind = "not_found", message = ("there is no database on %s"):format(id) }
  end
  local row = row_of(driver.site, machine)
  local ca = error_.check(fs.read(("%s/machines/%s/upper%sserver.crt"):format(driver.site.dir, id,
    folder)))
  if not ca:find "^%-%-%-%-%-BEGIN CERTIFICATE" then -- the machine may have put a link there
    error_.raise { kind = "failed",
      message = ("what %s has as its certificate is none"):format(id) }
  end
  return {
    password = secret.remember(made.password), ca = ca,
    uri = secret.remember(("postgresql://%s:%s@%s:%d/%s?sslmode=require"):format(row.user,
      made.password, row.host, port, row.database)),
  }
end

---Lets the machines of a service in, now and later ones. Raises `unsupported` for another tag.
---@async
---@param driver kiln.local.Driver
---@param id string
---@param key string "kiln_owner", or "kiln_service": of the database's project
---@param value string the owner as `Run:owner_label` has it, or the service
function databases.allow(driver, id, key, value)
  local project, service
  if key == "kiln_owner" then
    project, service = value:match "^(%x+)%-(.+)$"
  elseif key == "kiln_service" then
    local machine = driver:machine(id)
    project, service = machine and machine.tags.kiln_project or "*", value
  end
  if not service then
    error_.raise { kind = "unsupported", message = ("a database of the local cloud lets services "
      .. "in (kiln_owner, kiln_service), not machines by their tag %s=%s"):format(key, value) }
  end
  error_.check(machines.admit {
    dir = driver.site.dir, name = id, group = ("%s/%s"):format(project, service),
  })
end

---Destroys a database with all that is in it.
---@async
---@param driver kiln.local.Driver
---@param id string
function databases.destroy(driver, id)
  local machine = driver:machine(id)
  driver:destroy_machine(id)
  if machine and machine.tags[tag] then fs.remove(path_of(driver.site, machine.tags[tag])) end
end

return databases
