// Tar archives as bytes. The layout is that of POSIX.1-2017, pax, "ustar Interchange Format".
#include "io/tar_writer.h"

#include <stdio.h>
#include <string.h>

#define BLOCK 512
#define NAME_MAX_BYTES 100
#define SIZE_MAX_OCTAL 077777777777ULL

typedef struct tar_block {
    char name[100];
    char mode[8];
    char uid[8];
    char gid[8];
    char size[12];
    char mtime[12];
    char checksum[8];
    char type;
    char link[100];
    char magic[6];
    char version[2];
    char user[32];
    char group[32];
    char device_major[8];
    char device_minor[8];
    char prefix[155];
    char unused[12];
} tar_block;

_Static_assert(sizeof(tar_block) == BLOCK, "a tar header is one block");

static void octal(char *field, size_t width, uint64_t value)
{
    char digits[24];
    snprintf(digits, sizeof digits, "%0*llo", (int)width - 1, (unsigned long long)value);
    memcpy(field, digits, width);
}

static void copy_name(char *field, const char *text)
{
    size_t length = strlen(text);
    memcpy(field, text, length < NAME_MAX_BYTES ? length : NAME_MAX_BYTES);
}

static void put_block(kl_buf *out, const kl_tar_entry *entry)
{
    tar_block block;
    memset(&block, 0, sizeof block);
    copy_name(block.name, entry->path);
    if (entry->link != NULL)
        copy_name(block.link, entry->link);
    octal(block.mode, sizeof block.mode, entry->mode & 07777);
    octal(block.uid, sizeof block.uid, 0);
    octal(block.gid, sizeof block.gid, 0);
    octal(block.size, sizeof block.size, entry->size > SIZE_MAX_OCTAL ? 0 : entry->size);
    octal(block.mtime, sizeof block.mtime, entry->mtime > 0 ? (uint64_t)entry->mtime : 0);
    block.type = (char)entry->type;
    memcpy(block.magic, "ustar", sizeof block.magic);
    memcpy(block.version, "00", sizeof block.version);
    memset(block.checksum, ' ', sizeof block.checksum);
    unsigned sum = 0;
    for (size_t i = 0; i < sizeof block; i++)
        sum += ((unsigned char *)&block)[i];
    octal(block.checksum, sizeof block.checksum - 1, sum); // six digits, NUL, blank
    kl_buf_append(out, &block, sizeof block);
}

// "<length> key=value\n", where the length counts itself.
static void put_record(kl_buf *out, const char *key, const char *value)
{
    size_t rest = strlen(key) + strlen(value) + 3; // blank, =, newline
    size_t length = rest + 1;
    for (int i = 0; i < 4; i++)
        length = rest + (size_t)snprintf(NULL, 0, "%zu", length);
    kl_buf_printf(out, "%zu %s=%s\n", length, key, value);
}

static void put_extension(kl_buf *out, const kl_tar_entry *entry)
{
    kl_buf records = {0};
    if (strlen(entry->path) > NAME_MAX_BYTES)
        put_record(&records, "path", entry->path);
    if (entry->link != NULL && strlen(entry->link) > NAME_MAX_BYTES)
        put_record(&records, "linkpath", entry->link);
    if (entry->size > SIZE_MAX_OCTAL) {
        char size[24];
        snprintf(size, sizeof size, "%llu", (unsigned long long)entry->size);
        put_record(&records, "size", size);
    }
    if (records.length > 0) {
        kl_tar_entry head = {(kl_tar_type)'x', "./pax", NULL, 0644, records.length, 0};
        put_block(out, &head);
        kl_buf_append(out, records.data, records.length);
        kl_tar_pad(out, records.length);
    }
    kl_buf_free(&records);
}

void kl_tar_header(kl_buf *out, const kl_tar_entry *entry)
{
    put_extension(out, entry);
    put_block(out, entry);
}

void kl_tar_pad(kl_buf *out, uint64_t size)
{
    static const char zeros[BLOCK];
    kl_buf_append(out, zeros, (size_t)(BLOCK - size % BLOCK) % BLOCK);
}

void kl_tar_end(kl_buf *out)
{
    static const char zeros[2 * BLOCK];
    kl_buf_append(out, zeros, sizeof zeros);
}
