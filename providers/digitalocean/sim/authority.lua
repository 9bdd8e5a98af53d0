---The certificate that signs the simulated databases' own: nothing answers behind it, but a client
---that reads it finds a real one (EC, valid until 2126, its key was never kept).
local authority = {}

---PEM (RFC 7468).
authority.certificate = [[
-----BEGIN CERTIFICATE-----
MIIBlTCCATugAwIBAgIUEwVt2wFqQPq7RI/re0JHfcXH1F8wCgYIKoZIzj0EAwIw
HzEdMBsGA1UEAwwUU2ltdWxhdGVkIFByb2plY3QgQ0EwIBcNMjYxMTIzMTkyNTA1
WhgPMjEyNjEwMzAxOTI1MDVaMB8xHTAbBgNVBAMMFFNpbXVsYXRlZCBQcm9qZWN0
IENBMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEIx7UsfDMSlCSCdliCleZ1YIo
mVjvCqr2xiC7SPCOfM4Tdeot3EzaauUVU+9rZLEJsFtHvvFGNpd565ZzRrHvKqNT
MFEwHQYDVR0OBBYEFAQwt89dr9YdvPp/6turUzmkV9OTMB8GA1UdIwQYMBaAFAQw
t89dr9YdvPp/6turUzmkV9OTMA8GA1UdEwEB/wQFMAMBAf8wCgYIKoZIzj0EAwID
SAAwRQIhAP257xDgHaFByPHJhApNOns+70Acpf4uCZ5v4ukj8EG7AiA/+x8gjpz9
zVBFOk3WsryPscFFKjmiJXd3C3x4CAFKSg==
-----END CERTIFICATE-----
]]

return authority
