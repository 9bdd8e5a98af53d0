---The command line: picks the command and returns its exit status.
local host = require "rt.host"

---Runs a Lua file as a plain interpreter with kiln's modules.
---@param argv string[] `[1]` the file, then its arguments
---@return integer status
local function run_lua(argv)
  if not argv[1] then
    io.stderr:write("kiln lua: which file? usage: kiln lua FILE [ARG…]\n")
    return 64
  end
  local script = { [0] = argv[1] }
  for i = 2, #argv do script[i - 1] = argv[i] end
  _G.arg = script
  local chunk, err = loadfile(argv[1], "t")
  if not chunk then
    io.stderr:write("kiln lua: ", err, "\n")
    return 1
  end
  local status = chunk(table.unpack(script))
  return math.tointeger(status) or 0
end

return function(argv)
  local command = argv[1]
  if command == "lua" then return run_lua(table.move(argv, 2, #argv, 1, {})) end
  if command == "version" or command == "--version" then
    io.stdout:write("kiln ", host.version, "\n")
    return 0
  end
  io.stderr:write("kiln: no command; try kiln version\n")
  return 64
end
