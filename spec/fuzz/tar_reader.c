// tar: fuzzes the unpacking of a downloaded tree; nothing may come to lie, or change, outside of
// its folder.
#include "io/files.h"
#include "io/tar_unpack.h"

#include <assert.h>
#include <dirent.h>
#include <ftw.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length);
void __wrap_kl_bcrypt_kdf(void);
void __wrap_kl_bcrypt_kdf(void)
{
    abort(); // no keys here
}

static char top[64]; // holds input.tar, tree/, and outside/ with one file

static const char *in_top(const char *name)
{
    static char path[4][128];
    static unsigned next;
    char *out = path[next++ % 4];
    snprintf(out, 128, "%s/%s", top, name);
    return out;
}

static void write_file(const char *path, const void *bytes, size_t length)
{
    kl_failure failure = {0};
    bool ok = kl_files_write(path, bytes, length, 0600, KL_FILES_REPLACE, &failure);
    assert(ok);
}

static void remove_top(void)
{
    kl_failure failure = {0};
    kl_files_remove(top, true, &failure);
}

static void open_top(void)
{
    snprintf(top, sizeof top, "%s/kiln-fuzz-tar-XXXXXX",
             access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
    assert(mkdtemp(top) != NULL);
    assert(mkdir(in_top("outside"), 0700) == 0);
    write_file(in_top("outside/file"), "whole", 5);
    atexit(remove_top);
}

static int count(const char *folder)
{
    int found = 0;
    DIR *dir = opendir(folder);
    assert(dir != NULL);
    for (struct dirent *entry; (entry = readdir(dir)) != NULL;)
        found += strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0;
    closedir(dir);
    return found;
}

// Inside: files, folders and links alone, without set-id bits.
static int check_one(const char *path, const struct stat *about, int type, struct FTW *where)
{
    (void)path, (void)type, (void)where;
    bool known = S_ISREG(about->st_mode) || S_ISDIR(about->st_mode) || S_ISLNK(about->st_mode);
    assert(known);
    assert(S_ISLNK(about->st_mode) || (about->st_mode & 07000) == 0);
    return 0;
}

static void check_outside(void)
{
    kl_buf text = {0};
    kl_failure failure = {0};
    struct stat about;
    assert(count(top) == 3 && count(in_top("outside")) == 1);
    assert(stat(in_top("outside/file"), &about) == 0 && about.st_nlink == 1);
    assert((about.st_mode & 07777) == 0600);
    bool read = kl_files_read(&text, in_top("outside/file"), 64, &failure);
    assert(read && strcmp(kl_buf_text(&text), "whole") == 0);
    kl_buf_free(&text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length)
{
    if (top[0] == '\0')
        open_top();
    write_file(in_top("input.tar"), data, length);
    assert(mkdir(in_top("tree"), 0700) == 0);
    atomic_bool stop = false;
    uint64_t bytes;
    kl_failure failure = {0};
    if (!kl_tar_unpack(in_top("input.tar"), in_top("tree"), &stop, &bytes, &failure))
        assert(kl_failed(&failure) && failure.message[0] != '\0');
    check_outside();
    nftw(in_top("tree"), check_one, 16, FTW_PHYS);
    failure = (kl_failure){0};
    bool removed = kl_files_remove(in_top("tree"), true, &failure);
    assert(removed);
    return 0;
}
