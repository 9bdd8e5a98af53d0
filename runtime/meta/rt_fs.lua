---@meta rt.fs

---Reads, writes and removes local files. A failure's message names the path.
local fs = {}

---@class rt.fs.Stat
---@field type "file"|"directory"|"link"|"pipe"|"socket"|"device"
---@field size integer bytes
---@field mode string octal text, "0644"
---@field mtime number seconds since 1970
---@field uid integer
---@field gid integer

---Reads a whole file.
---@param path string
---@param opts? { max: integer? } bytes (64 MiB); more is an error of kind `limit`
---@return string? bytes
---@return table? err not_found, denied, limit, io
function fs.read(path, opts) end

---Writes a file: beside, synced, renamed into place, so a reader sees the old or the new whole. A
---link of that name is replaced, not followed; a device or directory is refused (`invalid`).
---@param path string
---@param data string|rt.Secret
---@param opts? { mode: string?, append: boolean?, exclusive: boolean? } octal text ("0644"), set
---  exactly; add to the end; fail with `exists` when the name is taken
---@return true? done
---@return table? err
function fs.write(path, data, opts) end

---Makes a directory.
---@param path string
---@param opts? { mode: string?, parents: boolean?, sync: boolean? } octal text ("0755"), set
---  exactly; make missing parents and accept a directory that is there; the name lasts through a
---  power failure
---@return true? done
---@return table? err
function fs.mkdir(path, opts) end

---Lists the names in a directory, without "." and "..", in byte order.
---@param path string
---@return string[]? names
---@return table? err
function fs.list(path) end

---Describes a file.
---@param path string
---@param opts? { follow: boolean? } what a link points to (true), or the link itself
---@return rt.fs.Stat? stat
---@return table? err
function fs.stat(path, opts) end

---Removes a file, a link or an empty directory; `not_found` when it is absent.
---@param path string
---@param opts? { recursive: boolean? } a tree: never through a link, never into another file system
---@return true? done
---@return table? err
function fs.remove(path, opts) end

---Gives a file another name, replacing what has it.
---@param from string
---@param to string
---@return true? done
---@return table? err
function fs.rename(from, to) end

---Makes what was written to a file, or the names in a directory, durable.
---@param path string
---@return true? done
---@return table? err
function fs.sync(path) end

---Makes a symbolic link.
---@param target string what the link says
---@param path string where the link is
---@return true? done
---@return table? err
function fs.symlink(target, path) end

---Resolves every link, "." and "..".
---@param path string
---@return string? path
---@return table? err
function fs.realpath(path) end

---Gives the working directory.
---@return string? path
---@return table? err
function fs.cwd() end

---Makes a directory of mode 0700 in $TMPDIR or /tmp. The caller removes it.
---@return string? path
---@return table? err
function fs.temp_dir() end

---Expands a pattern of `*`, `?` and `[…]`.
---@param pattern string
---@return string[]? paths sorted; empty when nothing matches
---@return table? err
function fs.glob(pattern) end

return fs
