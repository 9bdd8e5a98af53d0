// Which machines may open connections to which. A machine has a group (its project and service),
// and admits its own and those that it was told to: "project/service", or "*/service" for any
// project.
#include "io/machine.h"

#include "base/ending.h"
#include "io/files.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct peer {
    char address[32], group[200];
    char admits[2000]; // words, each ended by a newline
} peer;

typedef struct peers {
    peer of[256];
    int count;
} peers;

static void add_peer(const kl_site *site, const char *name, peers *out)
{
    char path[PATH_MAX];
    kl_fields meta = {0};
    kl_buf told = {0};
    kl_failure ignored = {0}; // one that is half made or half removed talks to nobody
    if (out->count == 256)
        return;
    kl_site_path(site, path, sizeof path, "machines/%s/meta", name);
    bool ok = kl_fields_load(&meta, path, &ignored);
    const char *address = kl_fields_get(&meta, "address"), *group = kl_fields_get(&meta, "group");
    if (ok && address != NULL) {
        peer *self = &out->of[out->count++];
        kl_site_path(site, path, sizeof path, "machines/%s/admits", name);
        kl_files_read(&told, path, sizeof self->admits / 2, &ignored);
        snprintf(self->address, sizeof self->address, "%s", address);
        snprintf(self->group, sizeof self->group, "%s", group != NULL ? group : "");
        snprintf(self->admits, sizeof self->admits, "%s\n%s", group != NULL ? group : "",
                 kl_buf_text(&told));
    }
    kl_buf_free(&told);
    kl_fields_free(&meta);
}

static bool admits(const peer *self, const char *group)
{
    const char *service = strrchr(group, '/');
    for (const char *word = self->admits; *word != '\0'; word += strcspn(word, "\n") + 1) {
        size_t length = strcspn(word, "\n");
        bool any = strncmp(word, "*/", 2) == 0 && service != NULL &&
                   strlen(service) == length - 1 && strncmp(word + 1, service, length - 1) == 0;
        if (any || (strlen(group) == length && strncmp(word, group, length) == 0))
            return true;
        if (word[length] == '\0')
            break;
    }
    return false;
}

// The mark of a group is the number of the first machine that has it, from 1.
static int mark_of(const peers *all, const char *group)
{
    for (int i = 0; i < all->count; i++) {
        if (strcmp(all->of[i].group, group) == 0)
            return i + 1;
    }
    return 0;
}

static void add_elements(const peers *all, kl_buf *out)
{
    for (int i = 0; i < all->count; i++) {
        const peer *from = &all->of[i];
        int mark = mark_of(all, from->group);
        if (from->group[0] == '\0')
            continue;
        kl_buf_printf(out, "add element ip kiln groups { %s : %d }\n", from->address, mark);
        for (int j = 0; mark == i + 1 && j < all->count; j++) {
            if (admits(&all->of[j], from->group))
                kl_buf_printf(out, "add element ip kiln admits { %d . %s }\n", mark,
                              all->of[j].address);
        }
    }
}

bool kl_peers_apply(const kl_site *site, kl_failure *failure)
{
    char path[PATH_MAX];
    kl_buf text = {0};
    peers *all = kl_need(calloc(1, sizeof *all));
    kl_site_path(site, path, sizeof path, "machines");
    DIR *dir = opendir(path);
    for (struct dirent *entry; dir != NULL && (entry = readdir(dir)) != NULL;) {
        if (entry->d_name[0] != '.')
            add_peer(site, entry->d_name, all);
    }
    if (dir != NULL)
        closedir(dir);
    kl_buf_puts(&text, "flush map ip kiln groups\nflush set ip kiln admits\n");
    add_elements(all, &text);
    bool ok = kl_net_rules(site, kl_buf_text(&text), failure); // one transaction
    free(all);
    kl_buf_free(&text);
    return ok;
}

static bool note(const kl_site *site, const char *name, const char *group, kl_failure *failure)
{
    char path[PATH_MAX], line[256];
    kl_buf text = {0};
    kl_failure none = {0};
    kl_site_path(site, path, sizeof path, "machines/%s/admits", name);
    kl_files_read(&text, path, 4096, &none);
    snprintf(line, sizeof line, "%s\n", group);
    bool ok = true;
    if (strstr(kl_buf_text(&text), line) == NULL) {
        kl_buf_puts(&text, line);
        ok = kl_files_write(path, text.data, text.length, 0600, KL_FILES_REPLACE, failure);
    }
    kl_buf_free(&text);
    return ok;
}

bool kl_machine_admit(kl_site *site, const kl_fields *request, kl_failure *failure)
{
    const char *name = kl_fields_get(request, "name"), *group = kl_fields_get(request, "group");
    char path[PATH_MAX];
    struct stat there;
    if (name == NULL || group == NULL || strpbrk(name, "/.") != NULL || strchr(group, '\n')) {
        kl_failure_set(failure, "invalid", 0, "admit needs a machine and a group");
        return false;
    }
    if (!kl_site_claim(site, name, true, failure) || !kl_site_up(site, failure))
        return false;
    kl_site_path(site, path, sizeof path, "machines/%s", name);
    if (lstat(path, &there) != 0) {
        kl_failure_set(failure, "not_found", 0, "there is no machine %s", name);
        return false;
    }
    if (!kl_site_lock(site, failure))
        return false;
    bool ok = note(site, name, group, failure) && kl_peers_apply(site, failure);
    kl_site_unlock(site);
    return ok;
}
