// kiln's AES-128-CTR: what the standard says, and the same as the library's in pieces of any size.
#include "io/ssh_cipher.h"

#include <assert.h>
#include <openssl/evp.h>
#include <openssl/provider.h>
#include <string.h>

#define SIZE 100000

static unsigned char text[SIZE], ours[SIZE], theirs[SIZE], back[SIZE];

// NIST SP 800-38A, F.5.1, through the calls that libssh2 makes.
static void keeps_the_standard(void)
{
    static const unsigned char key[] = "\x2b\x7e\x15\x16\x28\xae\xd2\xa6"
                                       "\xab\xf7\x15\x88\x09\xcf\x4f\x3c";
    static const unsigned char iv[] = "\xf0\xf1\xf2\xf3\xf4\xf5\xf6\xf7"
                                      "\xf8\xf9\xfa\xfb\xfc\xfd\xfe\xff";
    static const unsigned char plain[] = "\x6b\xc1\xbe\xe2\x2e\x40\x9f\x96"
                                         "\xe9\x3d\x7e\x11\x73\x93\x17\x2a"
                                         "\xae\x2d\x8a\x57\x1e\x03\xac\x9c"
                                         "\x9e\xb7\x6f\xac\x45\xaf\x8e\x51";
    static const unsigned char secret[] = "\x87\x4d\x61\x91\xb6\x20\xe3\x26"
                                          "\x1b\xef\x68\x64\x99\x0d\xb6\xce"
                                          "\x98\x06\xf6\x6b\x79\x70\xfd\xff"
                                          "\x86\x17\x18\x7b\xb9\xff\xfd\xff";
    unsigned char out[32];
    EVP_CIPHER_CTX *cipher = EVP_CIPHER_CTX_new();
    assert(EVP_CipherInit(cipher, EVP_aes_128_ctr(), key, iv, 1) == 1);
    const OSSL_PROVIDER *provider = EVP_CIPHER_get0_provider(EVP_CIPHER_CTX_get0_cipher(cipher));
    assert(strcmp(OSSL_PROVIDER_get0_name(provider), "kiln") == 0);
    assert(EVP_Cipher(cipher, out, plain, 16) != -1);
    assert(EVP_Cipher(cipher, out + 16, plain + 16, 16) != -1);
    assert(memcmp(out, secret, 32) == 0);
    EVP_CIPHER_CTX_free(cipher);
}

// Pieces of 1, 2, 3, … bytes, in place.
static void equals_the_library(void)
{
    // A counter that goes round while it is used.
    static const unsigned char key[16] = "0123456789abcde";
    static const unsigned char iv[] = "\xff\xff\xff\xff\xff\xff\xff\xff"
                                      "\xff\xff\xff\xff\xff\xff\xff\xf0";
    EVP_CIPHER_CTX *cipher = EVP_CIPHER_CTX_new();
    EVP_CIPHER *library = EVP_CIPHER_fetch(NULL, "AES-128-CTR", "provider=default");
    int length;
    for (size_t i = 0; i < SIZE; i++)
        text[i] = (unsigned char)(i * i >> 3);
    assert(EVP_EncryptInit_ex(cipher, library, NULL, key, iv) == 1);
    assert(EVP_EncryptUpdate(cipher, theirs, &length, text, SIZE) == 1);
    assert(EVP_CipherInit(cipher, EVP_aes_128_ctr(), key, iv, 1) == 1);
    memcpy(ours, text, SIZE);
    for (size_t at = 0, piece = 1; at < SIZE; at += piece++) {
        if (piece > SIZE - at)
            piece = SIZE - at;
        assert(EVP_Cipher(cipher, ours + at, ours + at, (unsigned int)piece) != -1);
    }
    assert(memcmp(ours, theirs, SIZE) == 0);
    assert(EVP_CipherInit(cipher, NULL, key, iv, 0) == 1); // anew, and to decrypt
    assert(EVP_CIPHER_CTX_set_padding(cipher, 0) == 1);
    assert(EVP_DecryptUpdate(cipher, back, &length, ours, SIZE) == 1 && length == SIZE);
    assert(EVP_DecryptFinal_ex(cipher, back + SIZE, &length) == 1 && length == 0);
    assert(memcmp(back, text, SIZE) == 0);
    EVP_CIPHER_free(library);
    EVP_CIPHER_CTX_free(cipher);
}

int main(void)
{
    kl_ssh_cipher_start();
    keeps_the_standard();
    equals_the_library();
    return 0;
}
