---A recipe that does nothing but say so.
local hello = { name = "hello" }

---Says hello.
function hello.deploy(run)
  run:note "hello"
end

return hello
