// rt.fs: files and directories of the machine kiln runs on. Does not wait: local files are quick.
#include "prim/prims.h"

#include "bridge/fail.h"
#include "bridge/opts.h"
#include "bridge/own.h"
#include "bridge/scratch.h"
#include "bridge/secret.h"
#include "io/files.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define DEFAULT_MAX (64 * 1024 * 1024)

static const char *check_path(lua_State *L, int index)
{
    size_t length;
    const char *path = luaL_checklstring(L, index, &length);
    luaL_argcheck(L, length > 0, index, "an empty path");
    luaL_argcheck(L, strlen(path) == length, index, "a path with a zero byte");
    return path;
}

// An octal text such as "0644". [-0, +0, e]
static mode_t mode_option(kl_opts *opts, const char *otherwise)
{
    const char *text = kl_opts_string(opts, "mode", otherwise);
    char *end;
    unsigned long mode = strtoul(text, &end, 8);
    if (end == text || *end != '\0' || text[0] == '-' || mode > 07777)
        luaL_error(opts->L, "option 'mode' must be octal text such as \"0644\", not \"%s\"", text);
    return (mode_t)mode;
}

static int done(lua_State *L, bool ok, const kl_failure *failure)
{
    if (!ok)
        return kl_fail(L, failure);
    lua_pushboolean(L, 1);
    return 1;
}

static int fail_path(lua_State *L, const char *verb, const char *path)
{
    int error = errno;
    const char *what = lua_pushfstring(L, "cannot %s %s", verb, path);
    return kl_fail_errno(L, error, what);
}

static int fs_read(lua_State *L)
{
    const char *path = check_path(L, 1);
    kl_opts opts;
    kl_opts_begin(L, 2, &opts);
    lua_Integer max = kl_opts_integer(&opts, "max", DEFAULT_MAX);
    kl_opts_end(&opts);
    luaL_argcheck(L, max >= 0, 2, "max must not be negative");

    kl_buf *bytes = kl_scratch(L);
    kl_failure failure;
    if (!kl_files_read(bytes, path, (size_t)max, &failure)) {
        kl_buf_free(bytes);
        return kl_fail(L, &failure);
    }
    kl_scratch_push(L, bytes);
    return 1;
}

static int fs_write(lua_State *L)
{
    const char *path = check_path(L, 1);
    size_t length;
    const char *bytes = kl_secret_or_string(L, 2, &length);
    kl_opts opts;
    kl_opts_begin(L, 3, &opts);
    mode_t mode = mode_option(&opts, "0644");
    bool append = kl_opts_boolean(&opts, "append", false);
    bool exclusive = kl_opts_boolean(&opts, "exclusive", false);
    kl_opts_end(&opts);
    luaL_argcheck(L, !(append && exclusive), 3, "append and exclusive exclude each other");

    kl_files_how how = append ? KL_FILES_APPEND : exclusive ? KL_FILES_EXCLUSIVE : KL_FILES_REPLACE;
    kl_failure failure;
    return done(L, kl_files_write(path, bytes, length, mode, how, &failure), &failure);
}

static int fs_mkdir(lua_State *L)
{
    const char *path = check_path(L, 1);
    kl_opts opts;
    kl_opts_begin(L, 2, &opts);
    mode_t mode = mode_option(&opts, "0755");
    bool parents = kl_opts_boolean(&opts, "parents", false);
    bool sync = kl_opts_boolean(&opts, "sync", false);
    kl_opts_end(&opts);

    kl_failure failure;
    bool ok = kl_files_mkdir(path, mode, parents, &failure) &&
              (!sync || kl_files_sync_name(path, &failure));
    return done(L, ok, &failure);
}

static int fs_remove(lua_State *L)
{
    const char *path = check_path(L, 1);
    kl_opts opts;
    kl_opts_begin(L, 2, &opts);
    bool recursive = kl_opts_boolean(&opts, "recursive", false);
    kl_opts_end(&opts);

    kl_failure failure;
    return done(L, kl_files_remove(path, recursive, &failure), &failure);
}

typedef struct listing {
    struct dirent **names;
    int count;
} listing;

static void listing_close(void *self)
{
    listing *list = self;
    for (int i = 0; i < list->count; i++)
        free(list->names[i]);
    free(list->names);
    *list = (listing){0};
}

static const luaL_Reg no_methods[] = {{NULL, NULL}};
static const kl_own_class listing_class = {"rt.fs.listing", no_methods, listing_close};

static int is_entry(const struct dirent *entry)
{
    return strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0;
}

static int by_name(const struct dirent **a, const struct dirent **b)
{
    return strcmp((*a)->d_name, (*b)->d_name); // not alphasort: the same in every locale
}

static int fs_list(lua_State *L)
{
    const char *path = check_path(L, 1);
    listing *list = kl_own_new(L, sizeof *list, &listing_class);
    int count = scandir(path, &list->names, is_entry, by_name);
    if (count < 0)
        return fail_path(L, "list", path);
    list->count = count;
    lua_createtable(L, count, 0);
    for (int i = 0; i < count; i++) {
        lua_pushstring(L, list->names[i]->d_name);
        lua_rawseti(L, -2, i + 1);
    }
    listing_close(list);
    return 1;
}

