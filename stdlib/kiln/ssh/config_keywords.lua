---The keywords of ssh_config(5) and what their arguments may be. A keyword that is not here is one
---that `ssh` refuses the whole file for.
local config_keywords = {}

---What a keyword's arguments are: "flag" (yes or no), "number", "word" (exactly one), "words" (one
---or more), "line" (the rest of the line), "none" (obsolete: anything).
---@alias kiln.ssh.Arguments "flag"|"number"|"word"|"words"|"line"|"none"

local by_kind = {
  flag = [[batchmode canonicalizefallbacklocal checkhostip clearallforwardings
    enablesshkeysign exitonforwardfailure forkafterauthentication forwardx11 forwardx11trusted
    gatewayports gssapiauthentication gssapidelegatecredentials gssapikeyexchange
    gssapirenewalforcesrekey gssapitrustdns hashknownhosts hostbasedauthentication identitiesonly
    kbdinteractiveauthentication nohostauthenticationforlocalhost passwordauthentication
    permitlocalcommand proxyusefdpass stdinnull streamlocalbindunlink tcpkeepalive visualhostkey
    enableescapecommandline challengeresponseauthentication dsaauthentication
    skeyauthentication tisauthentication]],
  number = [[canonicalizemaxdots connectionattempts numberofpasswordprompts requiredrsasize
    serveralivecountmax port]],
  word = [[addkeystoagent addressfamily bindaddress bindinterface canonicalizehostname
    casignaturealgorithms certificatefile ciphers compression connecttimeout controlmaster
    controlpath controlpersist dynamicforward escapechar fingerprinthash forwardagent
    forwardx11timeout gssapiclientidentity gssapikexalgorithms gssapiserveridentity
    hostbasedacceptedalgorithms hostbasedkeytypes hostkeyalgorithms hostkeyalias hostname
    identityagent identityfile identityfile2 ignoreunknown kbdinteractivedevices kexalgorithms
    loglevel macs obscurekeystroketiming pkcs11provider preferredauthentications
    pubkeyacceptedalgorithms pubkeyacceptedkeytypes pubkeyauthentication refuseconnection requesttty
    revokedhostkeys securitykeyprovider serveraliveinterval sessiontype setuptimeout
    smartcarddevice stricthostkeychecking syslogfacility tag tunnel tunneldevice updatehostkeys user
    verifyhostkeydns versionaddendum warnweakcrypto xauthlocation]],
  words = [[canonicaldomains canonicalizepermittedcnames channeltimeout globalknownhostsfile host
    include ipqos localforward logverbose permitremoteopen rekeylimit remoteforward sendenv
    setenv streamlocalbindmask userknownhostsfile]],
  line = "knownhostscommand localcommand match proxycommand proxyjump remotecommand",
  none = [[afstokenpassing cipher compressionlevel fallbacktorsh globalknownhostsfile2
    kerberosauthentication kerberostgtpassing protocol protocolkeepalives rhostsauthentication
    rhostsrsaauthentication rsaauthentication useblacklistedkeys useprivilegedport useroaming usersh
    userknownhostsfile2]],
}

---@type table<string, kiln.ssh.Arguments>
config_keywords.arguments = {}
for kind, names in pairs(by_kind) do
  for name in names:gmatch("%S+") do config_keywords.arguments[name] = kind end
end

---The values of keywords that have few.
---@type table<string, string>
config_keywords.choices = {
  addressfamily = "any inet inet6", canonicalizehostname = "yes no true false always",
  stricthostkeychecking = "yes no true false ask off accept-new",
  verifyhostkeydns = "yes no true false ask", requesttty = "yes no true false force auto",
  controlmaster = "yes no true false auto ask autoask",
  tunnel = "yes no true false ethernet point-to-point", compression = "yes no true false",
  sessiontype = "none subsystem default", fingerprinthash = "md5 sha256",
  pubkeyauthentication = "yes no true false unbound host-bound",
  loglevel = "quiet fatal error info verbose debug debug1 debug2 debug3",
  updatehostkeys = "yes no true false ask",
}

---Names that mean the same.
config_keywords.aliases = {
  identityfile2 = "identityfile", dsaauthentication = "pubkeyauthentication",
  pubkeyacceptedkeytypes = "pubkeyacceptedalgorithms",
}

---Keywords that change what `ssh` does and that kiln does not honour, with the values that change
---nothing (patterns of the whole argument in lower case). Left out without a word is what concerns
---other ways to log in, terminals, shared connections, times and sizes, for kiln has its own.
---@type table<string, string[]>
config_keywords.left_out = {
  addressfamily = { "any" }, bindaddress = {}, bindinterface = {}, ciphers = {}, macs = {},
  kexalgorithms = {}, hostkeyalgorithms = {}, casignaturealgorithms = {},
  pubkeyacceptedalgorithms = {}, pubkeyauthentication = { "yes", "true", "unbound", "host%-bound" },
  preferredauthentications = { ".*publickey.*" }, checkhostip = { "no", "false" },
  stricthostkeychecking = { "yes", "true", "ask" }, verifyhostkeydns = { "no", "false" },
  knownhostscommand = { "none" }, nohostauthenticationforlocalhost = { "no", "false" },
  pkcs11provider = { "none" }, securitykeyprovider = { "internal", "none" },
  smartcarddevice = { "none" }, requiredrsasize = {}, forwardagent = { "no", "false" },
  forwardx11 = { "no", "false" }, localforward = {}, remoteforward = {}, dynamicforward = {},
  tunnel = { "no", "false" }, remotecommand = { "none" }, localcommand = {}, setenv = {},
  sendenv = { "lang lc_%*", "lc_%* lang", "lang", "lc_%*" }, proxyusefdpass = { "no", "false" },
  refuseconnection = {}, versionaddendum = { "none" },
}

return config_keywords
