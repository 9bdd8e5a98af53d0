---@meta rt.httpd

---An HTTP/1.1 server: tasks accept requests and answer them, in any order.
local httpd = {}

---@class rt.httpd.Server
local Server = {}

---A whole request. Declared `<close>` it is answered with a 500 when the block ends without an
---answer; so is one that is collected.
---@class rt.httpd.Request
---@field method string
---@field path string percent-decoded, without the query
---@field query table<string, string> percent-decoded; the first of a repeated name
---@field headers table<string, string> lower-case names; repeated ones are joined by ", "
---@field body string
local Request = {}

---@class rt.httpd.ListenOptions
---@field host? string a numeric address ("127.0.0.1")
---@field port? integer 0 takes a free one (0)
---@field unix_socket? string path to listen on instead, mode 0600; removed at the end
---@field max_headers? integer bytes; a longer request gets a 431 or 413 (32768)
---@field max_body? integer bytes; a longer request gets a 413 (16 MiB)
---@field connections? integer at the same time; more wait (256)
---@field idle_timeout? integer seconds a peer may make no progress before its connection ends (30)

---Listens. Errors: `exists`, `denied`, `invalid`, `limit`.
---@param opts? rt.httpd.ListenOptions
---@return rt.httpd.Server? server
---@return table? err
function httpd.listen(opts) end

---Waits for the next request.
---@async
---@return rt.httpd.Request? request
---@return table? err kind stopped, once the server has closed
function Server:accept() end

---Gives the port it listens on.
---@return integer port 0 for a unix socket
function Server:port() end

---Ends the server and every connection. May run twice.
function Server:close() end

---Answers, once.
---@param response? { status: integer?, headers: table<string, string>?, body: string|userdata? }
---  200, none, empty
---@return boolean possible false when the peer or the server is gone
function Request:respond(response) end

---Ends the connection without an answer.
function Request:hang_up() end

---Drops the request; the peer gets a 500 if it has no answer. May run twice.
function Request:close() end

return httpd