static const char *type_name(mode_t mode)
{
    switch (mode & S_IFMT) {
    case S_IFREG:
        return "file";
    case S_IFDIR:
        return "directory";
    case S_IFLNK:
        return "link";
    case S_IFIFO:
        return "pipe";
    case S_IFSOCK:
        return "socket";
    default:
        return "device";
    }
}

static void set_integer(lua_State *L, const char *key, lua_Integer value)
{
    lua_pushinteger(L, value);
    lua_setfield(L, -2, key);
}

static int fs_stat(lua_State *L)
{
    const char *path = check_path(L, 1);
    kl_opts opts;
    kl_opts_begin(L, 2, &opts);
    bool follow = kl_opts_boolean(&opts, "follow", true);
    kl_opts_end(&opts);

    struct stat there;
    if ((follow ? stat(path, &there) : lstat(path, &there)) != 0)
        return fail_path(L, "stat", path);
    lua_createtable(L, 0, 6);
    lua_pushstring(L, type_name(there.st_mode));
    lua_setfield(L, -2, "type");
    char mode[8];
    snprintf(mode, sizeof mode, "%04o", (unsigned)there.st_mode & 07777);
    lua_pushstring(L, mode);
    lua_setfield(L, -2, "mode");
    lua_pushnumber(L, (lua_Number)there.st_mtim.tv_sec + (lua_Number)there.st_mtim.tv_nsec / 1e9);
    lua_setfield(L, -2, "mtime");
    set_integer(L, "size", (lua_Integer)there.st_size);
    set_integer(L, "uid", (lua_Integer)there.st_uid);
    set_integer(L, "gid", (lua_Integer)there.st_gid);
    return 1;
}

static int fs_rename(lua_State *L)
{
    const char *from = check_path(L, 1);
    const char *to = check_path(L, 2);
    if (rename(from, to) == 0)
        return done(L, true, NULL);
    int error = errno;
    const char *what = lua_pushfstring(L, "cannot rename %s to %s", from, to);
    return kl_fail_errno(L, error, what);
}

static int fs_sync(lua_State *L)
{
    const char *path = check_path(L, 1);
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    bool ok = fd >= 0 && fsync(fd) == 0;
    int error = errno;
    if (fd >= 0)
        close(fd);
    errno = error;
    return ok ? done(L, true, NULL) : fail_path(L, "sync", path);
}

static int fs_symlink(lua_State *L)
{
    const char *target = check_path(L, 1);
    const char *path = check_path(L, 2);
    return symlink(target, path) == 0 ? done(L, true, NULL) : fail_path(L, "make link", path);
}

static int fs_realpath(lua_State *L)
{
    const char *path = check_path(L, 1);
    char real[PATH_MAX];
    if (realpath(path, real) == NULL)
        return fail_path(L, "resolve", path);
    lua_pushstring(L, real);
    return 1;
}

static int fs_cwd(lua_State *L)
{
    char path[PATH_MAX];
    if (getcwd(path, sizeof path) == NULL)
        return fail_path(L, "find", "the working directory");
    lua_pushstring(L, path);
    return 1;
}

static int fs_temp_dir(lua_State *L)
{
    kl_buf *path = kl_scratch(L);
    kl_failure failure;
    if (!kl_files_temp_dir(path, &failure))
        return kl_fail(L, &failure);
    kl_scratch_push(L, path);
    return 1;
}

typedef struct matches {
    glob_t found;
    bool full;
} matches;

static void matches_close(void *self)
{
    matches *list = self;
    if (list->full)
        globfree(&list->found);
    list->full = false;
}

static const kl_own_class matches_class = {"rt.fs.matches", no_methods, matches_close};

static int fs_glob(lua_State *L)
{
    const char *pattern = check_path(L, 1);
    matches *list = kl_own_new(L, sizeof *list, &matches_class);
    list->full = true;
    int status = glob(pattern, 0, NULL, &list->found);
    if (status != 0 && status != GLOB_NOMATCH)
        return kl_fail_as(L, "io", "cannot expand %s", pattern);
    lua_newtable(L);
    for (size_t i = 0; i < list->found.gl_pathc; i++) {
        lua_pushstring(L, list->found.gl_pathv[i]);
        lua_rawseti(L, -2, (lua_Integer)i + 1);
    }
    matches_close(list);
    return 1;
}

static const luaL_Reg fs_functions[] = {
    {"read", fs_read},         {"write", fs_write}, {"mkdir", fs_mkdir},
    {"remove", fs_remove},     {"list", fs_list},   {"stat", fs_stat},
    {"rename", fs_rename},     {"sync", fs_sync},   {"symlink", fs_symlink},
    {"realpath", fs_realpath}, {"cwd", fs_cwd},     {"temp_dir", fs_temp_dir},
    {"glob", fs_glob},         {NULL, NULL}};

KL_PRIM(fs)
{
    luaL_newlib(L, fs_functions);
    return 1;
}
