---User-data for machines, put together from fragments.
local crypto = require "rt.crypto"
local json = require "rt.json"
local yaml = require "rt.yaml"
local env_file = require "kiln.env_file"
local error_ = require "kiln.error"
local user_data = require "kiln.user_data"

local cloudinit = {}

local function invalid(format, ...)
  error_.raise { kind = "invalid", message = format:format(...) }
end

---Names the place alone: what stands there may be a private key.
local function conflict(path)
  invalid("two fragments of the user-data set %s differently", path)
end

---Raises for an option that is not in `known`: a typo must not deploy.
local function check_options(opts, known)
  for key in pairs(opts or {}) do
    if not known[key] then error(("unknown option '%s'"):format(tostring(key)), 3) end
  end
  return opts or {}
end

---Gives the text of a value. What is in user-data, every user of the machine and the cloud's own
---service can read, so a secret needs a recipe that insists.
local function text_of(what, value, insist)
  if crypto.is_secret(value) then
    if insist then return crypto.reveal(value) end
    invalid("%s is a secret, and user-data can be read by others: write it over SSH when the "
      .. "machine is ready, or insist with { secrets = true }", what)
  end
  local kind = type(value)
  if kind ~= "string" and kind ~= "number" and kind ~= "boolean" then
    invalid("%s must be text, a number or a boolean, not a %s", what, kind)
  end
  return tostring(value)
end

---An empty table may become either.
local function is_empty(value)
  return type(value) == "table" and next(value) == nil
end

