// The wire format of SSH.
#include "io/ssh_blob.h"

#include "io/base64.h"

#include <openssl/bn.h>
#include <string.h>

kl_ssh_reader kl_ssh_reader_of(const void *data, size_t length)
{
    return (kl_ssh_reader){data, length, false};
}

static const char *take(kl_ssh_reader *reader, size_t length)
{
    if (reader->bad || reader->length < length) {
        reader->bad = true;
        return NULL;
    }
    const char *bytes = reader->data;
    reader->data += length;
    reader->length -= length;
    return bytes;
}

uint8_t kl_ssh_take_byte(kl_ssh_reader *reader)
{
    const char *byte = take(reader, 1);
    return byte != NULL ? (uint8_t)*byte : 0;
}

uint32_t kl_ssh_take_u32(kl_ssh_reader *reader)
{
    const unsigned char *at = (const unsigned char *)take(reader, 4);
    return at == NULL ? 0
                      : (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 | (uint32_t)at[2] << 8 |
                            (uint32_t)at[3];
}

kl_ssh_string kl_ssh_take_string(kl_ssh_reader *reader)
{
    uint32_t length = kl_ssh_take_u32(reader);
    const char *data = take(reader, length);
    return data != NULL ? (kl_ssh_string){data, length} : (kl_ssh_string){"", 0};
}

BIGNUM *kl_ssh_take_mpint(kl_ssh_reader *reader)
{
    kl_ssh_string number = kl_ssh_take_string(reader);
    if (number.length > 4096 || (number.length > 0 && (number.data[0] & 0x80) != 0))
        reader->bad = true; // negative, or longer than any key's
    return reader->bad ? NULL
                       : BN_bin2bn((const unsigned char *)number.data, (int)number.length, NULL);
}

bool kl_ssh_string_is(kl_ssh_string string, const char *text)
{
    return string.length == strlen(text) && memcmp(string.data, text, string.length) == 0;
}

bool kl_ssh_string_starts(kl_ssh_string string, const char *text)
{
    size_t length = strlen(text);
    return string.length >= length && memcmp(string.data, text, length) == 0;
}

void kl_ssh_put_u32(kl_buf *out, uint32_t value)
{
    const unsigned char bytes[4] = {(unsigned char)(value >> 24), (unsigned char)(value >> 16),
                                    (unsigned char)(value >> 8), (unsigned char)value};
    kl_buf_append(out, bytes, 4);
}

void kl_ssh_put_string(kl_buf *out, const void *bytes, size_t length)
{
    kl_ssh_put_u32(out, (uint32_t)length);
    kl_buf_append(out, bytes, length);
}

void kl_ssh_put_text(kl_buf *out, const char *text)
{
    kl_ssh_put_string(out, text, strlen(text));
}

void kl_ssh_put_mpint(kl_buf *out, const BIGNUM *number)
{
    int bits = BN_num_bits(number);
    size_t length = (size_t)bits / 8 + (bits > 0 ? 1 : 0); // a zero byte where the sign bit is set
    kl_ssh_put_u32(out, (uint32_t)length);
    kl_buf_reserve(out, length);
    if (length > 0)
        BN_bn2binpad(number, (unsigned char *)out->data + out->length, (int)length);
    out->length += length;
}

bool kl_ssh_base64(kl_buf *out, const char *text)
{
    size_t length = strcspn(text, " \t\r\n");
    out->length = 0;
    return length > 0 && length <= 16384 && kl_base64_decode(out, text, length);
}
