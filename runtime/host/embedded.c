// Lua sources as bytes of the program: intact, named by their path in the tree.
#include "host/host.h"

#include <string.h>

// .incbin keeps the build fast and the bytes exact; one symbol pair a file.
#define KL_EMBED(index, path, file)                                                                \
    __asm__(".section .rodata\n"                                                                   \
            ".global kl_embed_begin_" #index "\n"                                                  \
            "kl_embed_begin_" #index ":\n"                                                         \
            ".incbin \"" file "\"\n"                                                               \
            ".global kl_embed_end_" #index "\n"                                                    \
            "kl_embed_end_" #index ":\n"                                                           \
            ".byte 0\n"                                                                            \
            ".previous\n");                                                                        \
    extern const char kl_embed_begin_##index[];                                                    \
    extern const char kl_embed_end_##index[];
#include "embed_list.inc"
#undef KL_EMBED

static const struct embedded {
    const char *path;
    const char *begin;
    const char *end;
} sources[] = {
#define KL_EMBED(index, path, file) {path, kl_embed_begin_##index, kl_embed_end_##index},
#include "embed_list.inc"
#undef KL_EMBED
};

const char *kl_embedded_source(const char *path, size_t *out_length)
{
    for (size_t i = 0; i < sizeof sources / sizeof sources[0]; i++) {
        if (strcmp(sources[i].path, path) == 0) {
            *out_length = (size_t)(sources[i].end - sources[i].begin);
            return sources[i].begin;
        }
    }
    return NULL;
}

const char *kl_embedded_path(size_t index)
{
    return index < sizeof sources / sizeof sources[0] ? sources[index].path : NULL;
}
