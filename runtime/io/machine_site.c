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
#include <sys/stat.h>
#include <unistd.h>

void kl_site_path(const kl_site *site, char *out, size_t size, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    int used = snprintf(out, size, "%s/", site->dir);
    if (used > 0 && (size_t)used < size)
        vsnprintf(out + used, size - (size_t)used, format, args);
    va_end(args);
}

static bool make_folder(const kl_site *site, const char *name, kl_failure *failure)
{
    char path[PATH_MAX];
    kl_site_path(site, path, sizeof path, "%s", name);
    if ((mkdir(path, 0700) != 0 && errno != EEXIST) || chown(path, site->uid, site->gid) != 0) {
        kl_failure_errno(failure, errno, path);
        return false;
    }
    return true;
}

static void make_tag(kl_site *site)
{
    unsigned char digest[EVP_MAX_MD_SIZE];
    EVP_Digest(site->dir, strlen(site->dir), digest, NULL, EVP_sha256(), NULL);
    snprintf(site->tag, sizeof site->tag, "%02x%02x%02x%02x", digest[0], digest[1], digest[2],
             digest[3]);
}

// What it has belongs to its owner's ids: somebody else could only spoil it.
static bool is_own(const kl_site *site, kl_failure *failure)
{
    struct stat there;
    if (stat(site->dir, &there) != 0) {
        kl_failure_errno(failure, errno, site->dir);
        return false;
    }
    if (there.st_uid == geteuid())
        return true;
    kl_failure_set(failure, "denied", 0,
                   "%s belongs to the user %u: run kiln as that user, or name another folder for "
                   "local machines by KILN_LOCAL_DIR",
                   site->dir, (unsigned)there.st_uid);
    return false;
}

bool kl_site_open(kl_site *site, const char *dir, kl_failure *failure)
{
    char path[PATH_MAX];
    site->lock = -1;
    site->ordinary = geteuid() != 0;
    site->uid = site->ordinary ? geteuid() : KL_IDS_ROOT;
    site->gid = site->ordinary ? getegid() : KL_IDS_ROOT;
    if (!kl_files_mkdir(dir, 0755, true, failure))
        return false;
    if (realpath(dir, site->dir) == NULL) {
        kl_failure_errno(failure, errno, dir);
        return false;
    }
    if (!is_own(site, failure))
        return false;
    make_tag(site);
    kl_site_path(site, path, sizeof path, "lock");
    site->lock = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (site->lock < 0) {
        kl_failure_errno(failure, errno, path);
        return false;
    }
    return make_folder(site, "images", failure) && make_folder(site, "machines", failure) &&
           kl_cgroup_read(site, failure) && kl_router_read(site, failure);
}

bool kl_site_lock(kl_site *site, kl_failure *failure)
{
    while (flock(site->lock, LOCK_EX) != 0) {
        if (errno == EINTR)
            continue;
        kl_failure_errno(failure, errno, "the site's lock");
        return false;
    }
    return kl_cgroup_read(site, failure) &&
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
    kl_site_path(site, mark, sizeof mark, "router.whole");
    bool ok = true;
    if (site->router == 0 || access(mark, F_OK) != 0) {
        unlink(mark);
        ok = kl_router_end(site, failure) && kl_cgroup_choose(site, failure) &&
             kl_router_start(site, failure) && kl_net_up(site, failure) &&
             kl_machine_reattach(site, failure) &&
             kl_files_write(mark, "", 0, 0600, KL_FILES_REPLACE, failure);
        if (!ok) {
            kl_failure ignored;
            kl_router_end(site, &ignored);
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
    kl_site_path(site, path, sizeof path, "router.whole");
    unlink(path);
    bool ok = kl_router_end(site, failure);
    if (ok && kl_cgroup_path(path, sizeof path, site, ""))
        rmdir(path); // stays while a machine runs
    kl_site_unlock(site);
    return ok;
}
