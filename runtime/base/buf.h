// A byte buffer that grows. Always NUL-terminated past its length, so text can be read in place.
#ifndef KL_BASE_BUF_H
#define KL_BASE_BUF_H

#include <stddef.h>

typedef struct kl_buf {
    char *data; // owned; NULL while empty and never reserved
    size_t length;
    size_t capacity;
} kl_buf;

// A zeroed kl_buf is an empty buffer. Out of memory ends the process: there is nothing to save.
void kl_buf_reserve(kl_buf *buf, size_t more);
void kl_buf_append(kl_buf *buf, const void *bytes, size_t length);
void kl_buf_puts(kl_buf *buf, const char *text);
void kl_buf_printf(kl_buf *buf, const char *format, ...) __attribute__((format(printf, 2, 3)));
// Drops the first `length` bytes.
void kl_buf_shift(kl_buf *buf, size_t length);
// The text, never NULL; borrowed until the buffer changes.
const char *kl_buf_text(const kl_buf *buf);
// Frees the memory and leaves an empty buffer. May run twice.
void kl_buf_free(kl_buf *buf);

#endif
