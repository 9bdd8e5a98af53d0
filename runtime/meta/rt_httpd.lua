---@meta rt.httpd

---An HTTP/1.1 server: tasks accept requests and answer them, in any order.
local httpd = {}

---@class rt.httpd.Server
local Server = {}

---A whole request. Declared `<close>` it is answered with a 500 when the block ends without an
---answer; so is one that is collected.
---@class rt.httpd.Request
---@field method string
---@field target string as it was sent: path and query, not decoded
---@field path string percent-decoded, without the query
---@field peer string "127.0.0.1:43210"; empty for a unix socket
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
---@field max_buffered? integer bytes of all bodies in memory; more get a 503 (256 MiB)
---@field connections? integer at the same time; more wait (256)
---@field idle_timeout? integer seconds a peer may make no progress before its connection ends (30)
---@field request_timeout? integer seconds from a connection's start, or the answer before, to a
---  whole request; a second more for every 16 KiB of a body (60)
---@field answer_timeout? integer seconds to take an answer, or what was written to a stream; a
---  second more for every 16 KiB (60)
---@field cert? string PEM, with its chain: TLS from 1.2 on
---@field key? string|userdata PEM

---Listens. Errors: `exists`, `denied`, `invalid`, `limit`, `tls`.
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
---@param response? { status: integer?, headers: table?, body: string|userdata?, file: string? }
---  200, none, empty; or a file's bytes
---@return boolean? possible false when the peer or the server is gone
---@return table? err of the file: not_found, denied, invalid
function Request:respond(response) end

---Answers with a stream: `write` and then `finish`. Closed without `finish` the stream is cut off
---so that the peer notices.
---@param response? { status: integer?, headers: table<string, string>? }
---@return boolean possible false when the peer or the server is gone
function Request:start(response) end

---Sends more of the stream; waits until there is room for the next piece.
---@async
---@param bytes string|userdata
---@return true? done
---@return table? err unreachable: the peer or the server is gone; stopped: the request was closed
function Request:write(bytes) end

---Ends the stream.
function Request:finish() end

---Tells whether somebody waits for the answer, as far as is known: that a peer has gone shows when
---something is written.
---@return boolean
function Request:is_open() end

---Ends the connection without an answer.
function Request:hang_up() end

---Drops the request; the peer gets a 500 if it has no answer. May run twice.
function Request:close() end

return httpd
