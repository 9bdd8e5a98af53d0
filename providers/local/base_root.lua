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

---Files by their paths in the root.
local files = {
  { path = "etc/cloud/cloud.cfg.d/90_kiln.cfg", text = cloud_config },
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
