---The least of several measurements: what else the machine does makes one longer, never shorter.

---Measures until one is below the bound, five times at most.
---@async
---@param bound number
---@param measure fun(): number
---@return number least
return function(bound, measure)
  local least = math.huge
  for _ = 1, 5 do
    least = math.min(least, measure())
    if least < bound then break end
  end
  return least
end
