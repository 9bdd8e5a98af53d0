// A directory as one tar stream, with the sha256 of every file in a last entry.
#ifndef KL_IO_TAR_TREE_H
#define KL_IO_TAR_TREE_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/failure.h"

typedef struct kl_tar_tree kl_tar_tree;

// Lists the tree under `source`, which must be a directory: directories, files and symbolic links,
// sorted, modes kept, owners not. `sums` names the last entry, in the form of sha256sum -c.
// `exclude` (NULL, or a list that ends with NULL) are patterns of fnmatch(3) for what is left out:
// one with a '/' in it is of the path from the source on, another of the last name alone; a '/' at
// its end means directories only. NULL: `out_failure`, also for a socket, a pipe or a device in it.
// Returns owned.
kl_tar_tree *kl_tar_tree_open(const char *source, const char *sums, char *const exclude[],
                              kl_failure *out_failure);
// Writes the next bytes of the stream, up to `size`; 0 at its end, -1: `out_failure`. Reads files
// as it goes, so a file that shrinks meanwhile fails.
ssize_t kl_tar_tree_read(kl_tar_tree *tree, char *out, size_t size, kl_failure *out_failure);
// Bytes of all files read so far.
uint64_t kl_tar_tree_bytes(const kl_tar_tree *tree);
// Bytes of all files, as they were listed.
uint64_t kl_tar_tree_total(const kl_tar_tree *tree);
// sha256 of everything that was sent but times: names, modes, contents, targets of links. At the
// end of the stream.
void kl_tar_tree_digest(const kl_tar_tree *tree, char out[65]);
void kl_tar_tree_close(kl_tar_tree *tree);

#endif
