---@meta rt.machine

---Local machines: Linux from a root file system, in namespaces of its own, with systemd as PID 1.
---They live on when kiln ends. `dir` is the site's folder: its images, machines and network.
---Failures: denied (another user's site), unsupported, not_found, exists, invalid, limit, exit, io,
---timeout. A cancelled call is left, not undone.
local machine = {}

---@class rt.machine.Row
---@field name string
---@field address string of the site's own net; the host reaches it, or kiln alone (`reach`)
---@field state "running"|"stopped"|"lost" lost: it ran when the host went down, or was killed
---@field image string
---@field unbounded? string of the host, what it may take all of: "memory, cpu, disk"
---@field token? string
---@field data? string
---@field created integer seconds since 1970

---Tries each thing that machines need of the host.
---@async
---@param options { dir: string }
---@return { name: string, ok: boolean, warning: boolean?, message: string,
---  remedy: string? }[]? rows warning: of what machines work without
---@return table? err
function machine.check(options) end

---Starts the site's network, or leaves the one that runs. One whose router died is made again:
---floating addresses point where they pointed, running machines get new cables.
---@async
---@param options { dir: string }
---@return { machine_net: string, address_net: string }? nets "10.199.77.0/24"
---@return table? err
function machine.network_up(options) end

---Looks at each part of the site's network; no row where it is not up and no machine runs.
---@async
---@param options { dir: string }
---@return { name: string, ok: boolean, message: string, remedy: string? }[]? rows
---@return table? err
function machine.site(options) end

---Makes what is broken of the site's network again: a way out or a cable alone where that is
---enough, else the network, as `network_up` does. Does nothing where `site` has no rows.
---@async
---@param options { dir: string }
---@return { repaired: string }? row "", or what it was: "way out, cables of app-blue-1"
---@return table? err
function machine.repair(options) end

---Ends the site's network; nothing of it stays on the host. Refused (`exists`) while a machine
---runs.
---@async
---@param options { dir: string }
---@return true? done
---@return table? err
function machine.network_down(options) end

---Takes the line by which root's machines have host ids out of /etc/subuid and /etc/subgid. No
---machine of any of root's sites may be there any more. Does nothing for an ordinary user.
---@async
---@param options { dir: string }
---@return true? done
---@return table? err
function machine.release_ids(options) end

---Creates a machine and boots it; returns when its PID 1 runs. One with the same name and token is
---taken as it is.
---@async
---@param options { dir: string, name: string, image: string, user_data: (string|rt.Secret)?,
---  token: string?, group: string?, memory: string?, vcpus: string?, disk: string?, data: string? }
---  name of a-z, 0-9 and -; machines of one group ("project/service") reach each other; memory is
---  in bytes (half of the host's, 4 GiB at most), disk too (10 GiB, half of what is free at most);
---  vcpus: the time of how many processors at most (all); data is kept with it
---@return rt.machine.Row? row
---@return table? err
function machine.create(options) end

---Lets the machines of a group reach one that runs or will; "*/service" is that of every project.
---@async
---@param options { dir: string, name: string, group: string }
---@return true? done
---@return table? err
function machine.admit(options) end

---Lists the site's machines. A creation that is under way is waited for; what one that was cut off
---left is removed.
---@async
---@param options { dir: string }
---@return rt.machine.Row[]? rows
---@return table? err
function machine.list(options) end

---Boots a machine that does not run.
---@async
---@param options { dir: string, name: string }
---@return rt.machine.Row? row
---@return table? err
function machine.start(options) end

---Switches a machine off in good order; what does not end in time is cut off.
---@async
---@param options { dir: string, name: string, within: number? } seconds (30)
---@return true? done
---@return table? err
function machine.power_off(options) end

---Destroys a machine with everything that it had; fine when it is gone.
---@async
---@param options { dir: string, name: string }
---@return true? done
---@return table? err
function machine.destroy(options) end

---Points a floating address to a machine's, or to none, in one transaction.
---@async
---@param options { dir: string, address: string, target: string? }
---@return true? done
---@return table? err
function machine.address_set(options) end

---Lists the floating addresses that point somewhere.
---@async
---@param options { dir: string }
---@return { address: string, target: string }[]? rows
---@return table? err
function machine.addresses(options) end

---Counts established TCP connections that came to a floating address and go to a machine's.
---@async
---@param options { dir: string, address: string, target: string }
---@return integer? count
---@return table? err
function machine.connections(options) end

---Unpacks a root file system's archive (tar, zstd) into an image; leaves one that is there.
---@async
---@param options { dir: string, tar: string, image: string, token: string?, data: string? }
---@return table? row
---@return table? err
function machine.unpack(options) end

---Makes connections of this process to a site's addresses arrive, where only the site's own network
---namespace reaches them (a site of an ordinary user). Every other function here does so for its
---`dir`; this one is for who learned the addresses elsewhere, as from a journal.
---@param dir string
function machine.reach(dir) end

return machine
