// fault_vfs: a Lua module for specs. Puts itself between SQLite and the disk, fails the call it is
// told to fail, and keeps beside every file a copy of what a power cut would have left of it.
#include <lauxlib.h>
#include <lua.h>
#include <sqlite3.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef struct fault_file {
    sqlite3_file base;
    char durable[512]; // the path of its copy; "": none is kept
    const char *path;  // SQLite keeps it while the file is open
    sqlite3_file *real;
} fault_file;

// Which calls a kind of fault can hit.
enum {
    READ = 1,
    WRITE = 2,
    SYNC = 4,
    TRUNCATE = 8,
    OPEN = 16,
    LOCK = 32,
    SHARE = 64,
    DELETE = 128
};
enum { FULL = WRITE | TRUNCATE | SYNC | OPEN, TORN = WRITE, BROKEN = 255 };

static struct {
    sqlite3_vfs vfs, *real;
    long count, nth; // calls that the armed kind can hit; which one fails, 0: none
    int calls;
    bool sticky, torn, keep;
    char fired[64];
} fault;

// Counts a call; true: it has to fail.
static bool hit(int call, const char *name, const char *path)
{
    if ((fault.calls & call) == 0)
        return false;
    fault.count++;
    if (fault.nth == 0 || fault.count < fault.nth || (fault.count > fault.nth && !fault.sticky))
        return false;
    if (fault.fired[0] == '\0') {
        const char *slash = path != NULL ? strrchr(path, '/') : NULL;
        snprintf(fault.fired, sizeof fault.fired, "%s %s", name, slash != NULL ? slash + 1 : "?");
    }
    return true;
}

static sqlite3_file *real(sqlite3_file *file)
{
    return ((fault_file *)file)->real;
}

static int failure(int otherwise)
{
    return fault.calls == FULL ? SQLITE_FULL : otherwise;
}

// What is synced now survives a power cut: copies the whole file.
static void keep_durable(fault_file *self)
{
    char bytes[65536];
    sqlite3_int64 size = 0, at = 0;
    FILE *out = fault.keep && self->durable[0] != '\0' ? fopen(self->durable, "wb") : NULL;
    if (out == NULL)
        return;
    self->real->pMethods->xFileSize(self->real, &size);
    while (at < size) {
        int part = size - at > (sqlite3_int64)sizeof bytes ? (int)sizeof bytes : (int)(size - at);
        if (self->real->pMethods->xRead(self->real, bytes, part, at) != SQLITE_OK)
            break;
        fwrite(bytes, 1, (size_t)part, out);
        at += part;
    }
    fclose(out);
}

static int file_close(sqlite3_file *file)
{
    return real(file)->pMethods->xClose(real(file));
}

static int file_read(sqlite3_file *file, void *bytes, int length, sqlite3_int64 at)
{
    if (hit(READ, "read", ((fault_file *)file)->path))
        return SQLITE_IOERR_READ;
    return real(file)->pMethods->xRead(real(file), bytes, length, at);
}

static int file_write(sqlite3_file *file, const void *bytes, int length, sqlite3_int64 at)
{
    if (hit(WRITE, "write", ((fault_file *)file)->path)) {
        if (fault.torn && length > 1)
            real(file)->pMethods->xWrite(real(file), bytes, length / 2, at);
        return failure(SQLITE_IOERR_WRITE);
    }
    return real(file)->pMethods->xWrite(real(file), bytes, length, at);
}

static int file_truncate(sqlite3_file *file, sqlite3_int64 size)
{
    if (hit(TRUNCATE, "truncate", ((fault_file *)file)->path))
        return failure(SQLITE_IOERR_TRUNCATE);
    return real(file)->pMethods->xTruncate(real(file), size);
}

static int file_sync(sqlite3_file *file, int flags)
{
    if (hit(SYNC, "sync", ((fault_file *)file)->path))
        return failure(SQLITE_IOERR_FSYNC);
    int code = real(file)->pMethods->xSync(real(file), flags);
    if (code == SQLITE_OK)
        keep_durable((fault_file *)file);
    return code;
}

static int file_size(sqlite3_file *file, sqlite3_int64 *out)
{
    return real(file)->pMethods->xFileSize(real(file), out);
}

static int file_lock(sqlite3_file *file, int level)
{
    if (hit(LOCK, "lock", ((fault_file *)file)->path))
        return SQLITE_IOERR_LOCK;
    return real(file)->pMethods->xLock(real(file), level);
}

static int file_unlock(sqlite3_file *file, int level)
{
    return real(file)->pMethods->xUnlock(real(file), level);
}

static int file_reserved(sqlite3_file *file, int *out)
{
    return real(file)->pMethods->xCheckReservedLock(real(file), out);
}

static int file_control(sqlite3_file *file, int what, void *argument)
{
    return real(file)->pMethods->xFileControl(real(file), what, argument);
}

