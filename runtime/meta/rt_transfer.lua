---@meta rt.transfer

---Files over an SSH session. Everything is written beside its target, checked there by sha256, and
---renamed into place; what fails leaves nothing behind. The host needs coreutils and tar.
---Errors: `not_found`, `denied`, `limit`, `exists`, `invalid`, `io`, `timeout`, `unreachable`.
local transfer = {}

---@class rt.transfer.Result
---@field bytes integer of all files
---@field sha256 string in hex; of a tree: of the sorted list of its files' sums

---Uploads one file, or bytes. Makes the directories above the target.
---@async
---@param session rt.ssh.Session
---@param opts { source?: string, content?: string|userdata, target: string, mode?: string, owner?: string, timeout?: number } one of source (a path here) and content (text or a secret); mode ("0644"); owner "user:group" (who logged in); seconds (600)
---@return rt.transfer.Result? result
---@return table? err
function transfer.upload(session, opts) end

---Uploads a directory as one stream: files, directories, symbolic links, modes. A target that does
---not exist appears at once; into one that exists the files are added, and nothing is deleted.
---@async
---@param session rt.ssh.Session
---@param opts { source: string, target: string, owner?: string, replace?: boolean, timeout?: number } replace: the target's old tree goes away (false)
---@return rt.transfer.Result? result
---@return table? err
function transfer.upload_tree(session, opts) end

---Downloads one file; the copy has mode 0644.
---@async
---@param session rt.ssh.Session
---@param opts { source: string, target: string, timeout?: number } target is a path here
---@return rt.transfer.Result? result
---@return table? err
function transfer.download(session, opts) end

return transfer
