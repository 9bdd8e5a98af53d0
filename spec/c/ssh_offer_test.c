// What a host says before encryption begins: whole, cut anywhere, and not SSH at all.
#include "io/ssh_offer.h"

#include <assert.h>
#include <string.h>

static void put_list(kl_buf *out, const char *list)
{
    kl_ssh_put_text(out, list);
}

// A version line, lines before it, and a KEXINIT packet (RFC 4253 section 7.1).
static void make(kl_buf *out)
{
    kl_buf packet = {0};
    kl_buf_append(&packet, "\x04\x14", 2); // padding, SSH_MSG_KEXINIT
    kl_buf_append(&packet, "0123456789abcdef", 16);
    put_list(&packet, "curve25519-sha256,kex-b");
    put_list(&packet, "rsa-sha2-512,ssh-ed25519");
    put_list(&packet, "aes128-ctr");
    put_list(&packet, "aes256-ctr");
    put_list(&packet, "hmac-sha2-256");
    kl_buf_puts(out, "Welcome\r\nto this host\r\nSSH-2.0-OpenSSH_9.2\r\n");
    kl_ssh_put_string(out, packet.data, packet.length);
    kl_buf_free(&packet);
}

static void reads_whole(const kl_buf *bytes)
{
    kl_ssh_offer offer;
    kl_ssh_offer_read(&offer, bytes);
    assert(offer.spoke && offer.listed);
    assert(kl_ssh_string_is(offer.line, "to this host"));
    assert(kl_ssh_string_is(offer.host_keys, "rsa-sha2-512,ssh-ed25519"));
    assert(kl_ssh_string_is(offer.ciphers, "aes128-ctr"));
    assert(kl_ssh_string_is(offer.macs, "hmac-sha2-256"));
    assert(kl_ssh_offer_common(offer.key_exchange, "x,kex-b"));
    assert(!kl_ssh_offer_common(offer.key_exchange, "kex,curve25519,sha256"));
    assert(!kl_ssh_offer_common(offer.key_exchange, ""));
}

// Every shorter beginning, in a block of its own so that a read past it shows.
static void reads_cut(const kl_buf *bytes)
{
    for (size_t length = 0; length < bytes->length; length++) {
        kl_buf cut = {0};
        kl_ssh_offer offer;
        kl_buf_append(&cut, bytes->data, length);
        kl_ssh_offer_read(&offer, &cut);
        assert(!offer.listed);
        assert(offer.spoke ==
               (length >= strlen("Welcome\r\nto this host\r\nSSH-2.0-OpenSSH_9.2\r\n")));
        kl_buf_free(&cut);
    }
}

static void reads_refusal(void)
{
    kl_buf bytes = {0};
    kl_ssh_offer offer;
    kl_buf_puts(&bytes, "Exceeded MaxStartups\r\n");
    kl_ssh_offer_read(&offer, &bytes);
    assert(!offer.spoke && kl_ssh_string_is(offer.line, "Exceeded MaxStartups"));
    bytes.length = 0;
    kl_buf_puts(&bytes, "HTTP/1.1 400 Bad Request");
    kl_ssh_offer_read(&offer, &bytes);
    assert(!offer.spoke && kl_ssh_string_starts(offer.line, "HTTP/1.1 400"));
    kl_buf_puts(&bytes, "\r\n\r\n");
    kl_ssh_offer_read(&offer, &bytes);
    assert(kl_ssh_string_is(offer.line, "HTTP/1.1 400 Bad Request"));
    kl_buf_free(&bytes);
}

int main(void)
{
    kl_buf bytes = {0};
    make(&bytes);
    reads_whole(&bytes);
    reads_cut(&bytes);
    reads_refusal();
    kl_buf_free(&bytes);
    return 0;
}
