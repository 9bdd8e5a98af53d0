// What libssh2 allocated for one session.
#include "io/ssh_session_internal.h"

#include <openssl/crypto.h>
#include <stdalign.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

typedef struct kl_ssh_block {
    struct kl_ssh_block *next;
    struct kl_ssh_block **link; // what points to this one
    size_t size;
    alignas(max_align_t) char bytes[];
} kl_ssh_block;

static kl_ssh_block *block_of(void *bytes)
{
    return (kl_ssh_block *)(void *)((char *)bytes - offsetof(kl_ssh_block, bytes));
}

static void link_block(kl_ssh_memory *memory, kl_ssh_block *block)
{
    block->next = memory->first;
    block->link = &memory->first;
    if (block->next != NULL)
        block->next->link = &block->next;
    memory->first = block;
}

static void unlink_block(kl_ssh_block *block)
{
    *block->link = block->next;
    if (block->next != NULL)
        block->next->link = block->link;
}

static LIBSSH2_ALLOC_FUNC(allocate)
{
    kl_ssh_block *block = malloc(sizeof *block + count);
    if (block == NULL)
        return NULL;
    kl_ssh_memory *memory = &((kl_ssh_session *)*abstract)->memory;
    block->size = count;
    link_block(memory, block);
    if (memory->restore_after > 0 && --memory->restore_after == 0)
        memcpy(memory->restore_at, memory->restore_from, memory->restore_length);
    return block->bytes;
}

// Session keys and decoded private keys pass through here; they are small.
static void free_block(kl_ssh_block *block)
{
    unlink_block(block);
    OPENSSL_cleanse(block->bytes, block->size < 4096 ? block->size : 0);
    free(block);
}

static LIBSSH2_FREE_FUNC(release)
{
    (void)abstract;
    if (ptr != NULL)
        free_block(block_of(ptr));
}

static LIBSSH2_REALLOC_FUNC(reallocate)
{
    if (ptr == NULL)
        return allocate(count, abstract);
    kl_ssh_block *block = block_of(ptr);
    unlink_block(block);
    kl_ssh_block *moved = realloc(block, sizeof *block + count);
    if (moved != NULL)
        moved->size = count;
    link_block(&((kl_ssh_session *)*abstract)->memory, moved != NULL ? moved : block);
    return moved != NULL ? moved->bytes : NULL;
}

LIBSSH2_SESSION *kl_ssh_memory_session(kl_ssh_session *session)
{
    session->memory = (kl_ssh_memory){0};
    return libssh2_session_init_ex(allocate, release, reallocate, session);
}

unsigned char *kl_ssh_memory_copy(kl_ssh_session *session, const void *bytes, size_t length)
{
    void *abstract = session;
    void *copy = allocate(length, &abstract);
    if (copy != NULL)
        memcpy(copy, bytes, length);
    return copy;
}

void kl_ssh_memory_restore(kl_ssh_memory *memory, char *at, const char *from, size_t length,
                           int after)
{
    memory->restore_at = at;
    memory->restore_from = from;
    memory->restore_length = length;
    memory->restore_after = after;
}

void kl_ssh_memory_free(kl_ssh_memory *memory)
{
    while (memory->first != NULL)
        free_block(memory->first);
}
