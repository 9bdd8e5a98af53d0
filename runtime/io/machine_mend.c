// A router that was lost under its machines: a new one gives them new cables. An ordinary user's is
// made in the user namespace of the old one, which the machines hold on within it.
#include "io/machine.h"

#include "io/files.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>

pid_t kl_machine_init(const kl_site *site, const char *name)
{
    char path[PATH_MAX];
    kl_buf text = {0};
    kl_failure ignored;
    kl_site_path(site, path, sizeof path, "machines/%s/pid", name);
    pid_t pid = kl_files_read(&text, path, 64, &ignored) ? atoi(kl_buf_text(&text)) : 0;
    kl_buf_free(&text);
    return pid > 1 ? pid : 0;
}

pid_t kl_machine_running(const kl_site *site, const char *name)
{
    char group[PATH_MAX];
    if (name[0] == '.' || !kl_cgroup_path(group, sizeof group, site, name) ||
        !kl_cgroup_populated(group))
        return 0;
    return kl_machine_init(site, name);
}

pid_t kl_machine_survivor(const kl_site *site)
{
    char path[PATH_MAX];
    pid_t pid = 0;
    kl_site_path(site, path, sizeof path, "machines");
    DIR *dir = opendir(path);
    for (struct dirent *entry; dir != NULL && pid == 0 && (entry = readdir(dir)) != NULL;)
        pid = kl_machine_running(site, entry->d_name);
    if (dir != NULL)
        closedir(dir);
    return pid;
}

bool kl_machine_reattach_one(const kl_site *site, const char *name, kl_failure *failure)
{
    char path[PATH_MAX];
    kl_fields meta = {0};
    kl_failure ignored;
    pid_t pid = kl_machine_running(site, name);
    if (pid == 0)
        return true;
    kl_site_path(site, path, sizeof path, "machines/%s/meta", name);
    bool ok = kl_fields_load(&meta, path, failure);
    const char *address = kl_fields_get(&meta, "address");
    if (ok && address != NULL) {
        // The kernel may not have taken the old cable's end away yet.
        char *const argv[] = {"ip", "link", "del", "eth0", NULL};
        kl_command remove = {.argv = argv, .site = site, .as = KL_AS_NET, .net = pid};
        kl_command_run(&remove, NULL, &ignored);
        ok = kl_net_attach(site, pid, address, failure);
    }
    kl_fields_free(&meta);
    return ok;
}

bool kl_machine_reattach(const kl_site *site, kl_failure *failure)
{
    char path[PATH_MAX];
    bool ok = true;
    kl_site_path(site, path, sizeof path, "machines");
    DIR *dir = opendir(path);
    for (struct dirent *entry; ok && dir != NULL && (entry = readdir(dir)) != NULL;)
        ok = kl_machine_reattach_one(site, entry->d_name, failure);
    if (dir != NULL)
        closedir(dir);
    return ok && kl_peers_apply(site, failure);
}
