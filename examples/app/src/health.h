// health: whether the service can do its work; what that takes is each deployment's own.
#ifndef HEALTH_H
#define HEALTH_H

#include <stddef.h>

// 200 when all is well; else the status to answer, and `why` (of `size` bytes) says what is wrong:
// text that may stand in JSON as it is.
int health_check(char *why, size_t size);

#endif
