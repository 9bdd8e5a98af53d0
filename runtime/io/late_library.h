// A shared library that is loaded at its first use: what most runs do not need must not cost every
// start its time. A file x_late.c defines the library's functions under their own names.
#ifndef KL_IO_LATE_LIBRARY_H
#define KL_IO_LATE_LIBRARY_H

#include <stdbool.h>

typedef struct kl_late_library {
    const char *soname;
    void *handle; // never closed: its functions stay in use until the end
} kl_late_library;

// Loads the library; false: it is not installed. What is called first asks this.
bool kl_late_load(kl_late_library *library);
// A function that the library's ABI promises; one that is not there ends the program.
void *kl_late_find(kl_late_library *library, const char *name);

// Defines `result name params`, which calls the function of that name in `library`.
#define KL_LATE(library, result, name, params, args)                                               \
    result name params                                                                             \
    {                                                                                              \
        static __typeof__(name) *found;                                                            \
        if (found == NULL)                                                                         \
            *(void **)&found = kl_late_find(library, #name);                                       \
        return found args;                                                                         \
    }

#endif
