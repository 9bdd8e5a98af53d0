---Takes a service away: its machines, its address or load balancer, its releases; its images when
---told to.
local service = require "kiln.service"

---Removes everything that kiln made for a service. What is gone already is fine.
---@async
---@param run kiln.Run
---@param spec { service: string, address: string?, balancer: string?, images: boolean? } images
---  too (false)
---@return table result
local function remove(run, spec)
  local now = service.current(run, spec.service)
  for _, record in ipairs { now.serving or false, now.kept or false } do
    if record then
      run:step {
        name = "retire " .. record.version,
        perform = function()
          for _, row in ipairs(record.machines) do run.cloud:existing(row):destroy() end
          service.retired(run, record)
          return nil, record.machines[1].name .. " destroyed"
        end,
      }
    end
  end
  if spec.address then
    run:step {
      name = "address " .. spec.address,
      perform = function()
        return nil, run.cloud:release_address(spec.address) and "released" or "was not there"
      end,
    }
  end
  if spec.balancer and run.cloud:can "load_balancers" then
    run:step {
      name = "balancer " .. spec.balancer,
      perform = function()
        return nil, run.cloud:release_balancer(spec.balancer) and "deleted" or "was not there"
      end,
    }
  end
  if spec.images then
    run:step {
      name = "images of " .. spec.service,
      perform = function()
        local count = run.cloud:destroy_images(spec.service)
        return nil, count .. " deleted"
      end,
    }
  end
  return { summary = spec.service .. " is gone" }
end

return remove
