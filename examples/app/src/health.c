// The app is well when its configuration is there. A release may need one setting more than the one
// before.
#include "health.h"

#include <stdio.h>
#include <stdlib.h>

static const char *const needed[] = {
    "DB_HOST",
#ifdef APP_NEEDS
    APP_NEEDS,
#endif
};

int health_check(char *why, size_t size)
{
    for (size_t i = 0; i < sizeof needed / sizeof *needed; i++) {
        const char *value = getenv(needed[i]);
        if (value == NULL || *value == '\0') {
            snprintf(why, size, "%s is not set", needed[i]);
            return 500;
        }
    }
    return 200;
}
