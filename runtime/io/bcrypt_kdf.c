// bcrypt_pbkdf (OpenBSD, lib/libutil/bcrypt_pbkdf.c): PBKDF2 whose hash is the expensive Blowfish
// key schedule of bcrypt (Provos and Mazières, 1999) over SHA-512. OpenSSL has Blowfish, but not
// that schedule.
#include "io/bcrypt_kdf.h"

#include "base/ending.h"

#include <openssl/bn.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>

#define SUBKEYS 18
#define WORDS (SUBKEYS + 4 * 256)
#define HASH_WORDS 8

typedef struct blowfish {
    uint32_t p[SUBKEYS];
    uint32_t s[4 * 256];
} blowfish;

static blowfish initial; // the first bits of pi behind the point, as Blowfish begins
static uv_once_t initial_once = UV_ONCE_INIT;

// Adds `factor` * atan(1/x) * 2^bits to `sum`, by its series.
static void add_atan(BIGNUM *sum, BN_ULONG factor, BN_ULONG x, int bits, bool minus)
{
    BIGNUM *power = BN_new(), *term = BN_new();
    BN_set_word(power, factor);
    BN_lshift(power, power, bits);
    BN_div_word(power, x);
    for (BN_ULONG odd = 1; !BN_is_zero(power); odd += 2, minus = !minus) {
        BN_copy(term, power);
        BN_div_word(term, odd);
        if (minus)
            BN_sub(sum, sum, term);
        else
            BN_add(sum, sum, term);
        BN_div_word(power, x * x);
    }
    BN_free(power);
    BN_free(term);
}

// Machin's formula: pi = 16 atan(1/5) - 4 atan(1/239). 1 042 words in a table would say less.
static void make_initial(void)
{
    const int guard = 64, bits = WORDS * 32 + guard;
    static unsigned char bytes[WORDS * 4];
    BIGNUM *pi = BN_new();
    BN_zero(pi);
    add_atan(pi, 16, 5, bits, false);
    add_atan(pi, 4, 239, bits, true);
    BN_rshift(pi, pi, guard);
    BN_mask_bits(pi, WORDS * 32); // without the 3
    BN_bn2binpad(pi, bytes, sizeof bytes);
    BN_free(pi);
    for (size_t i = 0; i < WORDS; i++) {
        const unsigned char *at = bytes + 4 * i;
        uint32_t word =
            (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 | (uint32_t)at[2] << 8 | at[3];
        *(i < SUBKEYS ? &initial.p[i] : &initial.s[i - SUBKEYS]) = word;
    }
}

static uint32_t mix(const blowfish *state, uint32_t x)
{
    const uint32_t *s = state->s;
    return ((s[x >> 24] + s[256 + (x >> 16 & 255)]) ^ s[512 + (x >> 8 & 255)]) + s[768 + (x & 255)];
}

static void encipher(const blowfish *state, uint32_t *left, uint32_t *right)
{
    uint32_t l = *left ^ state->p[0];
    uint32_t r = *right;
    for (int i = 1; i <= 16; i += 2) {
        r ^= mix(state, l) ^ state->p[i];
        l ^= mix(state, r) ^ state->p[i + 1];
    }
    *left = r ^ state->p[17];
    *right = l;
}

// The next four of the bytes, which begin again at their end.
static uint32_t next_word(const unsigned char *bytes, size_t length, size_t *at)
{
    uint32_t word = 0;
    for (int i = 0; i < 4; i++, *at = (*at + 1) % length)
        word = word << 8 | bytes[*at];
    return word;
}

// Mixes 64 bytes of key and, if any, 64 bytes of salt into the state.
static void expand(blowfish *state, const unsigned char *salt, const unsigned char *key)
{
    size_t at = 0;
    for (int i = 0; i < SUBKEYS; i++)
        state->p[i] ^= next_word(key, 64, &at);
    uint32_t left = 0, right = 0;
    at = 0;
    for (int i = 0; i < WORDS; i += 2) {
        if (salt != NULL) {
            left ^= next_word(salt, 64, &at);
            right ^= next_word(salt, 64, &at);
        }
        encipher(state, &left, &right);
        uint32_t *out = i < SUBKEYS ? &state->p[i] : &state->s[i - SUBKEYS];
        out[0] = left;
        out[1] = right;
    }
}

static void hash(unsigned char out[32], const unsigned char *pass, const unsigned char *salt)
{
    static const unsigned char text[] = "OxychromaticBlowfishSwatDynamite";
    blowfish state = initial;
    uint32_t words[HASH_WORDS];
    size_t at = 0;
    expand(&state, salt, pass);
    for (int i = 0; i < 64; i++) {
        expand(&state, NULL, salt);
        expand(&state, NULL, pass);
    }
    for (int i = 0; i < HASH_WORDS; i++)
        words[i] = next_word(text, sizeof text - 1, &at);
    for (int i = 0; i < 64; i++)
        for (int pair = 0; pair < HASH_WORDS; pair += 2)
            encipher(&state, &words[pair], &words[pair + 1]);
    for (int i = 0; i < HASH_WORDS; i++)
        for (int byte = 0; byte < 4; byte++)
            out[4 * i + byte] = (unsigned char)(words[i] >> 8 * byte);
    OPENSSL_cleanse(&state, sizeof state);
    OPENSSL_cleanse(words, sizeof words);
}

static void sha512(unsigned char out[64], const void *bytes, size_t length)
{
    EVP_Digest(bytes, length, out, NULL, EVP_sha512(), NULL);
}

// One block of 32 bytes: the rounds of block `number`, one over the other.
static void derive(unsigned char out[32], const unsigned char *pass, const unsigned char *salt,
                   size_t salt_length, uint32_t rounds)
{
    unsigned char digest[64], round[32];
    sha512(digest, salt, salt_length);
    hash(round, pass, digest);
    memcpy(out, round, sizeof round);
    for (uint32_t i = 1; i < rounds; i++) {
        sha512(digest, round, sizeof round);
        hash(round, pass, digest);
        for (size_t byte = 0; byte < sizeof round; byte++)
            out[byte] ^= round[byte];
    }
    OPENSSL_cleanse(round, sizeof round);
}

void kl_bcrypt_kdf(unsigned char *out, size_t out_length, const char *pass, size_t pass_length,
                   const void *salt, size_t salt_length, uint32_t rounds)
{
    uv_once(&initial_once, make_initial);
    unsigned char digest[64], block[32];
    unsigned char *counted = malloc(salt_length + 4);
    if (counted == NULL)
        kl_out_of_memory();
    memcpy(counted, salt, salt_length);
    sha512(digest, pass, pass_length);
    size_t blocks = (out_length + sizeof block - 1) / sizeof block;
    for (size_t number = 1; number <= blocks; number++) {
        for (int i = 0; i < 4; i++)
            counted[salt_length + (size_t)i] = (unsigned char)(number >> (24 - 8 * i));
        derive(block, digest, counted, salt_length + 4, rounds);
        // The blocks lie interleaved, not one behind the other.
        for (size_t i = 0; i < sizeof block && i * blocks + number - 1 < out_length; i++)
            out[i * blocks + number - 1] = block[i];
    }
    OPENSSL_cleanse(digest, sizeof digest);
    OPENSSL_cleanse(block, sizeof block);
    free(counted);
}
