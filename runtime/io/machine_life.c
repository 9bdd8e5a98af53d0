// The life of a machine: created, listed, switched off, started again, destroyed.
//
// machines/<name>/ has upper/ and work/ (the overlay) or a disk with them, root/ (its mount point),
// meta (fields), pid. Whether it runs is read from its cgroup, never from a file. One that was
// switched off has an empty pid: where it is not, and the machine does not run, it was lost with
// its host.
//
// Its meta has `whole` from when it has booted until it is destroyed. What has not is never
// started: whoever meets it waits for its creation, or removes the rest of it.
#include "io/machine.h"

#include "io/files.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static bool load_meta(const kl_site *site, const char *name, kl_fields *out, kl_failure *failure)
{
    char path[PATH_MAX];
    kl_site_path(site, path, sizeof path, "machines/%s/meta", name);
    return kl_fields_load(out, path, failure);
}

static bool is_name(const char *name)
{
    size_t length = name != NULL ? strlen(name) : 0;
    return length > 0 && length <= 63 && name[0] != '-' &&
           strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789-") == length;
}

static bool need_name(const char *name, kl_failure *failure)
{
    if (is_name(name))
        return true;
    kl_failure_set(failure, "invalid", 0,
                   "a machine's name has a-z, 0-9 and -, at most 63 of them: '%.80s'",
                   name != NULL ? name : "");
    return false;
}

static bool is_running(const kl_site *site, const char *name)
{
    char group[PATH_MAX];
    return kl_cgroup_path(group, sizeof group, site, name) && kl_cgroup_populated(group);
}

static void answer_machine(const kl_site *site, const char *name, const kl_fields *meta)
{
    kl_fields row = {0};
    kl_fields_add(&row, "name", name);
    kl_fields_add(&row, "state",
                  is_running(site, name)             ? "running"
                  : kl_machine_init(site, name) != 0 ? "lost"
                                                     : "stopped");
    if (is_running(site, name))
        kl_limits_row(&row, site, name);
    kl_buf_append(&row.bytes, meta->bytes.data, meta->bytes.length);
    kl_answer_row(&row);
    kl_fields_free(&row);
}

// The lowest address that no machine of the site has.
static bool choose_address(const kl_site *site, char *out, size_t size, kl_failure *failure)
{
    bool used[256] = {false};
    char path[PATH_MAX];
    kl_site_path(site, path, sizeof path, "machines");
    DIR *dir = opendir(path);
    for (struct dirent *entry; dir != NULL && (entry = readdir(dir)) != NULL;) {
        kl_fields meta = {0};
        kl_failure ignored; // an unreadable one is half made and has no address yet
        if (entry->d_name[0] != '.' && load_meta(site, entry->d_name, &meta, &ignored)) {
            const char *address = kl_fields_get(&meta, "address");
            if (address != NULL)
                used[atoi(strrchr(address, '.') + 1) & 255] = true;
        }
        kl_fields_free(&meta);
    }
    if (dir != NULL)
        closedir(dir);
    for (int last = 2; last < 255; last++) {
        if (!used[last]) {
            snprintf(out, size, "10.199.%d.%d", site->block + 2, last);
            return true;
        }
    }
    kl_failure_set(failure, "limit", 0, "the site has no address left for another machine");
    return false;
}

static bool save_meta(const kl_site *site, const char *name, const kl_fields *meta,
                      kl_failure *failure)
{
    char path[PATH_MAX];
    kl_site_path(site, path, sizeof path, "machines/%s/meta", name);
    return kl_fields_save(meta, path, failure);
}

static bool write_meta(const kl_site *site, const kl_fields *request, const char *address,
                       bool whole, kl_failure *failure)
{
    static const char *const kept[] = {"image", "token", "group", "memory",
                                       "vcpus", "disk",  "data"};
    char text[32];
    kl_fields meta = {0};
    kl_fields_add(&meta, "address", address);
    for (size_t i = 0; i < sizeof kept / sizeof kept[0]; i++) {
        const char *value = kl_fields_get(request, kept[i]);
        if (value != NULL)
            kl_fields_add(&meta, kept[i], value);
    }
    snprintf(text, sizeof text, "%lld", (long long)time(NULL));
    kl_fields_add(&meta, "created", text);
    if (whole)
        kl_fields_add(&meta, "whole", "yes");
    bool ok = save_meta(site, kl_fields_get(request, "name"), &meta, failure);
    kl_fields_free(&meta);
    return ok;
}

