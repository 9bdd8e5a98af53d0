// fields: fuzzes what the machine helper reads: requests on its input and files of a site.
#include "io/machine.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length);
void __wrap_kl_bcrypt_kdf(void);
void __wrap_kl_bcrypt_kdf(void)
{
    abort(); // the helper opens no keys
}

static void check_value(const kl_fields *fields, const char *name)
{
    const char *value = kl_fields_get(fields, name);
    const char *start = fields->bytes.data, *end = start + fields->bytes.length;
    if (value != NULL && (value <= start || value >= end || value + strlen(value) > end))
        abort(); // no part of the request
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length)
{
    static const char *const names[] = {"dir", "name", "address", "target", "image", "", "x"};
    kl_fields fields = {0};
    kl_buf_append(&fields.bytes, data, length);
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        check_value(&fields, names[i]);
    kl_fields_add(&fields, "added", "yes");
    check_value(&fields, "added");
    kl_fields_free(&fields);
    return 0;
}
