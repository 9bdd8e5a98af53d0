// Images of local machines: images/<name>/ has fs/ (one layer), lowers (the images below it, from
// the top, one a line) and meta. A layer never changes; a machine from it is a mount.
#include "io/machine.h"

#include "io/files.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

static bool is_image_name(const char *name)
{
    return name != NULL && name[0] != '.' && strlen(name) < 128 && name[0] != '\0' &&
           strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789-_.") == strlen(name);
}

bool kl_image_layers(const kl_site *site, const char *image, kl_buf *out, kl_failure *failure)
{
    char path[PATH_MAX];
    kl_buf lowers = {0};
    kl_failure local = {0};
    kl_site_path(site, path, sizeof path, "images/%s/lowers", image);
    if (!is_image_name(image) || !kl_files_read(&lowers, path, 65536, &local)) {
        kl_failure_set(failure, "not_found", 0, "there is no image %s", image);
        return false;
    }
    kl_buf_printf(out, "images/%s/fs", image);
    char *rest = lowers.data;
    for (char *line; rest != NULL && (line = strsep(&rest, "\n")) != NULL && line[0] != '\0';)
        kl_buf_printf(out, ":images/%s/fs", line);
    kl_buf_free(&lowers);
    return true;
}

static void finish_meta(kl_fields *meta, const kl_fields *request)
{
    static const char *const kept[] = {"token", "data"};
    char text[32];
    for (size_t i = 0; i < sizeof kept / sizeof kept[0]; i++) {
        const char *value = kl_fields_get(request, kept[i]);
        if (value != NULL)
            kl_fields_add(meta, kept[i], value);
    }
    snprintf(text, sizeof text, "%lld", (long long)time(NULL));
    kl_fields_add(meta, "created", text);
}

static void answer_image(const char *name, const kl_fields *meta)
{
    kl_fields row = {0};
    kl_fields_add(&row, "name", name);
    kl_buf_append(&row.bytes, meta->bytes.data, meta->bytes.length);
    kl_answer_row(&row);
    kl_fields_free(&row);
}

// Writes lowers and meta into the folder `part`, and brings all of the site to the disk.
static bool describe(const kl_site *site, const char *part, const char *lowers,
                     const kl_fields *meta, kl_failure *failure)
{
    char path[PATH_MAX];
    kl_site_path(site, path, sizeof path, "images/%s/lowers", part);
    if (!kl_files_write(path, lowers, strlen(lowers), 0644, KL_FILES_REPLACE, failure))
        return false;
    kl_site_path(site, path, sizeof path, "images/%s/meta", part);
    if (!kl_fields_save(meta, path, failure))
        return false;
    bool synced = syncfs(site->lock) == 0;
    if (!synced)
        kl_failure_errno(failure, errno, path);
    return synced;
}

// Gives the folder `part` its name: from then on it is whole.
static bool publish(const kl_site *site, const char *part, const char *name, kl_failure *failure)
{
    char from[PATH_MAX], to[PATH_MAX];
    kl_site_path(site, from, sizeof from, "images/%s", part);
    kl_site_path(site, to, sizeof to, "images/%s", name);
    if (rename(from, to) == 0)
        return true;
    kl_failure_errno(failure, errno, to);
    return false;
}

static bool exists(const kl_site *site, const char *format, const char *name)
{
    char path[PATH_MAX];
    kl_site_path(site, path, sizeof path, format, name);
    return access(path, F_OK) == 0;
}

static bool load_image(const kl_site *site, const char *name, kl_fields *meta, kl_failure *failure)
{
    char path[PATH_MAX];
    kl_site_path(site, path, sizeof path, "images/%s/meta", name);
    return kl_fields_load(meta, path, failure);
}

static bool answer_existing(const kl_site *site, const char *name, kl_failure *failure)
{
    kl_fields meta = {0};
    bool ok = load_image(site, name, &meta, failure);
    if (ok)
        answer_image(name, &meta);
    kl_fields_free(&meta);
    return ok;
}

// `ids`: the first host id of its layer.
static bool make_part(const kl_site *site, const char *part, bool with_fs, unsigned ids,
                      kl_failure *failure)
{
    char path[PATH_MAX], layer[PATH_MAX + 4];
    kl_site_path(site, path, sizeof path, "images/%s", part);
    snprintf(layer, sizeof layer, "%s/fs", path);
    return kl_site_own_folder(site, site->fd, path, 0755, false, failure) &&
           kl_ids_note(site, path, ids, failure) &&
           (!with_fs || kl_site_own_folder(site, site->fd, layer, 0755, true, failure));
}

