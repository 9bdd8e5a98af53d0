// Lua sources as bytes of the program: intact, named by their path in the tree, and compiled.
#include "host/host.h"

#include <string.h>

// .incbin keeps the build fast and the bytes exact; one symbol pair a file.
#define KL_INCBIN(symbol, file)                                                                    \
    __asm__(".section .rodata\n"                                                                   \
            ".global kl_" symbol "_begin\n"                                                        \
            "kl_" symbol "_begin:\n"                                                               \
            ".incbin \"" file "\"\n"                                                               \
            ".global kl_" symbol "_end\n"                                                          \
            "kl_" symbol "_end:\n"                                                                 \
            ".byte 0\n"                                                                            \
            ".previous\n")
#define KL_EMBED(index, path, file, compiled)                                                      \
    KL_INCBIN("text_" #index, file);                                                               \
    KL_INCBIN("code_" #index, compiled);                                                           \
    extern const char kl_text_##index##_begin[], kl_text_##index##_end[];                          \
    extern const char kl_code_##index##_begin[], kl_code_##index##_end[];
#include "embed_list.inc"
#undef KL_EMBED

typedef struct bytes {
    const char *begin;
    const char *end;
} bytes;

static const struct embedded {
    const char *path;
    bytes text;
    bytes code;
} sources[] = {
#define KL_EMBED(index, path, file, compiled)                                                      \
    {path,                                                                                         \
     {kl_text_##index##_begin, kl_text_##index##_end},                                             \
     {kl_code_##index##_begin, kl_code_##index##_end}},
#include "embed_list.inc"
#undef KL_EMBED
};

static const struct embedded *find(const char *path)
{
    for (size_t i = 0; i < sizeof sources / sizeof sources[0]; i++) {
        if (strcmp(sources[i].path, path) == 0)
            return &sources[i];
    }
    return NULL;
}

const char *kl_embedded_source(const char *path, size_t *out_length)
{
    const struct embedded *found = find(path);
    if (found == NULL)
        return NULL;
    *out_length = (size_t)(found->text.end - found->text.begin);
    return found->text.begin;
}

const char *kl_embedded_code(const char *path, size_t *out_length)
{
    const struct embedded *found = find(path);
    if (found == NULL || strstr(lua_ident, LUA_RELEASE) == NULL)
        return NULL;
    *out_length = (size_t)(found->code.end - found->code.begin);
    return found->code.begin;
}

const char *kl_embedded_path(size_t index)
{
    return index < sizeof sources / sizeof sources[0] ? sources[index].path : NULL;
}
