---Where DigitalOcean's token and address come from: as doctl and Terraform look for them.
local secret = require "kiln.secret"
local error_ = require "kiln.error"
local yaml = require "kiln.yaml"

local credentials = {}

local variables = { "DIGITALOCEAN_TOKEN", "DIGITALOCEAN_ACCESS_TOKEN" }

local function environment(name)
  local value = os.getenv(name)
  return value ~= "" and value or nil
end

---doctl's configuration: https://docs.digitalocean.com/reference/doctl/how-to/install/
local function doctl_file()
  local config = environment "XDG_CONFIG_HOME" or (environment "HOME" or "") .. "/.config"
  return config .. "/doctl/config.yaml"
end

local function doctl_token(path)
  local file <close> = io.open(path)
  if not file then return nil end
  local config = yaml.decode(file:read "a")
  if type(config) ~= "table" then return nil end
  local context = config.context
  local token = config["access-token"]
  if context and context ~= "default" and type(config["auth-contexts"]) == "table" then
    token = config["auth-contexts"][context]
  end
  return type(token) == "string" and token ~= "" and token or nil
end

---Finds the token. Raises `auth` and says where it looked.
---@return userdata token a secret
---@return string source
function credentials.token()
  for _, name in ipairs(variables) do
    if environment(name) then return secret.from_env(name), "the environment's " .. name end
  end
  local path = doctl_file()
  local token = doctl_token(path)
  if token then return secret.remember(token), path end
  error_.raise { kind = "auth", cloud = "digitalocean",
    message = ("no DigitalOcean token: looked at %s in the environment and at %s; make one at "
      .. "https://cloud.digitalocean.com/account/api/tokens")
      :format(table.concat(variables, " and "), path) }
end

---Tells the API's address.
---@return string url without a slash or /v2 at its end
function credentials.url()
  local url = environment "DIGITALOCEAN_API_URL" or "https://api.digitalocean.com"
  return (url:gsub("/+$", ""):gsub("/v2$", ""))
end

return credentials
