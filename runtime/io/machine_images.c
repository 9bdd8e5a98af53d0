// The images of a site as a list, and their removal.
#include "io/machine.h"

#include "io/files.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

bool kl_image_list(kl_site *site, const kl_fields *request, kl_failure *failure)
{
    (void)request;
    char path[PATH_MAX];
    kl_site_path(site, path, sizeof path, "images");
    DIR *dir = opendir(path);
    if (dir == NULL) {
        kl_failure_errno(failure, errno, path);
        return false;
    }
    bool ok = true;
    for (struct dirent *entry; ok && (entry = readdir(dir)) != NULL;) {
        kl_fields row = {0}, meta = {0};
        if (entry->d_name[0] == '.')
            continue;
        kl_site_path(site, path, sizeof path, "images/%s/meta", entry->d_name);
        ok = kl_fields_load(&meta, path, failure);
        kl_fields_add(&row, "name", entry->d_name);
        kl_buf_append(&row.bytes, kl_buf_text(&meta.bytes), meta.bytes.length);
        if (ok)
            kl_answer_row(&row);
        kl_fields_free(&row);
        kl_fields_free(&meta);
    }
    closedir(dir);
    return ok;
}

// Does a machine or another image stand on it? Names the user.
static bool is_used(const kl_site *site, const char *folder, const char *file, const char *image,
                    kl_failure *failure)
{
    char path[PATH_MAX];
    bool used = false;
    kl_site_path(site, path, sizeof path, "%s", folder);
    DIR *dir = opendir(path);
    for (struct dirent *entry; dir != NULL && !used && (entry = readdir(dir)) != NULL;) {
        kl_buf text = {0};
        kl_failure ignored;
        if (entry->d_name[0] == '.' || strcmp(entry->d_name, image) == 0)
            continue;
        kl_site_path(site, path, sizeof path, "%s/%s/%s", folder, entry->d_name, file);
        if (kl_files_read(&text, path, 1 << 20, &ignored)) {
            const kl_fields fields = {.bytes = text};
            const char *base = strcmp(file, "meta") == 0 ? kl_fields_get(&fields, "image") : NULL;
            char line[160];
            snprintf(line, sizeof line, "%s\n", image);
            const char *at = base != NULL ? NULL : strstr(kl_buf_text(&text), line);
            used = base != NULL ? strcmp(base, image) == 0
                                : at != NULL && (at == text.data || at[-1] == '\n');
        }
        kl_buf_free(&text);
        if (used)
            kl_failure_set(failure, "exists", 0, "image %s is used by %s %s", image,
                           strcmp(folder, "images") == 0 ? "image" : "machine", entry->d_name);
    }
    if (dir != NULL)
        closedir(dir);
    return used;
}

// Is it another one's than who asks? Without a token, nobody's.
static bool is_others(const kl_site *site, const char *name, const char *token)
{
    char path[PATH_MAX];
    kl_fields meta = {0};
    kl_failure ignored; // one that cannot be read is whose it says
    kl_site_path(site, path, sizeof path, "images/%s/meta", name);
    bool read = token != NULL && kl_fields_load(&meta, path, &ignored);
    const char *theirs = read ? kl_fields_get(&meta, "token") : NULL;
    bool others = theirs != NULL && strcmp(theirs, token) != 0;
    kl_fields_free(&meta);
    return others;
}

bool kl_image_remove(kl_site *site, const kl_fields *request, kl_failure *failure)
{
    const char *name = kl_fields_get(request, "image");
    char from[PATH_MAX], to[PATH_MAX];
    if (name == NULL || strchr(name, '/') != NULL || name[0] == '.') {
        kl_failure_set(failure, "invalid", 0, "which image?");
        return false;
    }
    if (!kl_site_claim(site, name, true, failure))
        return false;
    if (is_others(site, name, kl_fields_get(request, "token")))
        return true;
    if (!kl_site_lock(site, failure))
        return false;
    bool ok = !is_used(site, "machines", "meta", name, failure) &&
              !is_used(site, "images", "lowers", name, failure);
    kl_site_path(site, from, sizeof from, "images/%s", name);
    kl_site_path(site, to, sizeof to, "images/.%s.gone", name);
    if (ok && rename(from, to) != 0 && errno != ENOENT) {
        kl_failure_errno(failure, errno, from);
        ok = false;
    }
    kl_site_unlock(site);
    // What a freeze or an unpacking left that was cut off.
    kl_site_path(site, from, sizeof from, "images/.%s.part", name);
    return ok && kl_layer_remove(site, to, failure) && kl_layer_remove(site, from, failure);
}
