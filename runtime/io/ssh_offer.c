// What a host says before encryption begins (RFC 4253 sections 4.2, 6 and 7.1).
#include "io/ssh_offer.h"

#include <string.h>

#define KEXINIT 20

// Takes a line without its end. False: there is no whole one.
static bool take_line(const kl_buf *bytes, size_t *at, kl_ssh_string *out)
{
    const char *start = bytes->data + *at;
    const char *end = *at < bytes->length ? memchr(start, '\n', bytes->length - *at) : NULL;
    if (end == NULL)
        return false;
    *at += (size_t)(end - start) + 1;
    *out = (kl_ssh_string){start, (size_t)(end - start)};
    if (out->length > 0 && start[out->length - 1] == '\r')
        out->length--;
    return true;
}

static void read_lists(kl_ssh_offer *out, const char *data, size_t length)
{
    kl_ssh_reader packet = kl_ssh_reader_of(data, length);
    kl_ssh_take_u32(&packet);  // the packet's length
    kl_ssh_take_byte(&packet); // and that of its padding
    if (kl_ssh_take_byte(&packet) != KEXINIT)
        return;
    for (int i = 0; i < 4; i++) // the cookie
        kl_ssh_take_u32(&packet);
    out->key_exchange = kl_ssh_take_string(&packet);
    out->host_keys = kl_ssh_take_string(&packet);
    out->ciphers = kl_ssh_take_string(&packet);
    kl_ssh_take_string(&packet); // the other direction's
    out->macs = kl_ssh_take_string(&packet);
    out->listed = !packet.bad;
}

void kl_ssh_offer_read(kl_ssh_offer *out, const kl_buf *bytes)
{
    *out = (kl_ssh_offer){.line = {"", 0}};
    size_t at = 0;
    kl_ssh_string line;
    while (take_line(bytes, &at, &line)) {
        if (kl_ssh_string_starts(line, "SSH-")) {
            out->spoke = true;
            read_lists(out, bytes->data + at, bytes->length - at);
            return;
        }
        if (line.length > 0)
            out->line = line;
    }
    if (at < bytes->length) // a last line without its end
        out->line = (kl_ssh_string){bytes->data + at, bytes->length - at};
}

static bool has(kl_ssh_string list, const char *name, size_t length)
{
    for (size_t at = 0; at < list.length;) {
        const char *comma = memchr(list.data + at, ',', list.length - at);
        size_t end = comma != NULL ? (size_t)(comma - list.data) : list.length;
        if (end - at == length && memcmp(list.data + at, name, length) == 0)
            return true;
        at = end + 1;
    }
    return false;
}

bool kl_ssh_offer_common(kl_ssh_string list, const char *other)
{
    while (*other != '\0') {
        size_t length = strcspn(other, ",");
        if (has(list, other, length))
            return true;
        other += length + (other[length] == ',');
    }
    return false;
}