---Merges b into a copy of a: lists append, maps merge, different scalars conflict.
local function merge(a, b, path)
  if is_empty(b) and type(a) == "table" then return a end
  if is_empty(a) and type(b) == "table" then return b end
  if type(a) ~= "table" or type(b) ~= "table" then
    if a == b then return a end
    conflict(path)
  end
  local lists = json.is_array(a)
  if lists ~= json.is_array(b) then conflict(path) end
  local out = lists and json.array {} or {}
  for key, value in pairs(a) do out[key] = value end
  for key, value in pairs(b) do
    if lists then
      out[#a + key] = value
    elseif out[key] == nil then
      out[key] = value
    else
      out[key] = merge(out[key], value, path == "" and tostring(key) or path .. "." .. key)
    end
  end
  return out
end

---Makes the commands stop at the first one that fails. cloud-init writes them into one script,
---whose status would be the last one's.
local function stop_at_failure(config)
  local commands = config.runcmd
  if type(commands) ~= "table" or commands[1] == nil then return config end
  local out = {}
  for key, value in pairs(config) do out[key] = value end
  out.runcmd = json.array { "set -e", table.unpack(commands) }
  return out
end

---Renders fragments, merged, as one cloud-config: lists append, maps merge, a scalar that two
---fragments set differently raises `invalid`. The commands of `runcmd` stop at the first that
---fails, and then the machine does not become ready; `command || true` goes on.
---@param fragments table[]
---@return string text
function cloudinit.config(fragments)
  if type(fragments) ~= "table" or not json.is_array(fragments) and not is_empty(fragments) then
    invalid("cloudinit.config takes a list of fragments: cloudinit.config { { runcmd = … } }")
  end
  local merged = {}
  for _, fragment in ipairs(fragments) do merged = merge(merged, fragment, "") end
  return "#cloud-config\n" .. yaml.encode(stop_at_failure(merged))
end

---Renders several parts as one MIME document. Raises `invalid`.
---@param parts { type: string, content: string, filename: string? }[] `type` is one of cloud-init's
---  own: "x-shellscript", "cloud-config", "cloud-boothook", "jinja2", "x-include-url", …
---@return string text
function cloudinit.multipart(parts)
  return user_data.multipart(parts)
end

---Whether YAML carries the bytes as they are.
local function is_text(bytes)
  return utf8.len(bytes) and not bytes:find("[%z\1-\8\11\12\14-\31\127]")
end

local file_options = { mode = true, owner = true, append = true, defer = true, secrets = true }

---A fragment that writes a file at first boot. Raises `invalid` for a secret.
---@param path string absolute
---@param content string|rt.Secret any bytes
---@param opts? { mode: string?, owner: string?, append: boolean?, defer: boolean?,
---  secrets: boolean? } ("0644", "root:root"); add to the end of a file that is there (false);
---  write it when packages and users are there, before the commands (false); let a secret into
---  the user-data (false)
---@return table fragment
function cloudinit.write_file(path, content, opts)
  opts = check_options(opts, file_options)
  local mode = opts.mode or "0644"
  if path:sub(1, 1) ~= "/" then invalid("the path of a file must be absolute, not %s", path) end
  if type(mode) ~= "string" or not mode:find("^[0-7][0-7][0-7][0-7]?$") then
    invalid('the mode of %s must be octal text such as "0644", not %s', path, tostring(mode))
  end
  if mode:find("^[2-7]...$") then
    invalid("cloud-init cannot give %s the mode %s: it sets the owner last, which takes the "
      .. "set-user-id and set-group-id bits away; set them in the image, or by a command", path,
      mode)
  end
  local bytes = text_of("the content of " .. path, content, opts.secrets)
  local binary = not is_text(bytes)
  return { write_files = { {
    path = path, content = binary and crypto.base64(bytes) or bytes,
    encoding = binary and "b64" or nil, permissions = mode, owner = opts.owner or "root:root",
    append = opts.append or nil, defer = opts.defer or nil,
  } } }
end

---A fragment that writes an environment file, for a unit's EnvironmentFile=. Raises `invalid` for
---a secret.
---@param path string absolute
---@param variables table<string, string|number|boolean|userdata>
---@param opts? { mode: string?, owner: string?, secrets: boolean? } ("0640", "root:root"); let
---  secrets into the user-data (false)
---@return table fragment
function cloudinit.env_file(path, variables, opts)
  opts = check_options(opts, { mode = true, owner = true, secrets = true })
  return cloudinit.write_file(path, env_file.text(variables), {
    mode = opts.mode or "0640", owner = opts.owner, secrets = opts.secrets,
  })
end

---A fragment that runs a command at the end of the first boot; one that fails ends the list.
---@param command string|string[] shell text, or the program and its arguments
---@return table fragment
function cloudinit.run_command(command)
  if type(command) ~= "string" and not (type(command) == "table" and json.is_array(command)) then
    invalid("a command is shell text or a list of words, not a %s", type(command))
  end
  return { runcmd = { command } }
end

---A fragment that makes a user who logs in with SSH keys only. The image's default user stays.
---@param name string
---@param opts? { keys: string[]?, groups: string[]?, sudo: boolean?, shell: string? } public keys;
---  more groups; may become root without a password (false); ("/bin/bash")
---@return table fragment
function cloudinit.user(name, opts)
  opts = check_options(opts, { keys = true, groups = true, sudo = true, shell = true })
  if not name:find("^[%l_][%w_%-]*$") then invalid("'%s' is no name of a user", name) end
  return { users = { "default", {
    name = name, shell = opts.shell or "/bin/bash", lock_passwd = true,
    ssh_authorized_keys = opts.keys, groups = opts.groups,
    sudo = opts.sudo and "ALL=(ALL) NOPASSWD:ALL" or nil,
  } } }
end

---A fragment that lets SSH keys log in as the image's default user.
---@param keys string[] public keys, a line each
---@return table fragment
function cloudinit.authorized_keys(keys)
  return { ssh_authorized_keys = json.array(table.move(keys, 1, #keys, 1, {})) }
end

---A fragment that gives the machine its SSH host key, and no other, so that the first connection
---can be pinned to it.
---@param private string|rt.Secret ed25519, OpenSSH format, as `rt.crypto` makes it
---@param public string one line
---@return table fragment
function cloudinit.host_key(private, public)
  return {
    ssh_deletekeys = true,
    ssh_keys = {
      ed25519_private = text_of("the host key", private, true), ed25519_public = public,
    },
  }
end

return cloudinit