// Takes `whole` from the machine's meta: a removal that is cut off is gone on with. Its address
// stays its own until it is gone.
static bool doom(const kl_site *site, const char *name, kl_failure *failure)
{
    kl_fields meta = {0}, rest = {0};
    bool ok = load_meta(site, name, &meta, failure);
    const char *address = kl_fields_get(&meta, "address");
    if (ok && kl_fields_get(&meta, "whole") != NULL) {
        if (address != NULL)
            kl_fields_add(&rest, "address", address);
        ok = save_meta(site, name, &rest, failure);
    }
    kl_fields_free(&meta);
    kl_fields_free(&rest);
    return ok;
}

static bool remove_machine(const kl_site *site, const char *name, kl_failure *failure)
{
    char path[PATH_MAX];
    if (!doom(site, name, failure))
        return false;
    if (kl_cgroup_path(path, sizeof path, site, name) && !kl_cgroup_destroy(path, failure))
        return false;
    kl_limits_release(site, name);
    kl_site_path(site, path, sizeof path, "machines/%s", name);
    return kl_layer_remove(site, path, failure);
}

// What is there under the name: 1 the same machine, whole; 0 nothing any more; -1 another, or
// failed.
static int settle_existing(kl_site *site, const kl_fields *request, kl_fields *meta,
                           kl_failure *failure)
{
    const char *name = kl_fields_get(request, "name"), *token = kl_fields_get(request, "token");
    if (!load_meta(site, name, meta, failure))
        return -1;
    const char *theirs = kl_fields_get(meta, "token");
    bool whole = kl_fields_get(meta, "whole") != NULL;
    if (whole && token != NULL && theirs != NULL && strcmp(token, theirs) == 0)
        return 1;
    if (whole) {
        kl_failure_set(failure, "exists", 0, "there is a machine %s already", name);
        return -1;
    }
    return remove_machine(site, name, failure) ? 0 : -1; // the rest of a creation that was cut off
}

// Makes the folder of a machine, with its seed. Returns its own layer, open; -1: failed.
static int prepare(kl_site *site, const kl_fields *request, char *address, size_t size,
                   kl_failure *failure)
{
    const char *name = kl_fields_get(request, "name");
    char folder[PATH_MAX], root[PATH_MAX];
    kl_site_path(site, folder, sizeof folder, "machines/%s", name);
    kl_site_path(site, root, sizeof root, "machines/%s/root", name);
    if (!kl_site_lock(site, failure))
        return -1;
    bool ok = choose_address(site, address, size, failure) &&
              kl_site_own_folder(site, site->fd, folder, 0755, false, failure) &&
              write_meta(site, request, address, false, failure);
    kl_site_unlock(site);
    ok = ok && kl_ids_note(site, folder, (unsigned)site->uid, failure) &&
         kl_site_own_folder(site, site->fd, root, 0755, false, failure) &&
         kl_disk_make(site, name, kl_fields_get(request, "disk"), failure);
    int own = ok ? kl_layers_own(site, name, failure) : -1;
    if (own < 0 || kl_seed_write(site, own, request, failure))
        return own;
    close(own);
    return -1;
}

static bool boot(kl_site *site, const char *name, int own, kl_failure *failure)
{
    kl_buf layers = {0};
    kl_fields meta = {0};
    bool ok = load_meta(site, name, &meta, failure) &&
              kl_image_layers(site, kl_fields_get(&meta, "image"), &layers, failure) &&
              kl_shim_boot(site, name, kl_buf_text(&layers), &meta, own, failure);
    kl_fields_free(&meta);
    kl_buf_free(&layers);
    return ok;
}

bool kl_machine_create(kl_site *site, const kl_fields *request, kl_failure *failure)
{
    const char *name = kl_fields_get(request, "name"), *image = kl_fields_get(request, "image");
    char address[32];
    kl_fields meta = {0};
    kl_buf layers = {0};
    if (!need_name(name, failure) || !kl_site_claim(site, name, true, failure))
        return false;
    bool ok = kl_image_layers(site, image, &layers, failure) && kl_site_up(site, failure);
    kl_buf_free(&layers);
    int there = ok ? settle_existing(site, request, &meta, failure) : -1;
    if (there == 0) {
        int own = prepare(site, request, address, sizeof address, failure);
        ok = own >= 0 && boot(site, name, own, failure) &&
             write_meta(site, request, address, true, failure);
        kl_failure ignored;
        if (!ok)
            remove_machine(site, name, &ignored);
        ok = ok && load_meta(site, name, &meta, failure);
    }
    if (ok && there >= 0)
        answer_machine(site, name, &meta);
    kl_fields_free(&meta);
    return ok && there >= 0;
}

