---What is changed in a fresh Debian root so that machines of it boot fast and take their address
---from outside and their user-data from NoCloud's seed folder. Whatever a cloud's server has at
---work (cloud-init, sshd, systemd, journald) is Debian's own and stays.
local sh = require "kiln.sh"

local base_root = {}

---cloud-init's settings (https://cloudinit.readthedocs.io/en/latest/reference/): one data source,
---in its seed folder, so no other is searched for, and no disk with a label; root may log in; no
---user and no key that nobody asked for; no partition to grow.
local cloud_config = [[
datasource_list: [ NoCloud ]
datasource: {NoCloud: {fs_label: null}}
network: {config: disabled}
disable_root: false
users: []
locale: false
growpart: {mode: "off"}
ssh_deletekeys: true
ssh_genkeytypes: [ed25519]
no_ssh_fingerprints: true
ssh: {emit_keys_to_console: false}
]]

---Units that have nothing to do on a machine without devices, consoles, seats and a long life, on
---file systems that are mounted before it starts.
local masked = {
  "apt-daily.timer", "apt-daily-upgrade.timer", "dpkg-db-backup.timer", "e2scrub_all.timer",
  "fstrim.timer", "console-getty.service", "getty@tty1.service", "getty-static.service",
  "cloud-init-hotplugd.socket", "systemd-udevd.service", "systemd-udevd-control.socket",
  "systemd-udevd-kernel.socket", "dev-hugepages.mount", "sys-fs-fuse-connections.mount",
  "systemd-firstboot.service", "systemd-logind.service", "systemd-remount-fs.service",
  "systemd-tmpfiles-setup-dev.service", "systemd-tmpfiles-setup-dev-early.service",
  "dev-mqueue.mount", "run-lock.mount", "tmp.mount", "systemd-initctl.socket",
  "systemd-creds.socket", "systemd-sysext.socket",
}

---Generators that find nothing on such a machine; each costs a process of every boot. Those for
---/etc/fstab, init scripts and rc.local stay, for users who bring such files.
local masked_generators = {
  "systemd-debug-generator", "systemd-getty-generator", "systemd-gpt-auto-generator",
  "systemd-hibernate-resume-generator", "systemd-run-generator", "systemd-ssh-generator",
  "systemd-system-update-generator", "systemd-tpm2-generator",
}

---Starts Debian's own cloud-init. That was two thirds of a boot's CPU, and is half of it now:
---cloud-init imports a library for URLs that few boots use, and parses its configuration 14 times.
local cloud_init_start = [[
#!/usr/bin/python3
"""Starts cloud-init for less CPU, and unchanged where that does not fit it."""
import gc
import importlib
import os
import pickle
import sys
import types


class Later(types.ModuleType):
    """A module that is imported when something in it is used for the first time."""

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        if sys.modules.get(self.__name__) is self:
            del sys.modules[self.__name__]
        self.__dict__.update(importlib.import_module(self.__name__).__dict__)
        return getattr(self, name)


def remembering(load):
    """Reads a text once: cloud-init parses its configuration 14 times in a boot."""
    seen = {}

    def safe_load(text):
        if not isinstance(text, (str, bytes)):
            return load(text)
        if text not in seen:
            seen[text] = pickle.dumps(load(text))
        return pickle.loads(seen[text])

    return safe_load


def start():
    """Imports cloud-init. Only URLs need `requests`; url_helper names a class of it, as a type."""
    import yaml

    yaml.safe_load = remembering(yaml.safe_load)
    requests, exceptions = Later("requests"), Later("requests.exceptions")
    requests.exceptions, requests.Response = exceptions, None
    sys.modules["requests"], sys.modules["requests.exceptions"] = requests, exceptions
    gc.disable()
    from cloudinit.cmd.main import main

    gc.freeze()
    gc.enable()
    for module in (exceptions, requests):
        if sys.modules.get(module.__name__) is module:
            del sys.modules[module.__name__]
    del requests.exceptions, requests.Response
    return main


original = "/usr/bin/cloud-init"
try:
    main = start()
except Exception:
    os.execv(original, [original] + sys.argv[1:])
sys.argv[0] = original
sys.exit(main())
]]

---Files by their paths in the root, and their modes where they are programs.
local files = {
  { path = "etc/cloud/cloud.cfg.d/90_kiln.cfg", text = cloud_config },
  { path = "usr/lib/kiln/cloud-init", text = cloud_init_start, mode = "755" },
  { path = "etc/systemd/system/cloud-init-main.service.d/kiln.conf",
    text = "[Service]\nExecStart=\nExecStart=/usr/lib/kiln/cloud-init --all-stages\n" },
  -- sshd checks its configuration again when it starts.
  { path = "etc/systemd/system/ssh.service.d/kiln.conf", text = "[Service]\nExecStartPre=\n" },
}

---Paths below etc/systemd that become links to /dev/null. D-Bus starts when somebody asks for it.
local function links_to_null()
  local links = { "system/multi-user.target.wants/dbus.service" }
  for _, unit in ipairs(masked) do links[#links + 1] = "system/" .. unit end
  for _, name in ipairs(masked_generators) do
    links[#links + 1] = "system-generators/" .. name
  end
  return links
end

---Runs in the finished root ($1). The machine-id stays as an empty file: absent, systemd would take
---every boot for a first one. The two marks keep ldconfig and others from running at first boots.
local function script()
  local lines = { "set -eu", "cd \"$1\"" }
  local function add(text, ...) lines[#lines + 1] = text:format(...) end
  for _, file in ipairs(files) do
    add("mkdir -p %s", sh.quote(file.path:match "^(.*)/"))
    add("printf %%s %s > %s", sh.quote(file.text), sh.quote(file.path))
    if file.mode then add("chmod %s %s", file.mode, sh.quote(file.path)) end
  end
  for _, link in ipairs(links_to_null()) do
    local path = "etc/systemd/" .. link
    add("mkdir -p %s", sh.quote(path:match "^(.*)/"))
    add("ln -sf /dev/null %s", sh.quote(path))
  end
  add "rm -f etc/ssh/ssh_host_* etc/hostname etc/resolv.conf var/lib/dbus/machine-id"
  add ": > etc/machine-id"
  add "touch etc/.updated var/.updated"
  return table.concat(lines, "\n")
end

---What `sh -c` does in a finished root, whose path is $1.
base_root.script = script()

return base_root
