---@meta rt.http

---HTTP/1.1 requests. TLS is always verified; there are no cookies; a proxy is taken from the
---environment (`http_proxy`, `https_proxy`, `no_proxy`), never for this machine's own addresses.
local http = {}

---@class rt.http.Request
---@field url string http or https
---@field method? string upper case ("GET")
---@field headers? table<string, string|userdata> text or secrets
---@field body? string|userdata text or a secret
---@field connect_timeout? number seconds to the end of the TLS handshake (10)
---@field timeout? number seconds for everything (60)
---@field unix_socket? string path of a socket to connect to instead of the URL's host
---@field ca_file? string PEM file of the authorities to trust (the system's)
---@field max_body? integer bytes of the response (64 MiB)
---@field redirects? integer how many to follow, GET and HEAD without secret headers only (0)
---@field fresh_connection? boolean a connection of its own, closed afterwards (false)
---@field direct? boolean no proxy (false)

---@class rt.http.Response
---@field status integer
---@field headers table<string, string> lower-case names; repeated ones are joined by ", "
---@field body string
---@field seconds number
---@field resent integer how often it was sent again because a kept connection had ended

---Sends a request and waits for the whole response. A cancel aborts it at once.
---Errors: `unreachable`, `timeout`, `tls`, `protocol`, `limit`, `invalid`, `unsupported`, with
---`effect`: "none" when not a byte of the request was sent, else "maybe". A request is never sent
---twice, except GET, HEAD, PUT, DELETE and OPTIONS on a kept connection that turns out to be dead.
---@async
---@param request rt.http.Request
---@return rt.http.Response? response
---@return table? err { kind, message, effect, code? }
function http.request(request) end

---Closes the kept connections: now, or when the requests that run have ended.
function http.forget() end

return http
