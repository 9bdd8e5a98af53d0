// Unpacks a tar file whose maker is not trusted.
#include "io/tar_unpack.h"

#include "base/buf.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define BLOCK 65536

typedef struct unpacking {
    struct archive *from;
    struct archive *to;
    char *directory; // without symbolic links
    uint64_t bytes;
    kl_failure *failure;
} unpacking;

static bool fail(const unpacking *self, struct archive *of, const char *name)
{
    const char *text = archive_error_string(of);
    int error = archive_errno(of);
    kl_failure_errno(self->failure, error > 0 ? error : 0, name);
    kl_failure_set(self->failure, error > 0 ? self->failure->kind : "io", error, "%s: %s", name,
                   text != NULL ? text : "not a tar file");
    return false;
}

static bool refuse(const unpacking *self, const char *name, const char *why)
{
    kl_failure_set(self->failure, "invalid", 0, "%.200s: %s", name, why);
    return false;
}

// A path of names that lead down.
static bool leads_down(const char *name)
{
    if (name[0] == '/')
        return false;
    for (const char *at = name;;) {
        size_t length = strcspn(at, "/");
        if (length == 2 && at[0] == '.' && at[1] == '.')
            return false;
        at += length;
        if (*at == '\0')
            return true;
        at++;
    }
}

// Moves the entry's names into the directory. False: it is not wanted there.
static bool place_entry(unpacking *self, struct archive_entry *entry)
{
    const char *name = archive_entry_pathname(entry), *link = archive_entry_hardlink(entry);
    kl_buf path = {0};
    if (name == NULL || !leads_down(name) || (link != NULL && !leads_down(link)))
        return refuse(self, name != NULL ? name : "?", "leads out of the tree");
    unsigned int type = archive_entry_filetype(entry);
    if (link == NULL && type != AE_IFREG && type != AE_IFDIR && type != AE_IFLNK)
        return refuse(self, name, "is a device, a pipe or a socket");
    if (link != NULL) {
        kl_buf_printf(&path, "%s/%s", self->directory, link);
        archive_entry_set_hardlink(entry, path.data);
        path.length = 0;
    }
    kl_buf_printf(&path, "%s/%s", self->directory, name);
    archive_entry_set_pathname(entry, path.data);
    archive_entry_set_perm(entry, archive_entry_perm(entry) & 0777);
    kl_buf_free(&path);
    return true;
}

static bool write_entry(unpacking *self, struct archive_entry *entry, const atomic_bool *stop)
{
    const void *bytes;
    size_t length;
    la_int64_t at;
    const char *name = archive_entry_pathname(entry);
    if (archive_write_header(self->to, entry) < ARCHIVE_OK)
        return fail(self, self->to, name);
    int rc = ARCHIVE_OK;
    while (!atomic_load(stop) &&
           (rc = archive_read_data_block(self->from, &bytes, &length, &at)) == ARCHIVE_OK)
        if (archive_write_data_block(self->to, bytes, length, at) < ARCHIVE_OK)
            return fail(self, self->to, name);
    if (rc < ARCHIVE_OK)
        return fail(self, self->from, name);
    if (archive_write_finish_entry(self->to) < ARCHIVE_OK)
        return fail(self, self->to, name);
    if (archive_entry_filetype(entry) == AE_IFREG)
        self->bytes += (uint64_t)archive_entry_size(entry);
    return true;
}

static bool unpack(unpacking *self, const char *path, const atomic_bool *stop)
{
    struct archive_entry *entry;
    int rc;
    archive_read_support_filter_gzip(self->from);
    archive_read_support_format_tar(self->from);
    archive_write_disk_set_options(
        self->to, ARCHIVE_EXTRACT_TIME | ARCHIVE_EXTRACT_PERM | ARCHIVE_EXTRACT_UNLINK |
                      ARCHIVE_EXTRACT_SECURE_SYMLINKS | ARCHIVE_EXTRACT_SECURE_NODOTDOT);
    if (archive_read_open_filename(self->from, path, BLOCK) != ARCHIVE_OK)
        return fail(self, self->from, path);
    // It warns of names that are no text in this locale: they are taken as they are.
    while ((rc = archive_read_next_header(self->from, &entry)) != ARCHIVE_EOF &&
           rc >= ARCHIVE_WARN && !atomic_load(stop))
        if (!place_entry(self, entry) || !write_entry(self, entry, stop))
            return false;
    if (rc < ARCHIVE_WARN)
        return fail(self, self->from, path);
    return archive_write_close(self->to) == ARCHIVE_OK || fail(self, self->to, path);
}

bool kl_tar_unpack(const char *path, const char *directory, const atomic_bool *stop,
                   uint64_t *out_bytes, kl_failure *out_failure)
{
    unpacking self = {.from = archive_read_new(), .failure = out_failure};
    if (self.from == NULL) {
        kl_failure_set(out_failure, "unsupported", 0,
                       "trees are unpacked by libarchive, which is not installed: "
                       "apt-get install libarchive13");
        return false;
    }
    self.to = archive_write_disk_new();
    self.directory = realpath(directory, NULL);
    bool ok = self.to != NULL && self.directory != NULL;
    if (!ok)
        kl_failure_errno(out_failure, errno, directory);
    else
        ok = unpack(&self, path, stop);
    archive_read_free(self.from);
    if (self.to != NULL)
        archive_write_free(self.to);
    free(self.directory);
    *out_bytes = self.bytes;
    return ok;
}
