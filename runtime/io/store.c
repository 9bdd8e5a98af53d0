// The store over SQLite.
#include "io/store.h"

#include "base/buf.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    CACHED = 32,
    BUSY_MS = 10000,
    LOG_COPIED = 1000, // pages: the log goes into the file when it is that long
    LOG_LEFT = 200,    // pages: what a closed store may leave for the next one to read
};

struct kl_store {
    sqlite3 *db;
    sqlite3_stmt *open; // the running statement; belongs to the cache
    struct {
        char *sql;
        size_t length;
        sqlite3_stmt *statement;
        uint64_t used;
    } cache[CACHED];
    uint64_t clock;
    int log_pages; // in the log when this connection last committed
};

static const char *kind_of(int code)
{
    switch (code & 0xff) {
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
        return "locked";
    case SQLITE_FULL:
    case SQLITE_NOMEM:
        return "limit";
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
        return "invalid";
    case SQLITE_READONLY:
    case SQLITE_PERM:
    case SQLITE_AUTH:
        return "denied";
    case SQLITE_CANTOPEN:
        return "not_found";
    case SQLITE_CONSTRAINT:
        return "exists";
    default:
        return "io";
    }
}

// Why the file or its folder cannot be written, as an errno; 0: they can. SQLite reports what its
// last attempt met, which may be the missing log of a folder that it cannot write.
static int unwritable(const kl_store *store)
{
    const char *path = sqlite3_db_filename(store->db, "main");
    if (path == NULL || path[0] == '\0')
        return 0;
    if (access(path, W_OK) != 0 && errno != ENOENT)
        return errno;
    char folder[PATH_MAX];
    snprintf(folder, sizeof folder, "%s", path);
    char *slash = strrchr(folder, '/');
    if (slash == NULL)
        return 0;
    *slash = '\0';
    return access(folder, W_OK) == 0 ? 0 : errno;
}

static void fail(const kl_store *store, kl_failure *out, const char *what)
{
    int code = sqlite3_extended_errcode(store->db), primary = code & 0xff;
    bool of_system = primary == SQLITE_IOERR || primary == SQLITE_CANTOPEN;
    int error = of_system || primary == SQLITE_READONLY ? unwritable(store) : 0;
    if (error == 0 && of_system)
        error = sqlite3_system_errno(store->db);
    char text[sizeof out->message];
    snprintf(text, sizeof text, "%s: %s", what, sqlite3_errmsg(store->db));
    if (error == 0)
        kl_failure_set(out, kind_of(code), code, "%s", text);
    else // SQLite says "disk I/O error", the system says why
        kl_failure_errno(out, error, text);
    if (code == SQLITE_IOERR_NOMEM)
        out->kind = "limit";
}

// SQLite would make the file with the umask's mode: make it ours first. A file that is there is not
// opened: closing it would drop the locks of this process's other connections to it (POSIX).
static bool make_private(const char *path, kl_failure *out)
{
    int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0 && errno != EEXIST) {
        kl_failure_errno(out, errno, path);
        return false;
    }
    if (fd >= 0)
        close(fd);
    return true;
}

// After every commit: what is in the log is durable, so copying it can wait until it is long. A
// failed copy loses nothing; the next commit tries again.
static int committed(void *context, sqlite3 *db, const char *schema, int pages)
{
    kl_store *store = context;
    store->log_pages = pages;
    if (pages >= LOG_COPIED)
        sqlite3_wal_checkpoint_v2(db, schema, SQLITE_CHECKPOINT_PASSIVE, NULL, NULL);
    return SQLITE_OK;
}

bool kl_store_blank(kl_buf *out, const char *script, kl_failure *failure)
{
    enum { WRITE_VERSION = 18, READ_VERSION = 19, WAL = 2 }; // sqlite.org/fileformat.html, 1.3.3
    kl_store store = {0};
    sqlite3_int64 size = 0;
    unsigned char *bytes = NULL;
    if (sqlite3_open(":memory:", &store.db) != SQLITE_OK ||
        sqlite3_exec(store.db, script, NULL, NULL, NULL) != SQLITE_OK)
        fail(&store, failure, "an empty store");
    else if ((bytes = sqlite3_serialize(store.db, "main", &size, 0)) == NULL)
        kl_failure_set(failure, "limit", ENOMEM, "out of memory");
    if (bytes != NULL) {
        bytes[WRITE_VERSION] = WAL;
        bytes[READ_VERSION] = WAL;
        kl_buf_append(out, bytes, (size_t)size);
    }
    sqlite3_free(bytes);
    sqlite3_close(store.db);
    return bytes != NULL;
}