// By its magic number (RFC 8878, 3.1.1); on a pipe tar cannot look for itself.
static bool is_zstd(const char *path)
{
    static const unsigned char magic[] = {0x28, 0xb5, 0x2f, 0xfd};
    unsigned char bytes[4] = {0};
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t got = fd >= 0 ? read(fd, bytes, sizeof bytes) : -1;
    if (fd >= 0)
        close(fd);
    return got == (ssize_t)sizeof bytes && memcmp(bytes, magic, sizeof magic) == 0;
}

// Unpacks a root file system's archive, as the root of the user namespace, into a bottom layer.
bool kl_image_unpack(kl_site *site, const kl_fields *request, kl_failure *failure)
{
    const char *name = kl_fields_get(request, "image"), *tar = kl_fields_get(request, "tar");
    char part[160], target[PATH_MAX];
    if (!is_image_name(name) || tar == NULL) {
        kl_failure_set(failure, "invalid", 0, "unpack needs an image's name and a tar archive");
        return false;
    }
    if (!kl_site_claim(site, name, true, failure))
        return false;
    if (exists(site, "images/%s", name))
        return answer_existing(site, name, failure);
    snprintf(part, sizeof part, ".%s.part", name);
    kl_site_path(site, target, sizeof target, "images/%s", part);
    if (!kl_site_up(site, failure) || !kl_layer_remove(site, target, failure) ||
        !make_part(site, part, true, (unsigned)site->uid, failure))
        return false;
    // The namespace's root may not reach the archive: it comes on standard input.
    kl_site_path(site, target, sizeof target, "images/%s/fs", part);
    char *const extract[] = {
        "tar", "--numeric-owner", "--exclude=./dev/*", "-xf", "-", is_zstd(tar) ? "--zstd" : NULL,
        NULL};
    kl_command command = {
        .argv = extract, .input_file = tar, .site = site, .as = KL_AS_LAYERS, .dir = target};
    kl_fields meta = {0};
    finish_meta(&meta, request);
    bool ok = kl_command_run(&command, NULL, failure) && describe(site, part, "", &meta, failure) &&
              publish(site, part, name, failure);
    if (ok)
        answer_image(name, &meta);
    kl_fields_free(&meta);
    return ok;
}

static bool clean(const kl_site *site, const char *machine, const char *image, kl_failure *failure)
{
    kl_buf layers = {0};
    bool ok = kl_image_layers(site, image, &layers, failure) &&
              kl_scrub(site, machine, kl_buf_text(&layers), failure);
    kl_buf_free(&layers);
    return ok;
}

// The digest and size of a layer: of a tar archive with everything in a fixed order.
static bool digest_layer(const void *ctx, kl_buf *out, kl_failure *failure)
{
    char command[200], block[65536];
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned int size = 0;
    long long bytes = 0;
    size_t got;
    if (setenv("KILN_LAYER", ctx, 1) != 0) // by the environment: a path is never shell text
        return false;
    snprintf(command, sizeof command,
             "exec tar --sort=name --numeric-owner --xattrs --xattrs-include='user.overlay.*' "
             "-C \"$KILN_LAYER\" -cf - . 2>/dev/null");
    FILE *in = popen(command, "re");
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    bool ok = in != NULL && context != NULL && EVP_DigestInit_ex(context, EVP_sha256(), NULL) == 1;
    while (ok && (got = fread(block, 1, sizeof block, in)) > 0) {
        EVP_DigestUpdate(context, block, got);
        bytes += (long long)got;
    }
    ok = ok && EVP_DigestFinal_ex(context, digest, &size) == 1;
    EVP_MD_CTX_free(context);
    if (in != NULL && pclose(in) != 0)
        ok = false;
    if (!ok) {
        kl_failure_set(failure, "io", 0, "tar cannot read %s", (const char *)ctx);
        return false;
    }
    for (unsigned i = 0; i < size; i++)
        kl_buf_printf(out, "%02x", digest[i]);
    kl_buf_printf(out, " %lld", bytes);
    return true;
}

// As the root of the layers: so the ids in it are a machine's, on every host and for every user.
static bool add_digest(const kl_site *site, const char *folder, const char *layer, kl_fields *meta,
                       kl_failure *failure)
{
    kl_buf text = {0};
    char digest[EVP_MAX_MD_SIZE * 2 + 1], bytes[32];
    int tree = kl_layers_tree(site, folder, "", (unsigned)site->uid, failure);
    bool ok = tree >= 0 && kl_inside(site, tree, digest_layer, layer, &text, failure) &&
              sscanf(kl_buf_text(&text), "%128s %31s", digest, bytes) == 2;
    if (tree >= 0)
        close(tree);
    if (ok) {
        kl_fields_add(meta, "digest", digest);
        kl_fields_add(meta, "bytes", bytes);
    }
    kl_buf_free(&text);
    return ok;
}

