// Pinned host keys as text: what is taken, what is refused, and the fingerprint.
#include "io/ssh_key.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#define BLOB "AAAAC3NzaC1lZDI1NTE5AAAAIBPjCp2lRO9HBTdkXTqFNxwBCXQYRsmZZCbnnkYCMYSA"

static void takes(const char *text)
{
    kl_ssh_pin pin;
    kl_failure failure = {0};
    assert(kl_ssh_pin_parse(&pin, text, &failure));
    assert(strcmp(pin.type, "ssh-ed25519") == 0);
    assert(strcmp(kl_ssh_pin_preference(&pin), "ssh-ed25519") == 0);
    assert(pin.blob.length == 51);
    kl_ssh_pin_free(&pin);
}

static void refuses(const char *text)
{
    kl_ssh_pin pin;
    kl_failure failure = {0};
    assert(!kl_ssh_pin_parse(&pin, text, &failure));
    assert(failure.kind != NULL);
    kl_ssh_pin_free(&pin);
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
    kl_failure failure = {0};
    assert(!kl_ssh_key_usable("", 0, &failure));
    assert(!kl_ssh_key_usable("-----BEGIN OPENSSH PRIVATE KEY-----\n", 36, &failure));
    kl_ssh_pin pin;
    char shown[64];
    assert(kl_ssh_pin_parse(&pin, "ssh-ed25519 " BLOB, &failure));
    kl_ssh_fingerprint(shown, pin.blob.data, pin.blob.length);
    assert(strncmp(shown, "SHA256:", 7) == 0 && strlen(shown) == 50);
    kl_ssh_pin_free(&pin);
    return 0;
}
