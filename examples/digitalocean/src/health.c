// This app is well when its database answers a query.
#include "health.h"

#include "pg.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const needed[] = {"DB_HOST", "DB_USER", "DB_NAME", "DB_PASSWORD"};

int health_check(char *why, size_t size)
{
    for (size_t i = 0; i < sizeof needed / sizeof *needed; i++) {
        const char *value = getenv(needed[i]);
        if (value == NULL || *value == '\0') {
            snprintf(why, size, "%s is not set", needed[i]);
            return 500;
        }
    }
    char failure[200];
    if (pg_check(failure, sizeof failure))
        return 200;
    for (char *at = failure; *at != '\0'; at++) // what the server says stands in JSON
        if (*at == '"' || *at == '\\' || (unsigned char)*at < ' ')
            *at = '\'';
    snprintf(why, size, "database: %s", failure);
    return 503;
}
