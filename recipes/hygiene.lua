---What an image must not carry from its builder; cleaned in the guest, checked before the snapshot.
---Host keys, machine-id and cloud-init's state go when the provider freezes the machine: the
---running builder still needs them.
local hygiene = {}

---Removes caches, histories and temporary files from the builder.
---@async
---@param box kiln.Machine
function hygiene.clean(box)
  box:run([[
rm -rf /tmp/* /var/tmp/* /root/.bash_history /home/*/.bash_history
if command -v apt-get >/dev/null; then apt-get clean; fi
rm -f /root/.ssh/known_hosts
]], { name = "clean up" })
end

---Fails the bake when something is on the builder that must not be in an image.
---@async
---@param box kiln.Machine
function hygiene.check(box)
  local found = box:run([[
for f in /root/.bash_history /root/.netrc /root/.aws/credentials /root/.ssh/id_* ; do
  if [ -e "$f" ]; then echo "$f"; fi
done
systemctl --failed --no-legend --plain 2>/dev/null | awk '{print "failed unit " $1}'
]], { name = "check the image's hygiene" }).out
  if found ~= "" then
    error({
      kind = "invalid", machine = box.name, output = found,
      message = "the builder has what an image must not carry: "
        .. found:gsub("\n$", ""):gsub("\n", ", "),
    }, 0)
  end
end

return hygiene
