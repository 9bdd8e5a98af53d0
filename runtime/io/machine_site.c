// A site: its folder, its lock, and the router that holds its namespaces.
#include "io/machine.h"

#include "io/files.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/prctl.h>
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
    if ((mkdir(path, 0700) != 0 && errno != EEXIST) || chown(path, KL_SITE_UID, KL_SITE_UID) != 0) {
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

// When a process started, from /proc/PID/stat (proc(5)): with its number it names it for good.
static long long start_time(pid_t pid)
{
    char path[64], text[1024];
    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    FILE *in = fopen(path, "re");
    if (in == NULL)
        return 0;
    size_t got = fread(text, 1, sizeof text - 1, in);
    fclose(in);
    text[got] = '\0';
    const char *at = strrchr(text, ')');
    if (at != NULL && (at[2] == 'Z' || at[2] == 'X'))
        return 0; // ended, and not taken notice of yet
    for (int field = 2; at != NULL && field < 22; field++)
        at = strchr(at + 1, ' ');
    return at != NULL ? atoll(at) : 0;
}

static bool read_router(kl_site *site, kl_failure *failure)
{
    char path[PATH_MAX];
    kl_fields fields = {0};
    kl_site_path(site, path, sizeof path, "router");
    if (!kl_fields_load(&fields, path, failure))
        return false;
    const char *pid = kl_fields_get(&fields, "pid"), *start = kl_fields_get(&fields, "start");
    const char *block = kl_fields_get(&fields, "block");
    if (block != NULL)
        site->block = atoi(block);
    site->router = 0;
    if (pid != NULL && start != NULL && start_time(atoi(pid)) == atoll(start))
        site->router = atoi(pid);
    kl_fields_free(&fields);
    return true;
}

bool kl_site_open(kl_site *site, const char *dir, kl_failure *failure)
{
    char path[PATH_MAX];
    site->lock = -1;
    if (geteuid() != 0) {
        kl_failure_set(failure, "denied", 0,
                       "local machines need root for now; run kiln as root (sudo -E kiln …)");
        return false;
    }
    if (!kl_files_mkdir(dir, 0755, true, failure))
        return false;
    if (realpath(dir, site->dir) == NULL) {
        kl_failure_errno(failure, errno, dir);
        return false;
    }
    make_tag(site);
    kl_site_path(site, path, sizeof path, "lock");
    site->lock = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (site->lock < 0) {
        kl_failure_errno(failure, errno, path);
        return false;
    }
    return make_folder(site, "images", failure) && make_folder(site, "machines", failure) &&
           read_router(site, failure);
}

bool kl_site_lock(kl_site *site, kl_failure *failure)
{
    while (flock(site->lock, LOCK_EX) != 0) {
        if (errno == EINTR)
            continue;
        kl_failure_errno(failure, errno, "the site's lock");
        return false;
    }
    return read_router(site, failure); // it may have changed while we waited
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

static bool write_text(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    bool ok = fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);
    if (fd >= 0)
        close(fd);
    return ok;
}

// The router's process: new namespaces, then nothing but being there.
static void hold(int ready, int go, const char *cgroup)
{
    char path[PATH_MAX + 16], byte = 1;
    snprintf(path, sizeof path, "%s/cgroup.procs", cgroup);
    if (!write_text(path, "0") || unshare(CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWNET) != 0 ||
        write(ready, &byte, 1) != 1 || read(go, &byte, 1) != 1)
        _exit(1);
    // Root of the namespace, not of the host.
    if (setresgid(0, 0, 0) != 0 || setresuid(0, 0, 0) != 0 ||
        mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0 || chdir("/") != 0)
        _exit(1);
    prctl(PR_SET_DUMPABLE, 1); // its namespaces may be opened by what is root in them
    setsid();
    prctl(PR_SET_NAME, "kiln-router");
    signal(SIGTERM, SIG_DFL);
    if (write(ready, &byte, 1) != 1)
        _exit(1);
    int null = open("/dev/null", O_RDWR);
    dup2(null, 0);
    dup2(null, 1);
    dup2(null, 2);
    close_range(3, ~0U, 0);
    for (;;)
        pause();
}

static bool map_ids(pid_t pid)
{
    char path[64], text[64];
    snprintf(text, sizeof text, "0 %d %d", KL_SITE_UID, KL_SITE_UIDS);
    snprintf(path, sizeof path, "/proc/%d/uid_map", (int)pid);
    if (!write_text(path, text))
        return false;
    snprintf(path, sizeof path, "/proc/%d/gid_map", (int)pid);
    return write_text(path, text);
}

static bool start_router(kl_site *site, kl_failure *failure)
{
    char cgroup[PATH_MAX], byte = 1;
    int ready[2], go[2];
    if (!kl_cgroup_make(cgroup, sizeof cgroup, site, "router", failure))
        return false;
    if (pipe2(ready, O_CLOEXEC) != 0 || pipe2(go, O_CLOEXEC) != 0) {
        kl_failure_errno(failure, errno, "pipe");
        return false;
    }
    pid_t pid = fork();
    if (pid == 0) {
        close(ready[0]);
        close(go[1]);
        hold(ready[1], go[0], cgroup);
    }
    close(ready[1]);
    close(go[0]);
    bool ok = pid > 0 && read(ready[0], &byte, 1) == 1 && map_ids(pid) &&
              write(go[1], &byte, 1) == 1 && read(ready[0], &byte, 1) == 1;
    close(ready[0]);
    close(go[1]);
    if (!ok) {
        kl_failure ignored;
        kl_cgroup_destroy(cgroup, &ignored);
        kl_failure_set(failure, "unsupported", errno,
                       "no user and network namespace can be made: %s", strerror(errno));
        return false;
    }
    site->router = pid;
    return true;
}

// Is 10.199.block.0/22 free of the host's routes? From /proc/net/route (hexadecimal, low byte
// first).
static bool block_is_free(int block)
{
    char line[256];
    bool is_free = true;
    FILE *in = fopen("/proc/net/route", "re");
    while (in != NULL && fgets(line, sizeof line, in) != NULL) {
        unsigned destination;
        if (sscanf(line, "%*s %x", &destination) == 1 &&
            (destination & 0xffff) == (199 << 8 | 10) && (int)(destination >> 16 & 0xff) >= block &&
            (int)(destination >> 16 & 0xff) < block + 4)
            is_free = false;
    }
    if (in != NULL)
        fclose(in);
    return is_free;
}

static bool choose_block(kl_site *site, kl_failure *failure)
{
    if (site->block != 0 && block_is_free(site->block))
        return true; // the addresses of before
    for (int block = 75; block <= 251; block += 4) {
        if (block_is_free(block)) {
            site->block = block;
            return true;
        }
    }
    kl_failure_set(failure, "limit", 0,
                   "no free network for a site in 10.199.75.0 to 10.199.254.0");
    return false;
}

static bool save_router(const kl_site *site, kl_failure *failure)
{
    char path[PATH_MAX], text[32];
    kl_fields fields = {0};
    kl_site_path(site, path, sizeof path, "router");
    snprintf(text, sizeof text, "%d", (int)site->router);
    kl_fields_add(&fields, "pid", text);
    snprintf(text, sizeof text, "%lld", start_time(site->router));
    kl_fields_add(&fields, "start", text);
    snprintf(text, sizeof text, "%d", site->block);
    kl_fields_add(&fields, "block", text);
    bool ok = kl_fields_save(&fields, path, failure);
    kl_fields_free(&fields);
    return ok;
}

static bool end_router(kl_site *site, kl_failure *failure)
{
    char cgroup[PATH_MAX];
    kl_failure ignored;
    kl_net_down(site, &ignored); // the cable goes with the namespace anyway
    site->router = 0;
    return !kl_cgroup_path(cgroup, sizeof cgroup, site, "router") ||
           kl_cgroup_destroy(cgroup, failure);
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
        ok = end_router(site, failure) && choose_block(site, failure) &&
             start_router(site, failure) && save_router(site, failure) &&
             kl_net_up(site, failure) && kl_machine_reattach(site, failure) &&
             kl_files_write(mark, "", 0, 0600, KL_FILES_REPLACE, failure);
        if (!ok) {
            kl_failure ignored;
            end_router(site, &ignored);
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
    bool ok = end_router(site, failure);
    if (ok && kl_cgroup_path(path, sizeof path, site, ""))
        rmdir(path); // stays while a machine runs
    kl_site_unlock(site);
    return ok;
}
