---kiln.http's bodies: forms, functions that give and take pieces, downloads.
local crypto = require "rt.crypto"
local fs = require "rt.fs"
local http = require "kiln.http"
local httpd = require "kiln.httpd"
local rt_http = require "rt.http"
local proc = require "rt.proc"

local block = ("0123456789abcdef"):rep(4096) -- 64 KiB

local function raised(...)
  local ok, err = pcall(...)
  assert.is_false(ok)
  return err
end

---A server that ends with its block, and the kept connections to it with it.
local function serve(handler)
  local server = httpd.serve { handler = handler, log = function() end }
  return setmetatable({ url = server.url .. "/" }, {
    __close = function()
      server:close()
      rt_http.forget()
    end,
  })
end

describe("kiln.http's bodies", function()
  local dir

  before_each(function() dir = assert(fs.temp_dir()) end)
  after_each(function() assert(fs.remove(dir, { recursive = true })) end)

  it("encode fields and queries, with repeated names", function()
    local on <close> = serve(function(request)
      local kind = request.headers["content-type"]
      return { body = kind .. "|" .. request.body .. "|" .. request.target }
    end)
    local answer = http.post(on.url .. "x#part", {
      fields = { b = { 1, "2&" }, a = "ä b" }, query = { q = { "x", "y" } },
    })
    assert.equal("application/x-www-form-urlencoded|a=%C3%A4%20b&b=1&b=2%26|/x?q=x&q=y",
      answer.body)
    assert.has_error(function() http.post(on.url, { fields = {}, json = {} }) end)
  end)

  it("are multipart forms that a foreign reader takes apart", function()
    local on <close> = serve(function(request)
      assert(fs.write(dir .. "/body", request.body))
      return { body = request.headers["content-type"] }
    end)
    assert(fs.write(dir .. "/data.bin", block .. "\r\n--not the boundary\r\n"))
    local answer = http.post(on.url, { form = {
      { name = "a", value = "1\r\n2" }, { name = 'quo"te', value = 3 },
      { name = "hidden", value = crypto.secret "s3cr3t" },
      { name = "file", file = dir .. "/data.bin", type = "application/x-data" },
    } })
    local done = proc.run { argv = { "python3", "-c", [[
import email, email.policy, hashlib, sys
head = b"Content-Type: " + sys.argv[1].encode() + b"\r\n\r\n"
parts = email.message_from_bytes(head + open(sys.argv[2], "rb").read(), policy=email.policy.HTTP)
for part in parts.iter_parts():
    payload = part.get_payload(decode=True)
    print(part.get_param("name", header="content-disposition"), part.get_filename(),
          part.get_content_type(), hashlib.sha256(payload).hexdigest())
]], answer.body, dir .. "/body" } }
    if not done then
      pending "python3 is not installed: no foreign reader of forms"
      return
    end
    assert.equal(table.concat({
      "a None text/plain " .. crypto.sha256("1\r\n2"),
      "quo%22te None text/plain " .. crypto.sha256("3"),
      "hidden None text/plain " .. crypto.sha256("s3cr3t"),
      "file data.bin application/x-data " .. crypto.sha256(block .. "\r\n--not the boundary\r\n"),
      "",
    }, "\n"), done.out .. done.err)
    assert.has_error(function() http.post(on.url, { form = { { name = "a" } } }) end)
    assert.has_error(function() http.post(on.url, { form = { { name = "a", valeu = 1 } } }) end)
  end)

  it("come from a file, and from a function that may wait", function()
    local on <close> = serve(function(request)
      return { body = tostring(#request.body) .. (request.headers["content-length"] or "chunked") }
    end)
    assert(fs.write(dir .. "/data", block:rep(3)))
    assert.equal("196608196608", http.put(on.url, { body_file = dir .. "/data" }).body)
    local left = 40
    local function produce()
      left = left - 1
      return left >= 0 and block or nil
    end
    assert.equal("2621440chunked", http.put(on.url, { body = produce }).body)
    left = 2
    assert.equal("131072131072", http.put(on.url, { body = produce, length = 131072 }).body)
    local err = raised(http.put, on.url, { body = function() error "no more" end })
    assert.matches("no more", err.message)
    assert.equal("not_found", raised(http.put, on.url, { body_file = dir .. "/gone" }).kind)
  end)

  it("from a function are never sent twice", function()
    local calls, asked = 0, 0
    local on <close> = serve(function()
      asked = asked + 1
      return { status = 503 }
    end)
    local err = raised(http.put, on.url, { backoff = 0.01, body = function()
      calls = calls + 1
      return calls == 1 and "x" or nil
    end })
    assert.same({ 503, 1, 1, 2 }, { err.status, err.attempts, asked, calls })
  end)

  it("go to a function, piece by piece, and only those that were asked for", function()
    local on <close> = serve(function(request)
      if request.path == "/no" then return { status = 404, body = "why" } end
      return { body = function(write) for _ = 1, 30 do write(block) end end }
    end)
    local length, pieces, status = 0, 0, nil
    local function into(bytes, head)
      length, pieces, status = length + #bytes, pieces + 1, head.status
    end
    local answer = http.get(on.url, { into = into })
    assert.same({ 200, "", 30 * #block, 200 }, { answer.status, answer.body, length, status })
    assert.is_true(pieces > 1)
    pieces = 0
    local err = raised(http.get, on.url .. "no", { into = into })
    assert.same({ "not_found", "why", 0 }, { err.kind, err.body, pieces })
    err = raised(http.get, on.url, { into = function() error "full" end })
    assert.matches("full", tostring(err))
  end)
end)

describe("kiln.http.download", function()
  local dir, path

  before_each(function()
    dir = assert(fs.temp_dir())
    path = dir .. "/file"
  end)
  after_each(function() assert(fs.remove(dir, { recursive = true })) end)

  it("puts the whole file in place, with its mode, or leaves the old one", function()
    local on <close> = serve(function(request)
      if request.path == "/short" then
        return { body = function(write)
          write "half"
          error "broken"
        end }
      end
      return request.path == "/" and { body = block:rep(10) } or { status = 404 }
    end)
    assert(fs.write(path, "old"))
    assert.equal("not_found", raised(http.download, on.url .. "gone", path).kind)
    local err = raised(http.download, on.url .. "short", path, { attempts = 2, backoff = 0.01 })
    assert.equal("maybe", err.effect)
    err = raised(http.download, on.url, path, { sha256 = crypto.sha256 "other" })
    assert.equal("invalid", err.kind)
    assert.same({ "file" }, fs.list(dir))
    assert.equal("old", fs.read(path))
    local done = http.download(on.url, path,
      { sha256 = crypto.sha256(block:rep(10)), mode = "0600" })
    assert.same({ 10 * #block, 1 }, { done.bytes, done.attempts })
    assert.same({ 10 * #block, "0600" }, { fs.stat(path).size, fs.stat(path).mode })
    assert.same({ "file" }, fs.list(dir))
    err = raised(http.download, on.url, dir .. "/none/file")
    assert.equal("not_found", err.kind)
  end)

  it("goes on where it broke off, unless the file is another one now", function()
    local whole, tag, ranges = block:rep(8) .. "end", '"v1"', {}
    local changes = false
    local on <close> = serve(function(request)
      local from = tonumber((request.headers.range or ""):match("^bytes=(%d+)%-$"))
      ranges[#ranges + 1] = from or "all"
      if from and request.headers["if-range"] == tag then
        return { status = 206, body = whole:sub(from + 1), headers = { ETag = tag,
          ["Content-Range"] = ("bytes %d-%d/%d"):format(from, #whole - 1, #whole) } }
      end
      if #ranges > 1 then return { body = whole, headers = { ETag = tag } } end
      return { headers = { ETag = tag }, body = function(write)
        write(whole:sub(1, 3 * #block))
        if changes then tag, whole = '"v2"', whole:upper() end
        error "broken"
      end }
    end)
    local done = http.download(on.url, path, { backoff = 0.01 })
    assert.same({ #whole, 2, "all", 3 * #block },
      { done.bytes, done.attempts, ranges[1], ranges[2] })
    assert.is_true(fs.read(path) == whole)
    ranges, changes = {}, true
    http.download(on.url, path, { backoff = 0.01, sha256 = crypto.sha256(whole:upper()) })
    assert.is_true(fs.read(path) == whole)
    assert.equal("ABCDEF", whole:sub(11, 16))
  end)

  it("fetches from a server that is not ours", function()
    assert(fs.mkdir(dir .. "/site"))
    assert(fs.write(dir .. "/site/data", block:rep(50)))
    local child = proc.start {
      argv = { "python3", "-u", "-m", "http.server", "--bind", "127.0.0.1", "0" },
      cwd = dir .. "/site",
    }
    local line = child and child:read_line()
    if not line then
      pending "python3 is not installed: no foreign server"
      return
    end
    local stop <close> = setmetatable({}, { __close = function()
      child:kill("KILL")
      child:wait()
    end })
    local url = ("http://127.0.0.1:%s/data"):format(line:match("port (%d+)"))
    assert.equal(50 * #block, http.download(url, path).bytes)
    assert.is_true(fs.read(path) == block:rep(50))
    assert.equal("not_found", raised(http.download, url .. ".gone", path).kind)
    rt_http.forget()
    return stop
  end)
end)
