// What a command printed: lines across pieces, the last bytes, endless lines.
#include "io/ssh_output.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

static void expect_line(kl_ssh_output *output, kl_ssh_stream stream, const char *text)
{
    kl_ssh_stream got;
    size_t length = 0;
    const char *line = kl_ssh_output_line(output, &got, &length);
    assert(line != NULL);
    assert(got == stream);
    assert(length == strlen(text) && memcmp(line, text, length) == 0);
}

static void expect_none(kl_ssh_output *output)
{
    kl_ssh_stream stream;
    size_t length = 0;
    assert(kl_ssh_output_line(output, &stream, &length) == NULL);
    assert(kl_ssh_output_waiting(output) == 0);
}

static void test_lines(void)
{
    kl_ssh_output output = {.max = 100, .by_line = true};
    kl_ssh_output_add(&output, KL_SSH_OUT, "on", 2);
    expect_none(&output);
    kl_ssh_output_add(&output, KL_SSH_ERR, "warn\n", 5);
    kl_ssh_output_add(&output, KL_SSH_OUT, "e\n\ntwo", 6);
    expect_line(&output, KL_SSH_ERR, "warn");
    expect_line(&output, KL_SSH_OUT, "one");
    expect_line(&output, KL_SSH_OUT, "");
    expect_none(&output);
    kl_ssh_output_end(&output);
    expect_line(&output, KL_SSH_OUT, "two");
    expect_none(&output);
    assert(strcmp(output.streams[KL_SSH_OUT].data, "one\n\ntwo") == 0);
    assert(!output.truncated);
    kl_ssh_output_free(&output);
}

static void test_last_bytes(void)
{
    kl_ssh_output output = {.max = 10};
    for (int i = 0; i < 1000; i++)
        kl_ssh_output_add(&output, KL_SSH_OUT, "0123456789abcdef", 16);
    kl_ssh_output_end(&output);
    assert(strcmp(output.streams[KL_SSH_OUT].data, "6789abcdef") == 0);
    assert(output.truncated);
    assert(output.streams[KL_SSH_OUT].capacity < 1000);
    kl_ssh_output_free(&output);
}

// A reader that always leaves something behind must not make the queue grow.
static void test_queue_stays_small(void)
{
    kl_ssh_output output = {.max = 10, .by_line = true};
    char line[100];
    memset(line, 'x', sizeof line);
    line[99] = '\n';
    kl_ssh_output_add(&output, KL_SSH_OUT, line, sizeof line);
    for (int i = 0; i < 100000; i++) {
        kl_ssh_stream stream;
        size_t length = 0;
        kl_ssh_output_add(&output, KL_SSH_OUT, line, sizeof line);
        assert(kl_ssh_output_line(&output, &stream, &length) != NULL && length == 99);
    }
    assert(output.lines.capacity <= (size_t)2 * 1024 * 1024);
    kl_ssh_output_free(&output);
}

static void test_endless_line(void)
{
    kl_ssh_output output = {.max = 10, .by_line = true};
    for (int i = 0; i < 100000; i++)
        kl_ssh_output_add(&output, KL_SSH_ERR, "abcdefghij", 10);
    assert(output.partial[KL_SSH_ERR].capacity <= (size_t)256 * 1024);
    assert(kl_ssh_output_waiting(&output) > 900000);
    kl_ssh_output_free(&output);
    kl_ssh_output_free(&output);
}

int main(void)
{
    test_lines();
    test_last_bytes();
    test_queue_stays_small();
    test_endless_line();
    return 0;
}
