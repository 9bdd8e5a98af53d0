// Base64, by OpenSSL.
#include "io/base64.h"

#include <limits.h>
#include <openssl/evp.h>
#include <string.h>

static bool is_base64(const char *text, size_t length, size_t padding)
{
    static const char alphabet[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (size_t i = 0; i < length - padding; i++) {
        if (memchr(alphabet, text[i], sizeof alphabet - 1) == NULL)
            return false;
    }
    return length % 4 == 0 && length <= INT_MAX / 2;
}

bool kl_base64_decode(kl_buf *out, const char *text, size_t length)
{
    size_t padding = 0; // EVP_DecodeBlock counts it as bytes, and takes it anywhere
    while (padding < 2 && padding < length && text[length - 1 - padding] == '=')
        padding++;
    if (!is_base64(text, length, padding))
        return false;
    kl_buf_reserve(out, length);
    if (length == 0)
        return true;
    int size = EVP_DecodeBlock((unsigned char *)out->data + out->length,
                               (const unsigned char *)text, (int)length);
    if (size >= 0)
        out->length += (size_t)size - padding;
    out->data[out->length] = '\0';
    return size >= 0;
}

void kl_base64_encode(kl_buf *out, const void *bytes, size_t length)
{
    kl_buf_reserve(out, (length + 2) / 3 * 4 + 1);
    int size = EVP_EncodeBlock((unsigned char *)out->data + out->length, bytes, (int)length);
    out->length += (size_t)size;
}
