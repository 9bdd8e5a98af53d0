// Messages of failures: what a host says does not steer the user's terminal.
#include "base/failure.h"

#include <assert.h>
#include <string.h>

static void expect(const char *said, const char *shown)
{
    kl_failure failure;
    kl_failure_set(&failure, "unreachable", 0, "web: the host says: %s", said);
    assert(strcmp(failure.message + strlen("web: the host says: "), shown) == 0);
}

int main(void)
{
    expect("plain, gr\xc3\xbc\xc3\x9f \xe2\x82\xac", "plain, gr\xc3\xbc\xc3\x9f \xe2\x82\xac");
    expect("two\nlines\tand a tab", "two\nlines\tand a tab");
    expect("\x1b]0;title\x07\x1b[2J\rover", "?]0;title??[2J?over");
    expect("\x7f\x08", "??");
    expect("\xc2\x9b"
           "2J",
           "??2J");
    expect("cut off \xc2", "cut off \xc2");
    return 0;
}