kl_store *kl_store_open(const char *path, kl_failure *out)
{
    // The file may be somebody else's: its schema calls no function, its pages are looked at twice.
    static const char setup[] = "PRAGMA trusted_schema=OFF; PRAGMA cell_size_check=ON;"
                                "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;"
                                "PRAGMA foreign_keys=ON; PRAGMA temp_store=MEMORY;";
    if (!make_private(path, out))
        return NULL;
    kl_store *store = calloc(1, sizeof *store);
    if (store == NULL) {
        kl_failure_set(out, "limit", ENOMEM, "out of memory");
        return NULL;
    }
    int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX;
    if (sqlite3_open_v2(path, &store->db, flags, NULL) != SQLITE_OK ||
        sqlite3_busy_timeout(store->db, BUSY_MS) != SQLITE_OK ||
        sqlite3_db_config(store->db, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL) != SQLITE_OK ||
        sqlite3_db_config(store->db, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL) != SQLITE_OK ||
        sqlite3_exec(store->db, setup, NULL, NULL, NULL) != SQLITE_OK) {
        fail(store, out, path);
        kl_store_close(store);
        return NULL;
    }
    sqlite3_wal_hook(store->db, committed, store);
    return store;
}

void kl_store_close(kl_store *store)
{
    if (store == NULL)
        return;
    for (int i = 0; i < CACHED; i++) {
        sqlite3_finalize(store->cache[i].statement);
        free(store->cache[i].sql);
    }
    if (store->log_pages > LOG_LEFT)
        sqlite3_db_config(store->db, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 0, NULL);
    sqlite3_close(store->db);
    free(store);
}

// The prepared statement of the text: from the cache, or in place of the longest unused one.
static sqlite3_stmt *prepare(kl_store *store, const char *sql, size_t length, kl_failure *out)
{
    int oldest = 0;
    for (int i = 0; i < CACHED; i++) {
        if (store->cache[i].statement != NULL && store->cache[i].length == length &&
            memcmp(store->cache[i].sql, sql, length) == 0) {
            store->cache[i].used = ++store->clock;
            return store->cache[i].statement;
        }
        if (store->cache[i].used < store->cache[oldest].used)
            oldest = i;
    }
    sqlite3_stmt *made = NULL;
    if (sqlite3_prepare_v3(store->db, sql, (int)length, SQLITE_PREPARE_PERSISTENT, &made, NULL) !=
            SQLITE_OK ||
        made == NULL) {
        fail(store, out, "statement");
        return NULL;
    }
    sqlite3_finalize(store->cache[oldest].statement);
    free(store->cache[oldest].sql);
    store->cache[oldest].statement = made;
    store->cache[oldest].sql = strndup(sql, length);
    store->cache[oldest].length = store->cache[oldest].sql != NULL ? length : 0;
    store->cache[oldest].used = ++store->clock;
    return made;
}

static int bind(sqlite3_stmt *statement, int index, const kl_value *value)
{
    switch (value->type) {
    case KL_INTEGER:
        return sqlite3_bind_int64(statement, index, value->integer);
    case KL_REAL:
        return sqlite3_bind_double(statement, index, value->real);
    case KL_TEXT:
        return sqlite3_bind_text64(statement, index, value->text, value->length, SQLITE_TRANSIENT,
                                   SQLITE_UTF8);
    default:
        return sqlite3_bind_null(statement, index);
    }
}

bool kl_store_begin(kl_store *store, const char *sql, size_t length, const kl_value *params,
                    int count, kl_failure *out)
{
    kl_store_end(store);
    sqlite3_stmt *statement = prepare(store, sql, length, out);
    if (statement == NULL)
        return false;
    if (sqlite3_bind_parameter_count(statement) != count) {
        kl_failure_set(out, "invalid", 0, "statement takes %d parameters, not %d",
                       sqlite3_bind_parameter_count(statement), count);
        return false;
    }
    for (int i = 0; i < count; i++) {
        if (bind(statement, i + 1, &params[i]) != SQLITE_OK) {
            fail(store, out, "parameter");
            return false;
        }
    }
    store->open = statement;
    return true;
}

int kl_store_step(kl_store *store, kl_failure *out)
{
    int code = sqlite3_step(store->open);
    if (code == SQLITE_ROW)
        return 1;
    if (code != SQLITE_DONE)
        fail(store, out, "store");
    kl_store_end(store);
    return code == SQLITE_DONE ? 0 : -1;
}

int kl_store_columns(const kl_store *store)
{
    return sqlite3_column_count(store->open);
}

const char *kl_store_column_name(const kl_store *store, int column)
{
    return sqlite3_column_name(store->open, column);
}

kl_value kl_store_cell(const kl_store *store, int column)
{
    kl_value value = {0};
    switch (sqlite3_column_type(store->open, column)) {
    case SQLITE_INTEGER:
        value.type = KL_INTEGER;
        value.integer = sqlite3_column_int64(store->open, column);
        break;
    case SQLITE_FLOAT:
        value.type = KL_REAL;
        value.real = sqlite3_column_double(store->open, column);
        break;
    case SQLITE_NULL:
        break;
    default:
        value.type = KL_TEXT;
        value.text = (const char *)sqlite3_column_text(store->open, column);
        value.length = (size_t)sqlite3_column_bytes(store->open, column);
    }
    return value;
}

void kl_store_end(kl_store *store)
{
    if (store->open != NULL) {
        sqlite3_reset(store->open);
        sqlite3_clear_bindings(store->open);
    }
    store->open = NULL;
}

int64_t kl_store_changes(const kl_store *store)
{
    return sqlite3_changes64(store->db);
}

int64_t kl_store_last_id(const kl_store *store)
{
    return sqlite3_last_insert_rowid(store->db);
}