static int file_sector(sqlite3_file *file)
{
    return real(file)->pMethods->xSectorSize(real(file));
}

static int file_device(sqlite3_file *file)
{
    return real(file)->pMethods->xDeviceCharacteristics(real(file));
}

static int shm_map(sqlite3_file *file, int page, int size, int extend, void volatile **out)
{
    if (hit(SHARE, "shm map", ((fault_file *)file)->path)) {
        *out = NULL;
        return SQLITE_IOERR_SHMMAP;
    }
    return real(file)->pMethods->xShmMap(real(file), page, size, extend, out);
}

static int shm_lock(sqlite3_file *file, int offset, int count, int flags)
{
    if ((flags & SQLITE_SHM_LOCK) != 0 && hit(SHARE, "shm lock", ((fault_file *)file)->path))
        return SQLITE_IOERR_SHMLOCK;
    return real(file)->pMethods->xShmLock(real(file), offset, count, flags);
}

static void shm_barrier(sqlite3_file *file)
{
    real(file)->pMethods->xShmBarrier(real(file));
}

static int shm_unmap(sqlite3_file *file, int delete)
{
    return real(file)->pMethods->xShmUnmap(real(file), delete);
}

static const sqlite3_io_methods methods = {
    2,         file_close,  file_read,     file_write,   file_truncate, file_sync,   file_size,
    file_lock, file_unlock, file_reserved, file_control, file_sector,   file_device, shm_map,
    shm_lock,  shm_barrier, shm_unmap,     NULL,         NULL,
};

static int vfs_open(sqlite3_vfs *vfs, const char *path, sqlite3_file *file, int flags, int *out)
{
    (void)vfs;
    fault_file *self = (fault_file *)file;
    memset(self, 0, sizeof *self);
    if (hit(OPEN, "open", path))
        return SQLITE_CANTOPEN;
    self->path = path;
    self->real = (sqlite3_file *)(self + 1);
    int code = fault.real->xOpen(fault.real, path, self->real, flags, out);
    if (self->real->pMethods == NULL)
        return code;
    self->base.pMethods = &methods;
    if (path != NULL && (flags & (SQLITE_OPEN_MAIN_DB | SQLITE_OPEN_WAL)) != 0) {
        snprintf(self->durable, sizeof self->durable, "%s.durable", path);
        if (access(self->durable, F_OK) != 0) // it was made and synced before SQLite saw it
            keep_durable(self);
    }
    return code;
}

static int vfs_delete(sqlite3_vfs *vfs, const char *path, int sync)
{
    (void)vfs;
    if (hit(DELETE, "delete", path))
        return SQLITE_IOERR_DELETE;
    char durable[512];
    snprintf(durable, sizeof durable, "%s.durable", path);
    unlink(durable);
    return fault.real->xDelete(fault.real, path, sync);
}

// arm{nth, kind = "full"|"torn"|"broken", sticky}: the nth call that the kind can hit fails from
// now.
static int fault_arm(lua_State *L)
{
    static const char *const kinds[] = {"full", "torn", "broken", NULL};
    static const int calls[] = {FULL, TORN, BROKEN};
    luaL_checktype(L, 1, LUA_TTABLE);
    lua_getfield(L, 1, "nth");
    lua_getfield(L, 1, "kind");
    lua_getfield(L, 1, "sticky");
    int kind = luaL_checkoption(L, -2, NULL, kinds);
    fault.count = 0;
    fault.nth = (long)luaL_optinteger(L, -3, 0);
    fault.calls = calls[kind];
    fault.torn = kind == 1;
    fault.sticky = lua_toboolean(L, -1);
    fault.keep = true;
    fault.fired[0] = '\0';
    return 0;
}

// disarm() -> calls counted, what failed first or nil.
static int fault_disarm(lua_State *L)
{
    lua_pushinteger(L, fault.count);
    if (fault.fired[0] != '\0')
        lua_pushstring(L, fault.fired);
    else
        lua_pushnil(L);
    fault.nth = 0;
    fault.calls = 0;
    fault.keep = false;
    return 2;
}

int luaopen_fault_vfs(lua_State *L)
{
    static const luaL_Reg functions[] = {
        {"arm", fault_arm}, {"disarm", fault_disarm}, {NULL, NULL}};
    if (fault.real == NULL) {
        fault.real = sqlite3_vfs_find(NULL);
        fault.vfs = *fault.real; // what it does not fail is the real one's; none of it looks at vfs
        fault.vfs.zName = "fault";
        fault.vfs.szOsFile = (int)sizeof(fault_file) + fault.real->szOsFile;
        fault.vfs.xOpen = vfs_open;
        fault.vfs.xDelete = vfs_delete;
        fault.vfs.pNext = NULL;
        sqlite3_vfs_register(&fault.vfs, 1);
    }
    luaL_newlib(L, functions);
    return 1;
}
