// Loads shared libraries at their first use.
#include "io/late_library.h"

#include <dlfcn.h>
#include <stdlib.h>

bool kl_late_load(kl_late_library *library)
{
    if (library->handle == NULL)
        library->handle = dlopen(library->soname, RTLD_LAZY | RTLD_LOCAL);
    return library->handle != NULL;
}

void *kl_late_find(kl_late_library *library, const char *name)
{
    void *found = kl_late_load(library) ? dlsym(library->handle, name) : NULL;
    if (found == NULL)
        abort();
    return found;
}
