---Modules as recipes see them: what reaches the world is an operation, so a resumed run gets the
---answers that the first one got, and sends nothing twice.
local error_ = require "kiln.error"
local op = require "kiln.op"
local policy = require "kiln.http.policy"
local scope = require "kiln.scope"

local journaled = {}

local classes = {
  GET = "read", HEAD = "read", OPTIONS = "read", PUT = "idempotent", DELETE = "idempotent",
}

---Refuses what a journal cannot keep.
local function check(value, name)
  local kind = type(value)
  if kind == "function" then
    error_.raise { kind = "usage",
      message = ("kiln.http: '%s' is a function: a journal cannot keep it; wrap the request in an "
        .. "operation of its own (kiln.op)"):format(name) }
  end
  if kind ~= "table" then return end
  for key, item in pairs(value) do check(item, name .. "." .. tostring(key)) end
end

local function request(http, opts)
  local method = (opts.method or "GET"):upper()
  local class = classes[method] or "adopt"
  check(opts, "request")
  local where = policy.place(opts.url)
  local row = op.call {
    name = method .. " " .. where, class = class, args = opts, stands = class ~= "read",
    perform = function()
      local answer = http.request(opts)
      return {
        status = answer.status, headers = answer.headers, body = answer.body,
        seconds = answer.seconds, attempts = answer.attempts, url = answer.url,
      }
    end,
    settle = class == "adopt" and function()
      error_.raise { kind = "in_doubt", message = ("%s %s was cut off, and kiln cannot know "
        .. "whether it took effect: look there, then abort this run and start anew")
        :format(method, where) }
    end or nil,
  }
  return http.response(row)
end

local function download(http, url, path, opts)
  check(opts or {}, "download")
  local run = scope.state().run
  local where = policy.place(url)
  return op.call {
    name = ("download %s to %s"):format(where, path), class = "idempotent",
    args = { url = url, path = path, options = opts },
    perform = function() return http.download(url, run and run:path(path) or path, opts) end,
  }
end

local function face_of_http()
  local http = require "kiln.http"
  local face = setmetatable({}, { __index = http })
  ---Sends a request as an operation; otherwise as `kiln.http.request`.
  function face.request(opts) return request(http, opts) end

  ---Gets a file as an operation; `path` starts in the recipe's folder.
  function face.download(url, path, opts) return download(http, url, path, opts) end
  for _, method in ipairs { "GET", "POST", "PUT", "DELETE" } do
    face[method:lower()] = function(url, opts)
      local all = { method = method, url = url }
      for name, value in pairs(opts or {}) do all[name] = value end
      return request(http, all)
    end
  end
  return face
end

local function face_of_probe()
  local probe = require "kiln.probe"
  local face = setmetatable({}, { __index = probe })
  for _, kind in ipairs { "http", "tcp" } do
    face[kind] = function(opts)
      return op.call {
        name = ("probe %s %s"):format(kind, opts.url and policy.place(opts.url)
          or ("%s:%s"):format(opts.host, opts.port or "")),
        class = "read", quiet = true,
        args = { url = opts.url, host = opts.host, port = opts.port, path = opts.path },
        perform = function() return probe[kind](opts) end,
      }
    end
  end
  return face
end

---What recipes may do with secrets: take and join them, never see them.
local function face_of_secret()
  local secret = require "kiln.secret"
  return {
    from_env = secret.from_env, from_file = secret.from_file, from_command = secret.from_command,
    join = secret.join, is = secret.is, redact = secret.redact,
  }
end

---A module whose functions start something at once: not while a recipe loads.
local function face_when_loaded(name)
  return function()
    local module = require(name)
    local face = setmetatable({}, { __index = module })
    for key, item in pairs(module) do
      if type(item) == "function" then
        face[key] = function(...)
          scope.check_loaded(name .. "." .. key)
          return item(...)
        end
      end
    end
    return face
  end
end

local faces = {
  ["kiln.http"] = face_of_http, ["kiln.probe"] = face_of_probe,
  ["kiln.secret"] = face_of_secret,
  ["kiln.ssh"] = function() return require "kiln.ssh_host" end,
  ["kiln.httpd"] = face_when_loaded "kiln.httpd", ["kiln.load"] = face_when_loaded "kiln.load",
}

---Gives the journaled face of a module, nil where the module itself will do.
---@param name string "kiln.http"
---@return table?
function journaled.face(name)
  return faces[name] and faces[name]()
end

return journaled
