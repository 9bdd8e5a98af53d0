---@meta rt.http

---HTTP requests. TLS is always verified; there are no cookies; redirects are not followed; a proxy
---is taken from the environment (`http_proxy`, `https_proxy`, `no_proxy`), never for this machine's
---own addresses.
local http = {}

---@class rt.http.Request
---@field url string http or https
---@field method? string upper case ("GET")
---@field idempotent? boolean doing it twice is like doing it once (GET, HEAD, PUT, DELETE, OPTIONS)
---@field headers? table<string, string|userdata> text or secrets
---@field body? string|userdata|(string|userdata|{ file: string })[] text, a secret, or parts sent
---  in a row; a file is read while it is sent
---@field connect_timeout? number seconds to the end of the TLS handshake (10)
---@field timeout? number seconds for everything, waiting for a connection too (60; exchange: a day)
---@field stall_timeout? number seconds in which no byte moves; 0: as long as `timeout` (0;
---  exchange: 60)
---@field unix_socket? string path of a socket to connect to instead of the URL's host
---@field ca_file? string PEM file of the authorities to trust (the system's)
---@field ca? string the same as text
---@field cert_file? string PEM file of the client's certificate
---@field cert? string the same as text
---@field key_file? string PEM file of its key
---@field key? string|userdata the same as text or a secret
---@field key_password? string|userdata of the key
---@field proxy? string|userdata URL, with user and password where needed, instead of the
---  environment's
---@field no_proxy? string hosts that `proxy` is not asked for: "a.example,10.0.0.0/8"
---@field direct? boolean no proxy (false)
---@field max_body? integer bytes of the response, unpacked (64 MiB; exchange: 1 PiB)
---@field compressed? boolean asks for gzip and unpacks it; with an Accept-Encoding header of your
---  own the body comes as it is (false)
---@field http2? boolean HTTP/2 where an https server speaks it (false)
---@field fresh_connection? boolean a connection of its own, closed afterwards (false)

---@class rt.http.StreamRequest: rt.http.Request
---@field streams? boolean the body comes by `write` and `finish` (false)
---@field length? integer bytes of that body (in chunks, as it is not known)

---@class rt.http.Head
---@field status integer
---@field headers table<string, string> lower-case names; repeated ones are joined by ", "
---@field resent integer how often it was sent again because a kept connection had ended

---@class rt.http.Response: rt.http.Head
---@field body string
---@field seconds number
---@field http number version: 1.0, 1.1, 2.0

---@class rt.http.Url
---@field url string
---@field scheme string
---@field host string
---@field port string the scheme's own where the URL names none
---@field path string
---@field query? string
---@field fragment? string
---@field user? string
---@field password? string

---A request whose bodies move in pieces; what has moved up to 256 KiB ahead waits for the other
---side. Closed before its end it is aborted.
---@class rt.http.Exchange
local Exchange = {}

---Sends a request and waits for the whole response. A cancel aborts it at once.
---Errors: `unreachable`, `timeout`, `tls`, `protocol`, `limit`, `invalid`, `unsupported`, and a
---file's, with `effect`: "none" when not a byte of the request was sent, else "maybe". A request is
---never sent twice, except an idempotent one on a kept connection that turns out to be dead.
---@async
---@param request rt.http.Request
---@return rt.http.Response? response
---@return table? err { kind, message, effect, code? }
function http.request(request) end

---Starts a request whose bodies are streams.
---@param request rt.http.StreamRequest
---@return rt.http.Exchange? exchange
---@return table? err
function http.open(request) end

---Closes the kept connections: now, or when the requests that run have ended.
function http.forget() end

---Sets how many connections there may be at the same time (256), and to one host (64); more
---requests wait for their turn.
---@param connections integer
---@param per_host integer
function http.bound(connections, per_host) end

---Reads a URL, and resolves another one against it (RFC 3986, section 5).
---@param text string
---@param relative? string
---@return rt.http.Url? parts
---@return table? err kind invalid
function http.url(text, relative) end

---Reads a date as HTTP writes it (RFC 9110, section 5.6.7).
---@param text string
---@return integer? seconds since 1970
---@return table? err kind invalid
function http.date(text) end

---Waits for the status and the headers.
---@async
---@return rt.http.Head? head
---@return table? err as of `http.request`
function Exchange:head() end

---Waits for more of the response's body.
---@async
---@return string? bytes nil at the end
---@return table? err
function Exchange:read() end

---Sends more of the request's body; waits until there is room for the next piece.
---@async
---@param bytes string|userdata
---@return boolean? more false when the response came before the body's end: nothing more is taken
---@return table? err
function Exchange:write(bytes) end

---Ends the request's body.
function Exchange:finish() end

---Aborts what still runs. May run twice.
function Exchange:close() end

return http
