// scram: the client's half of SCRAM-SHA-256 (RFC 5802, RFC 7677) without channel binding.
#ifndef SCRAM_H
#define SCRAM_H

#include <stdbool.h>

enum { SCRAM_MAX = 1024 };

typedef struct scram {
    char first[64];           // our first message without its header: "n=,r=…"
    unsigned char server[32]; // what the server must prove with
} scram;

// Writes the first message to `out` (SCRAM_MAX bytes).
bool scram_first(scram *self, char *out);

// Reads the server's challenge and writes the final message to `out` (SCRAM_MAX bytes).
bool scram_final(scram *self, const char *password, const char *challenge, char *out);

// Whether the server knows the password as well.
bool scram_proves(const scram *self, const char *verdict);

#endif