// "parent\nits lowers…", what the new image stands on.
static bool lowers_of(const kl_site *site, const char *parent, kl_buf *out, kl_failure *failure)
{
    char path[PATH_MAX];
    kl_buf_printf(out, "%s\n", parent);
    kl_site_path(site, path, sizeof path, "images/%s/lowers", parent);
    return kl_files_read(out, path, 65536, failure);
}

// Moves the layer into the folder `part`. All that takes time happens while it is still the
// machine's. Cut off between the two renames, it is completed by a freeze of the same name.
static bool take_layer(const kl_site *site, const char *machine, const char *part,
                       const char *parent, kl_fields *meta, kl_failure *failure)
{
    char from[160], to[192], upper[192], layer[224];
    unsigned ids = 0;
    snprintf(from, sizeof from, "machines/%s", machine);
    snprintf(to, sizeof to, "images/%s", part);
    snprintf(upper, sizeof upper, "%s/upper", from);
    snprintf(layer, sizeof layer, "%s/fs", to);
    bool taken = access(layer, F_OK) == 0;
    return (taken || clean(site, machine, parent, failure)) &&
           (site->ordinary || kl_ids_of_folder(from, &ids, failure)) &&
           make_part(site, part, false, ids, failure) &&
           add_digest(site, taken ? to : from, taken ? "fs" : "upper", meta, failure) &&
           (taken || kl_layer_move(site, upper, layer, failure));
}

// The same from a disk, by a copy: one that was cut off is made anew.
static bool copy_layer(const kl_site *site, const char *machine, const char *part,
                       const char *parent, kl_fields *meta, kl_failure *failure)
{
    char to[192], layer[224];
    snprintf(to, sizeof to, "images/%s", part);
    snprintf(layer, sizeof layer, "%s/fs", to);
    return clean(site, machine, parent, failure) && kl_layer_remove(site, to, failure) &&
           make_part(site, part, true, (unsigned)site->uid, failure) &&
           kl_layer_copy(site, machine, layer, failure) &&
           add_digest(site, to, "fs", meta, failure);
}

static bool freeze(const kl_site *site, const kl_fields *request, const char *parent,
                   kl_failure *failure)
{
    const char *machine = kl_fields_get(request, "name"), *name = kl_fields_get(request, "image");
    char part[160];
    kl_fields meta = {0};
    kl_buf lowers = {0};
    snprintf(part, sizeof part, ".%s.part", name);
    finish_meta(&meta, request);
    bool ok =
        (kl_disk_exists(site, machine) ? copy_layer(site, machine, part, parent, &meta, failure)
                                       : take_layer(site, machine, part, parent, &meta, failure)) &&
        lowers_of(site, parent, &lowers, failure) &&
        describe(site, part, kl_buf_text(&lowers), &meta, failure) &&
        publish(site, part, name, failure);
    if (ok)
        answer_image(name, &meta);
    kl_buf_free(&lowers);
    kl_fields_free(&meta);
    return ok;
}

// The machine has lost its identity, or its layer: it can only be destroyed afterwards.
bool kl_image_freeze(kl_site *site, const kl_fields *request, kl_failure *failure)
{
    const char *machine = kl_fields_get(request, "name"), *name = kl_fields_get(request, "image");
    char path[PATH_MAX];
    kl_fields meta = {0};
    if (!is_image_name(machine) || !is_image_name(name)) {
        kl_failure_set(failure, "invalid", 0, "freeze needs a machine and a name for the image");
        return false;
    }
    if (!kl_site_claim(site, machine, true, failure) || !kl_site_claim(site, name, true, failure))
        return false;
    if (exists(site, "images/%s", name))
        return answer_existing(site, name, failure);
    if (kl_cgroup_path(path, sizeof path, site, machine) && kl_cgroup_populated(path)) {
        kl_failure_set(failure, "invalid", 0, "machine %s runs; power it off first", machine);
        return false;
    }
    kl_site_path(site, path, sizeof path, "machines/%s/meta", machine);
    bool ok = kl_fields_load(&meta, path, failure);
    const char *parent = kl_fields_get(&meta, "image");
    if (ok && parent == NULL) {
        kl_failure_set(failure, "not_found", 0, "there is no machine %s", machine);
        ok = false;
    }
    ok = ok && kl_site_up(site, failure) && freeze(site, request, parent, failure);
    kl_fields_free(&meta);
    return ok;
}
