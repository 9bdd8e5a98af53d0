---Creating a thing once: a POST whose answer is lost is not repeated before what it may have made
---was looked for, for as long as DigitalOcean may take to show it.
local error_ = require "kiln.error"
local ticker = require "kiln.ticker"

local look_for = 12 -- seconds; new things are in their list within a few
local rounds = 2

local function found_after(spec)
  local deadline = ticker.now() + (spec.look_for or look_for)
  local pause = 0.5
  while true do
    local row = spec.find()
    if row ~= nil then return row end
    if ticker.now() + pause > deadline then return nil end
    ticker.pause(pause)
    pause = math.min(pause * 2, 4)
  end
end

---Sends a POST that makes something; waits while another event is going on with what it is about.
---Raises what `Api:call` raises.
---@async
---@param client kiln.digitalocean.Api
---@param spec { path: string, body: table, read: (fun(answer: table): any),
---  find: (fun(): any), within: number?, look_for: number? } `read` gets the answer; `find` looks
---  for what a lost answer was about, nil when it is not there
---@return any row what `read` or `find` gave
local function create(client, spec)
  for round = 1, rounds do
    local ok, result = xpcall(client.serial, error_.from, client, "POST", spec.path, spec.body,
      { within = spec.within })
    if ok then
      ok, result = xpcall(spec.read, error_.from, result)
      if ok then return result end
      result.effect = "maybe" -- it was sent, and accepted
    end
    if result.effect ~= "maybe" then error(result, 0) end
    local row = found_after(spec)
    if row ~= nil then return row end
    if round == rounds then error(result, 0) end
  end
end

return create
