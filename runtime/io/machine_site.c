// A site: its folder, its locks, and its network as something that is up or down.
#include "io/machine.h"

#include "io/files.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

void kl_site_path(const kl_site *site, char *out, size_t size, const char *format, ...)
{
    (void)site; // the helper works in its folder
    va_list args;
    va_start(args, format);
    vsnprintf(out, size, format, args);
    va_end(args);
}

// The site's tag names its control group and its cable: it is random, kept in the file `id` with
// the folder's inode, so that another folder never has the same, not at the same path of another
// mount namespace, and not as a copy. A site of before has its path's hash.
static bool read_tag(kl_site *site, const struct stat *folder, kl_failure *failure)
{
    kl_buf text = {0};
    kl_failure local = {0};
    unsigned long long inode = 0;
    bool ok = kl_files_read(&text, "id", 64, &local) || strcmp(local.kind, "not_found") == 0;
    bool known = ok && sscanf(kl_buf_text(&text), "%8[0-9a-f] %llu", site->tag, &inode) == 2 &&
                 inode == folder->st_ino;
    kl_buf_free(&text);
    if (!ok)
        *failure = local;
    if (!ok || known)
        return ok;
    unsigned char bytes[EVP_MAX_MD_SIZE];
    if (inode == 0 && access("router", F_OK) == 0)
        EVP_Digest(site->dir, strlen(site->dir), bytes, NULL, EVP_sha256(), NULL);
    else if (getrandom(bytes, 4, 0) != 4)
        return false;
    snprintf(site->tag, sizeof site->tag, "%02x%02x%02x%02x", bytes[0], bytes[1], bytes[2],
             bytes[3]);
    kl_buf_printf(&text, "%s %llu\n", site->tag, (unsigned long long)folder->st_ino);
    ok = kl_files_write("id", text.data, text.length, 0644, KL_FILES_REPLACE, failure);
    kl_buf_free(&text);
    return ok;
}

// What it has belongs to its owner: somebody else could only spoil it.
static bool open_folder(kl_site *site, struct stat *there, kl_failure *failure)
{
    site->fd = open(site->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (site->fd < 0 || fstat(site->fd, there) != 0 || fchdir(site->fd) != 0) {
        kl_failure_errno(failure, errno, site->dir);
        return false;
    }
    if (there->st_uid == geteuid() && (there->st_mode & 022) == 0)
        return true;
    if (there->st_uid == geteuid())
        kl_failure_set(failure, "denied", 0, "%s may be written by others: chmod go-w %s",
                       site->dir, site->dir);
    else
        kl_failure_set(failure, "denied", 0,
                       "%s belongs to the user %u: run kiln as that user, or name another folder "
                       "for local machines by KILN_LOCAL_DIR",
                       site->dir, (unsigned)there->st_uid);
    return false;
}

static bool open_lock(kl_site *site, kl_failure *failure)
{
    site->lock = open("lock", O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (site->lock < 0)
        kl_failure_errno(failure, errno, "the site's lock");
    return site->lock >= 0;
}

static bool lock_file(const kl_site *site, kl_failure *failure)
{
    while (flock(site->lock, LOCK_EX) != 0) {
        if (errno == EINTR)
            continue;
        kl_failure_errno(failure, errno, "the site's lock");
        return false;
    }
    return true;
}

bool kl_site_open(kl_site *site, const char *dir, kl_failure *failure)
{
    struct stat there;
    site->lock = site->fd = -1;
    site->ordinary = geteuid() != 0;
    site->uid = site->ordinary ? geteuid() : kl_range_first();
    site->gid = site->ordinary ? getegid() : site->uid;
    if (!kl_files_mkdir(dir, 0755, true, failure))
        return false;
    if (realpath(dir, site->dir) == NULL) {
        kl_failure_errno(failure, errno, dir);
        return false;
    }
    if (!open_folder(site, &there, failure) || !open_lock(site, failure) ||
        !lock_file(site, failure))
        return false;
    bool ok = read_tag(site, &there, failure) && kl_site_make_folder(site, "images", failure) &&
              kl_site_make_folder(site, "machines", failure) && kl_cgroup_read(site, failure) &&
              kl_router_read(site, failure);
    kl_site_unlock(site);
    return ok;
}

bool kl_site_lock(kl_site *site, kl_failure *failure)
{
    return lock_file(site, failure) && kl_cgroup_read(site, failure) &&
           kl_router_read(site, failure); // it may have changed while we waited
}

void kl_site_unlock(kl_site *site)
{
    flock(site->lock, LOCK_UN);
}

// A record lock on the site's lock file (fcntl(2)) at an offset that belongs to the name: unlike
// flock's it stays with this process, and is not inherited by a machine's shim.
bool kl_site_claim(const kl_site *site, const char *name, bool wait, kl_failure *failure)
{
    unsigned hash = 5381;
    for (const char *at = name; *at != '\0'; at++)
        hash = hash * 33 + (unsigned char)*at;
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = hash, .l_len = 1};
    while (fcntl(site->lock, wait ? F_SETLKW : F_SETLK, &lock) != 0) {
        if (errno == EINTR)
            continue;
        kl_failure_set(failure, "locked", errno, "%s is being worked on", name);
        return false;
    }
    return true;
}

// A network whose making was cut off has no `whole` mark: it is thrown away and made again.
bool kl_site_up(kl_site *site, kl_failure *failure)
{
    char mark[PATH_MAX];
    if (!kl_site_lock(site, failure))
        return false;
    kl_site_path(site, mark, sizeof mark, "network.whole");
    bool ok = true;
    if (site->router == 0 || access(mark, F_OK) != 0) {
        bool served = kl_machine_survivor(site) != 0;
        unlink(mark);
        ok = kl_router_end(site, !served, failure) && kl_cgroup_choose(site, failure) &&
             kl_router_start(site, failure) && kl_net_up(site, failure) &&
             kl_machine_reattach(site, failure) &&
             kl_files_write(mark, "", 0, 0600, KL_FILES_REPLACE, failure);
        if (!ok) {
            kl_failure ignored;
            kl_router_end(site, !served, &ignored);
        }
    }
    kl_site_unlock(site);
    return ok;
}

static bool no_machine_runs(const kl_site *site, kl_failure *failure)
{
    char path[PATH_MAX], group[PATH_MAX];
    bool none = true;
    kl_site_path(site, path, sizeof path, "machines");
    DIR *dir = opendir(path);
    for (struct dirent *entry; dir != NULL && none && (entry = readdir(dir)) != NULL;) {
        if (entry->d_name[0] != '.' && kl_cgroup_path(group, sizeof group, site, entry->d_name) &&
            kl_cgroup_populated(group)) {
            kl_failure_set(failure, "exists", 0, "machine %s runs in this network", entry->d_name);
            none = false;
        }
    }
    if (dir != NULL)
        closedir(dir);
    return none;
}

bool kl_site_down(kl_site *site, kl_failure *failure)
{
    char path[PATH_MAX];
    if (!kl_site_lock(site, failure))
        return false;
    if (!no_machine_runs(site, failure)) {
        kl_site_unlock(site);
        return false;
    }
    kl_site_path(site, path, sizeof path, "network.whole");
    unlink(path);
    bool ok = kl_router_end(site, true, failure);
    if (ok && kl_cgroup_path(path, sizeof path, site, "")) {
        rmdir(path); // stays while a machine runs
        strncat(path, "-helper", sizeof path - strlen(path) - 1);
        rmdir(path);
    }
    kl_site_unlock(site);
    return ok;
}
