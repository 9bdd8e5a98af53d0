// A byte buffer that grows.
#include "base/buf.h"

#include "base/ending.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void kl_buf_reserve(kl_buf *buf, size_t more)
{
    size_t needed = buf->length + more + 1;
    if (needed <= buf->capacity)
        return;
    size_t capacity = buf->capacity ? buf->capacity : 64;
    while (capacity < needed)
        capacity *= 2;
    char *data = realloc(buf->data, capacity);
    if (data == NULL)
        kl_out_of_memory();
    buf->data = data;
    buf->capacity = capacity;
    buf->data[buf->length] = '\0'; // also when nothing follows
}

void kl_buf_append(kl_buf *buf, const void *bytes, size_t length)
{
    kl_buf_reserve(buf, length);
    if (length > 0)
        memcpy(buf->data + buf->length, bytes, length);
    buf->length += length;
    buf->data[buf->length] = '\0';
}

void kl_buf_puts(kl_buf *buf, const char *text)
{
    kl_buf_append(buf, text, strlen(text));
}

void kl_buf_printf(kl_buf *buf, const char *format, ...)
{
    va_list args, again;
    va_start(args, format);
    va_copy(again, args);
    int length = vsnprintf(NULL, 0, format, args);
    va_end(args);
    if (length > 0) {
        kl_buf_reserve(buf, (size_t)length);
        vsnprintf(buf->data + buf->length, (size_t)length + 1, format, again);
        buf->length += (size_t)length;
    }
    va_end(again);
}

void kl_buf_shift(kl_buf *buf, size_t length)
{
    if (length == 0)
        return;
    memmove(buf->data, buf->data + length, buf->length - length);
    buf->length -= length;
    buf->data[buf->length] = '\0';
}

const char *kl_buf_text(const kl_buf *buf)
{
    return buf->data ? buf->data : "";
}

void kl_buf_free(kl_buf *buf)
{
    free(buf->data);
    *buf = (kl_buf){0};
}
