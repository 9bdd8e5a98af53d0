// libarchive's functions, found when the first tree is unpacked: it brings a dozen libraries.
#include "io/late_library.h"

#include <archive.h>
#include <archive_entry.h>

static kl_late_library archive_library = {.soname = KL_ARCHIVE_SONAME};

#define LATE(result, name, params, args) KL_LATE(&archive_library, result, name, params, args)

typedef struct archive archive;
typedef struct archive_entry entry;

archive *archive_read_new(void)
{
    if (!kl_late_load(&archive_library))
        return NULL;
    __typeof__(archive_read_new) *make = kl_late_find(&archive_library, "archive_read_new");
    return make();
}

LATE(archive *, archive_write_disk_new, (void), ())
LATE(int, archive_read_support_filter_gzip, (archive * from), (from))
LATE(int, archive_read_support_format_tar, (archive * from), (from))
LATE(int, archive_read_open_filename, (archive * from, const char *path, size_t block),
     (from, path, block))
LATE(int, archive_read_next_header, (archive * from, entry **out), (from, out))
LATE(int, archive_read_data_block,
     (archive * from, const void **bytes, size_t *length, la_int64_t *at),
     (from, bytes, length, at))
LATE(int, archive_read_free, (archive * from), (from))
LATE(int, archive_write_disk_set_options, (archive * to, int flags), (to, flags))
LATE(int, archive_write_header, (archive * to, entry *one), (to, one))
LATE(la_ssize_t, archive_write_data_block,
     (archive * to, const void *bytes, size_t length, la_int64_t at), (to, bytes, length, at))
LATE(int, archive_write_finish_entry, (archive * to), (to))
LATE(int, archive_write_close, (archive * to), (to))
LATE(int, archive_write_free, (archive * to), (to))
LATE(int, archive_errno, (archive * of), (of))
LATE(const char *, archive_error_string, (archive * of), (of))
LATE(const char *, archive_entry_pathname, (entry * of), (of))
LATE(void, archive_entry_set_pathname, (entry * of, const char *path), (of, path))
LATE(const char *, archive_entry_hardlink, (entry * of), (of))
LATE(void, archive_entry_set_hardlink, (entry * of, const char *path), (of, path))
LATE(__LA_MODE_T, archive_entry_filetype, (entry * of), (of))
LATE(__LA_MODE_T, archive_entry_perm, (entry * of), (of))
LATE(void, archive_entry_set_perm, (entry * of, __LA_MODE_T mode), (of, mode))
LATE(la_int64_t, archive_entry_size, (entry * of), (of))
