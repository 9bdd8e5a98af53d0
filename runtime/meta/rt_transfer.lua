---@meta rt.transfer

---Files over an SSH session. Everything is written beside its target, checked by the sha256 of the
---other side, and renamed into place; what fails leaves nothing behind. The host needs coreutils,
---findutils and tar.
---Errors: `not_found`, `denied`, `limit`, `exists`, `invalid`, `io`, `timeout`, `unreachable`.
local transfer = {}

---@class rt.transfer.Result
---@field bytes integer of all files
---@field resumed integer of them, those that an interrupted one had brought
---@field sha256 string in hex; of a tree: as `digest` gives it

---@class rt.transfer.Upload
---@field source? string a path here; else `content`
---@field content? string|userdata text, or a secret
---@field target string
---@field mode? string octal ("0644")
---@field resume? boolean what arrived of an interrupted upload stays beside the target, and the
---  next one of the same source goes on there (false)
---@field owner? string "user:group" (who logged in)
---@field timeout? number seconds (600)
---@field progress? rt.transfer.Progress shows how far it is

---@class rt.transfer.UploadTree
---@field source string a directory here
---@field target string
---@field owner? string of everything in it (who logged in)
---@field replace? boolean the target's old tree goes away (false)
---@field exclude? string[] patterns (fnmatch(3)) of what stays here: "*.o" anywhere, "/build/" the
---  folder at the top, "docs/*.tmp" by its path
---@field timeout? number seconds (600)
---@field progress? rt.transfer.Progress shows how far it is

---Gives the sha256 that an upload of a tree would have: of its names, modes, contents and targets
---of links, without times and owners. Reads the files in a thread.
---@async
---@param source string a directory here
---@param opts? { exclude: string[]? } as of an upload
---@return string? sha256 in hex
---@return table? err not_found, denied, invalid, unsupported, io
function transfer.digest(source, opts) end

---Uploads one file, or bytes. Makes the directories above the target. From 16 MB the host takes the
---sum as the bytes come, and where a round trip is 10 ms or more, the file goes over four channels,
---if the host has them free; its $TMPDIR holds a pipe meanwhile. A source with holes arrives with
---holes.
---@async
---@param session rt.ssh.Session
---@param opts rt.transfer.Upload
---@return rt.transfer.Result? result
---@return table? err
function transfer.upload(session, opts) end

---Uploads a directory as one stream: files, directories, symbolic links, modes, times; packed by
---gzip where a round trip is 10 ms or more.
---A hard link arrives as a file of its own, a hole filled. A target that does not exist appears at
---once; into one that exists the files are renamed one by one, and nothing is deleted.
---@async
---@param session rt.ssh.Session
---@param opts rt.transfer.UploadTree
---@return rt.transfer.Result? result
---@return table? err
function transfer.upload_tree(session, opts) end

---@class rt.transfer.Download
---@field source string
---@field target string a path here, in a directory that exists
---@field mode? string octal ("0644") (the source's, without its set-id bits)
---@field resume? boolean what arrived of an interrupted download stays beside the target, as
---  "target.kiln-part-…", and the next one of the same source goes on there (false)
---@field timeout? number seconds to the arrival of the last byte (600)
---@field progress? rt.transfer.Progress shows how far it is

---Downloads one file; a directory fails with `invalid`, code 83. It comes with its mode,
---its time in whole seconds, and its holes. Of a file that grows meanwhile it gives what it had at
---the start. Threads write it: a slow disk stops nothing else.
---@async
---@param session rt.ssh.Session
---@param opts rt.transfer.Download
---@return rt.transfer.Result? result
---@return table? err
function transfer.download(session, opts) end

---@class rt.transfer.DownloadTree
---@field source string a directory on the host
---@field target string a path here, in a directory that exists
---@field replace? boolean what is at the target goes away; else nothing may be there (false)
---@field exclude? string[] patterns of what stays there, as of an upload; a "/" at the end is not
---  looked at
---@field timeout? number seconds to the arrival of the last byte (600)
---@field progress? rt.transfer.Progress shows the bytes of the stream; it has no total

---Downloads a directory as one stream, packed as an upload's is. It is a file beside the target
---until its sum is known: files, directories, links, holes, modes without set-id bits, times in
---whole seconds; all belongs to who runs this. A name that leads out of the tree, or a device in
---it, fails with `invalid`. A file that changes while the host reads it fails with `io`. The
---result's sha256 is the stream's.
---@async
---@param session rt.ssh.Session
---@param opts rt.transfer.DownloadTree
---@return rt.transfer.Result? result
---@return table? err
function transfer.download_tree(session, opts) end

---Shows how far the transfer is that got it as its option last.
---@class rt.transfer.Progress
local Progress = {}

---Makes one; close it in the end.
---@return rt.transfer.Progress
function transfer.progress() end

---Gives the bytes of files that went so far, and of how many, unless that is not known.
---@return integer bytes
---@return integer? total
function Progress:read() end

---Lets the transfer go. May run twice.
function Progress:close() end

return transfer
