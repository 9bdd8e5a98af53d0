// Tar archives as bytes: ustar headers (POSIX.1-1988), pax records for what does not fit them.
#ifndef KL_IO_TAR_WRITER_H
#define KL_IO_TAR_WRITER_H

#include <stdint.h>

#include "base/buf.h"

typedef enum kl_tar_type {
    KL_TAR_FILE = '0',
    KL_TAR_LINK = '2',
    KL_TAR_DIRECTORY = '5'
} kl_tar_type;

typedef struct kl_tar_entry {
    kl_tar_type type;
    const char *path;
    const char *link; // target of a symbolic link, else NULL
    unsigned mode;
    uint64_t size; // of a file, else 0
    int64_t mtime;
} kl_tar_entry;

// Appends the entry's header; its `size` bytes and kl_tar_pad follow.
void kl_tar_header(kl_buf *out, const kl_tar_entry *entry);
// Appends the zeros that fill the last block of `size` bytes.
void kl_tar_pad(kl_buf *out, uint64_t size);
// Appends the end of the archive.
void kl_tar_end(kl_buf *out);

#endif
