// The tar writer against tar(1): names, links and sizes past what a ustar header holds.
#include "io/tar_writer.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void list_archive(kl_buf *out, const kl_buf *archive)
{
    char path[] = "/tmp/kiln-tar-XXXXXX";
    int fd = mkstemp(path);
    assert(fd >= 0);
    FILE *file = fdopen(fd, "wb");
    assert(fwrite(archive->data, 1, archive->length, file) == archive->length);
    fclose(file);
    char command[128], line[2048];
    snprintf(command, sizeof command, "LC_ALL=C tar --utc -tvf %s 2>&1; rm %s", path, path);
    FILE *pipe = popen(command, "r");
    while (fgets(line, sizeof line, pipe) != NULL)
        kl_buf_puts(out, line);
    pclose(pipe);
}

static void test_plain(void)
{
    kl_buf archive = {0}, listing = {0};
    kl_tar_entry folder = {KL_TAR_DIRECTORY, "./etc", NULL, 0755, 0, 0};
    kl_tar_entry file = {KL_TAR_FILE, "./etc/conf", NULL, 04640, 3, 86400};
    kl_tar_entry link = {KL_TAR_LINK, "./link", "etc/conf", 0777, 0, 0};
    kl_tar_header(&archive, &folder);
    kl_tar_header(&archive, &file);
    kl_buf_append(&archive, "abc", 3);
    kl_tar_pad(&archive, 3);
    kl_tar_header(&archive, &link);
    kl_tar_end(&archive);
    assert(archive.length == (size_t)6 * 512);
    list_archive(&listing, &archive);
    assert(strstr(listing.data, "drwxr-xr-x 0/0") != NULL);
    assert(strstr(listing.data, "-rwSr-----") != NULL);
    assert(strstr(listing.data, "1970-01-02 00:00 ./etc/conf\n") != NULL);
    assert(strstr(listing.data, "./link -> etc/conf\n") != NULL);
    kl_buf_free(&archive);
    kl_buf_free(&listing);
}

// Every length around the limit of 100 bytes, and where the record's own length gains a digit.
static void test_long_names(void)
{
    for (size_t length = 80; length < 1010; length += length < 110 ? 1 : 37) {
        kl_buf archive = {0}, listing = {0}, name = {0}, line = {0};
        kl_buf_puts(&name, "./");
        while (name.length < length)
            kl_buf_puts(&name, name.length % 50 == 0 ? "/" : "n");
        kl_tar_entry file = {KL_TAR_FILE, name.data, NULL, 0644, 0, 0};
        kl_tar_entry link = {KL_TAR_LINK, "./link", name.data, 0777, 0, 0};
        kl_tar_header(&archive, &file);
        kl_tar_header(&archive, &link);
        kl_tar_end(&archive);
        list_archive(&listing, &archive);
        kl_buf_printf(&line, " %s\n", name.data);
        assert(strstr(listing.data, line.data) != NULL);
        line.length = 0;
        kl_buf_printf(&line, " ./link -> %s\n", name.data);
        assert(strstr(listing.data, line.data) != NULL);
        kl_buf_free(&archive);
        kl_buf_free(&listing);
        kl_buf_free(&name);
        kl_buf_free(&line);
    }
}

static void test_huge_size(void)
{
    kl_buf archive = {0}, listing = {0};
    kl_tar_entry file = {KL_TAR_FILE, "./huge", NULL, 0644, 9000000000ULL, 0};
    kl_tar_header(&archive, &file);
    list_archive(&listing, &archive);
    assert(strstr(listing.data, " 9000000000 ") != NULL);
    kl_buf_free(&archive);
    kl_buf_free(&listing);
}

int main(void)
{
    test_plain();
    test_long_names();
    test_huge_size();
    return 0;
}
