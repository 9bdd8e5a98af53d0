// base/buf: appending, formatting, shifting.
#include "base/buf.h"

#include <assert.h>
#include <string.h>

int main(void)
{
    kl_buf buf = {0};
    assert(strcmp(kl_buf_text(&buf), "") == 0);
    for (int i = 0; i < 1000; i++)
        kl_buf_printf(&buf, "%03d,", i);
    assert(buf.length == 4000);
    assert(strncmp(buf.data + 3996, "999,", 5) == 0);
    kl_buf_shift(&buf, 3996);
    assert(strcmp(kl_buf_text(&buf), "999,") == 0);
    kl_buf_append(&buf, "a\0b", 3);
    assert(buf.length == 7 && buf.data[5] == '\0' && buf.data[6] == 'b');
    kl_buf_free(&buf);
    kl_buf_free(&buf);
    kl_buf_reserve(&buf, 1000);
    assert(strcmp(kl_buf_text(&buf), "") == 0);
    kl_buf_free(&buf);
    assert(buf.length == 0);
    return 0;
}
