// pg: asks PostgreSQL one question, over TLS, with nothing but OpenSSL.
#ifndef PG_H
#define PG_H

#include <stdbool.h>
#include <stddef.h>

// Connects as the environment says (DB_HOST, DB_PORT, DB_USER, DB_PASSWORD, DB_NAME, DB_CA) and
// runs "select 1". False: `why` (of `size` bytes) says what failed, never the password. DB_CA is a
// file with the authority to trust; without one the connection is encrypted and not verified.
bool pg_check(char *why, size_t size);

#endif
