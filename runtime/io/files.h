// Files: whole reads, atomic writes, directory trees. Every failure's message names the path.
#ifndef KL_IO_FILES_H
#define KL_IO_FILES_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "base/buf.h"
#include "base/failure.h"

// Appends the file's bytes to `out`; more than `max` of them fail with `limit`.
bool kl_files_read(kl_buf *out, const char *path, size_t max, kl_failure *failure);

typedef enum kl_files_how {
    KL_FILES_REPLACE,   // beside, synced, renamed into place: a reader sees the old or the new
    KL_FILES_EXCLUSIVE, // the same, but fails with `exists` when the name is taken
    KL_FILES_APPEND,    // at the end of what is there, in one write
} kl_files_how;

// Writes the file with exactly `mode`; a file appended to keeps the mode it has.
bool kl_files_write(const char *path, const void *bytes, size_t length, mode_t mode,
                    kl_files_how how, kl_failure *failure);

// Makes a directory with exactly `mode`. With `parents`, makes those missing too (0755 less umask)
// and is content with a directory that is there.
bool kl_files_mkdir(const char *path, mode_t mode, bool parents, kl_failure *failure);

// Makes the name last through a power failure: syncs the directory that it is in.
bool kl_files_sync_name(const char *path, kl_failure *failure);

// Removes a file, a link or an empty directory; with `recursive` a tree, never through a link nor
// into another file system.
bool kl_files_remove(const char *path, bool recursive, kl_failure *failure);

// Removes what writers that are gone left beside `target`: calls `remove` for each file whose name
// is that of `target` and a rest that `is` takes, and that nobody holds locked. It is locked
// meanwhile; `rest` points into its path.
void kl_files_remove_left(const char *target, bool (*is)(const char *rest),
                          void (*remove)(const char *path, const char *rest));

// Makes a directory of mode 0700 under $TMPDIR (or /tmp) and appends its path to `out`.
bool kl_files_temp_dir(kl_buf *out, kl_failure *failure);

#endif