// A machine that is not whole: its creation is under way, and waited for, since it may be what
// somebody looks for whose own helper goes on without him; or it was cut off, and is removed.
static bool settle_half(const kl_site *site, const char *name, kl_failure *failure)
{
    kl_fields meta = {0};
    bool ok = kl_site_claim(site, name, true, failure) && load_meta(site, name, &meta, failure);
    if (ok && kl_fields_get(&meta, "whole") != NULL)
        answer_machine(site, name, &meta);
    else if (ok)
        ok = remove_machine(site, name, failure);
    kl_fields_free(&meta);
    return ok;
}

bool kl_machine_list(kl_site *site, const kl_fields *request, kl_failure *failure)
{
    (void)request;
    char path[PATH_MAX];
    kl_site_path(site, path, sizeof path, "machines");
    DIR *dir = opendir(path);
    if (dir == NULL) {
        kl_failure_errno(failure, errno, path);
        return false;
    }
    bool ok = true;
    for (struct dirent *entry; ok && (entry = readdir(dir)) != NULL;) {
        kl_fields meta = {0};
        if (entry->d_name[0] == '.')
            continue;
        ok = load_meta(site, entry->d_name, &meta, failure);
        if (ok && kl_fields_get(&meta, "whole") != NULL)
            answer_machine(site, entry->d_name, &meta);
        else if (ok)
            ok = settle_half(site, entry->d_name, failure);
        kl_fields_free(&meta);
    }
    closedir(dir);
    return ok;
}

static bool find(const kl_site *site, const kl_fields *request, kl_fields *meta,
                 kl_failure *failure)
{
    const char *name = kl_fields_get(request, "name");
    if (!need_name(name, failure) || !kl_site_claim(site, name, true, failure) ||
        !load_meta(site, name, meta, failure))
        return false;
    if (kl_fields_get(meta, "whole") != NULL)
        return true;
    kl_failure_set(failure, "not_found", 0, "there is no machine %s", name);
    return false;
}

bool kl_machine_start(kl_site *site, const kl_fields *request, kl_failure *failure)
{
    const char *name = kl_fields_get(request, "name");
    kl_fields meta = {0};
    bool ok = find(site, request, &meta, failure) && kl_site_up(site, failure);
    if (ok && !is_running(site, name))
        ok = boot(site, name, -1, failure);
    if (ok)
        answer_machine(site, name, &meta);
    kl_fields_free(&meta);
    return ok;
}

// systemd takes SIGRTMIN+4 for an orderly power-off (systemd(1)).
static bool ask_to_stop(const kl_site *site, const char *name, kl_failure *failure)
{
    pid_t pid = kl_machine_init(site, name);
    if (pid != 0 && kill(pid, SIGRTMIN + 4) != 0 && errno != ESRCH) {
        kl_failure_errno(failure, errno, "kill");
        return false;
    }
    return true;
}

static bool note_off(const kl_site *site, const char *name, kl_failure *failure)
{
    char path[PATH_MAX];
    kl_site_path(site, path, sizeof path, "machines/%s/pid", name);
    if (truncate(path, 0) == 0 || errno == ENOENT)
        return true;
    kl_failure_errno(failure, errno, path);
    return false;
}

bool kl_machine_power_off(kl_site *site, const kl_fields *request, kl_failure *failure)
{
    const char *name = kl_fields_get(request, "name");
    const char *within = kl_fields_get(request, "within");
    char group[PATH_MAX];
    kl_fields meta = {0};
    bool ok = find(site, request, &meta, failure);
    kl_fields_free(&meta);
    if (!ok || !is_running(site, name))
        return ok && note_off(site, name, failure);
    if (!kl_cgroup_path(group, sizeof group, site, name))
        return false;
    // Again every second: a PID 1 that still starts drops signals that it does not handle yet.
    double left = within != NULL ? atof(within) : 30;
    for (bool empty = false; !empty && left > 0; left -= 1) {
        if (!ask_to_stop(site, name, failure))
            return false;
        empty = kl_cgroup_wait_empty(group, left < 1 ? left : 1);
    }
    // What did not end in time is cut off.
    return kl_cgroup_destroy(group, failure) && note_off(site, name, failure);
}

bool kl_machine_destroy(kl_site *site, const kl_fields *request, kl_failure *failure)
{
    const char *name = kl_fields_get(request, "name");
    if (!need_name(name, failure) || !kl_site_claim(site, name, true, failure))
        return false;
    return remove_machine(site, name, failure);
}
