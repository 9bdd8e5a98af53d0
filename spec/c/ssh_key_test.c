// Pinned host keys as text: what is taken, what is refused, and the fingerprint.
#include "io/ssh_key.h"
#include "io/ssh_pin.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#define BLOB "AAAAC3NzaC1lZDI1NTE5AAAAIBPjCp2lRO9HBTdkXTqFNxwBCXQYRsmZZCbnnkYCMYSA"

static void takes(const char *text)
{
    kl_ssh_pins pins = {0};
    kl_failure failure = {0};
    kl_buf preference = {0};
    assert(kl_ssh_pins_add(&pins, text, &failure));
    assert(kl_ssh_pins_preference(&pins, &preference, &failure));
    assert(strcmp(kl_buf_text(&preference), "ssh-ed25519") == 0);
    assert(pins.list[0].blob.length == 51);
    assert(kl_ssh_pins_find(&pins, pins.list[0].blob.data, 51) == &pins.list[0]);
    assert(kl_ssh_pins_find(&pins, pins.list[0].blob.data, 50) == NULL);
    kl_buf_free(&preference);
    kl_ssh_pins_free(&pins);
}

static void refuses(const char *text)
{
    kl_ssh_pins pins = {0};
    kl_failure failure = {0};
    assert(!kl_ssh_pins_add(&pins, text, &failure));
    assert(failure.kind != NULL && pins.count == 0);
    kl_ssh_pins_free(&pins);
}

// A revoked key is found before the same key without the mark, and asked for by nobody.
static void revokes(void)
{
    kl_ssh_pins pins = {0};
    kl_failure failure = {0};
    kl_buf preference = {0};
    assert(kl_ssh_pins_add(&pins, "@revoked ssh-ed25519 " BLOB, &failure));
    assert(!kl_ssh_pins_preference(&pins, &preference, &failure));
    assert(strcmp(failure.kind, "invalid") == 0);
    assert(kl_ssh_pins_add(&pins, "ssh-ed25519 " BLOB, &failure));
    assert(kl_ssh_pins_find(&pins, pins.list[1].blob.data, 51)->revoked);
    kl_buf_free(&preference);
    kl_ssh_pins_free(&pins);
}

static void refuses_key(const char *text)
{
    kl_failure failure = {0};
    assert(kl_ssh_key_read(text, strlen(text), NULL, NULL, &failure) == NULL);
    assert(strcmp(failure.kind, "auth") == 0);
}

static void shows_fingerprint(void)
{
    kl_ssh_pins pins = {0};
    kl_failure failure = {0};
    char shown[64];
    assert(kl_ssh_pins_add(&pins, "ssh-ed25519 " BLOB, &failure));
    kl_ssh_fingerprint(shown, pins.list[0].blob.data, pins.list[0].blob.length);
    assert(strncmp(shown, "SHA256:", 7) == 0 && strlen(shown) == 50);
    kl_ssh_pins_free(&pins);
}

int main(void)
{
    takes("ssh-ed25519 " BLOB);
    takes("  ssh-ed25519\t" BLOB " root@host\n");
    takes("ssh-ed25519 " BLOB "\n");
    refuses("");
    refuses("ssh-ed25519");
    refuses("ssh-ed25519 ");
    refuses("ssh-ed25519 AAAA");
    refuses("ssh-ed25519 ====");
    refuses("ssh-ed25519 !!!!");
    refuses("ssh-ed25519 " BLOB "A");
    refuses("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5"); // shorter than its first string says
    refuses("ecdsa-sha2-nistp256 " BLOB);        // another type inside
    refuses("ssh-ed25519-and-a-very-long-type-name-that-does-not-fit " BLOB);
    revokes();
    refuses_key("");
    refuses_key("-----BEGIN OPENSSH PRIVATE KEY-----\n");
    refuses_key("-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----\n");
    refuses_key("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n");
    shows_fingerprint();
    return 0;
}
