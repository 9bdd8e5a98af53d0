// The bytes between the socket and libssh2.
#include "io/ssh_session_internal.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define IN_MAX (256 * 1024)
#define OUT_FULL (256 * 1024)
#define READ_SIZE (128 * 1024)
#define OPENING_MAX 8192
// libssh2 decrypts all that it can get before it returns; this is a third of a millisecond.
#define ALLOWANCE (128 * 1024)

static size_t pending(const kl_buf *buf, size_t at)
{
    return buf->length - at;
}

void kl_ssh_wire_flush(kl_ssh_wire *wire)
{
    while (kl_ssh_wire_has_output(wire) && wire->error == 0) {
        ssize_t n = send(wire->fd, wire->out.data + wire->out_at, pending(&wire->out, wire->out_at),
                         MSG_NOSIGNAL);
        if (n > 0) {
            wire->out_at += (size_t)n;
        } else if (n < 0 && errno != EINTR) {
            if (errno != EAGAIN && errno != EWOULDBLOCK)
                wire->error = errno;
            break;
        }
    }
    if (wire->out_at >= OUT_FULL || wire->out_at == wire->out.length) { // may never be empty
        kl_buf_shift(&wire->out, wire->out_at);
        wire->out_at = 0;
    }
}

void kl_ssh_wire_fill(kl_ssh_wire *wire, uint64_t now_ms)
{
    wire->allowance = ALLOWANCE;
    if (wire->in_at >= ALLOWANCE || wire->in_at == wire->in.length) {
        kl_buf_shift(&wire->in, wire->in_at);
        wire->in_at = 0;
    }
    while (wire->error == 0 && kl_ssh_wire_wants_input(wire)) {
        kl_buf_reserve(&wire->in, READ_SIZE);
        ssize_t n = recv(wire->fd, wire->in.data + wire->in.length, READ_SIZE, 0);
        if (n > 0) {
            if (!wire->opened && wire->opening.length < OPENING_MAX)
                kl_buf_append(&wire->opening, wire->in.data + wire->in.length, (size_t)n);
            wire->in.length += (size_t)n;
            wire->received += (uint64_t)n;
            wire->received_ms = now_ms;
            wire->unanswered = 0;
        } else if (n == 0) {
            wire->error = -1;
        } else if (errno != EINTR) {
            if (errno != EAGAIN && errno != EWOULDBLOCK)
                wire->error = errno;
            break;
        }
        if (n > 0 && n < READ_SIZE)
            break;
    }
    // sshd's small answers wait for our ACK (Nagle against delayed ACK, 40 ms); the flag is
    // one-shot.
    int on = 1;
    setsockopt(wire->fd, IPPROTO_TCP, TCP_QUICKACK, &on, sizeof on);
}

bool kl_ssh_wire_withholds(const kl_ssh_wire *wire)
{
    return wire->allowance == 0 && pending(&wire->in, wire->in_at) > 0;
}

bool kl_ssh_wire_wants_input(const kl_ssh_wire *wire)
{
    return pending(&wire->in, wire->in_at) < IN_MAX;
}

bool kl_ssh_wire_has_output(const kl_ssh_wire *wire)
{
    return pending(&wire->out, wire->out_at) > 0;
}

bool kl_ssh_wire_full(const kl_ssh_wire *wire)
{
    return pending(&wire->out, wire->out_at) >= OUT_FULL;
}

// libssh2's send: always takes everything. Callers keep bulk away with kl_ssh_wire_full. Packets go
// out together at the pump's end: each send wakes the host, which costs both sides more than a
// copy.
static ssize_t wire_send(libssh2_socket_t fd, const void *bytes, size_t length, int flags,
                         void **abstract)
{
    (void)fd;
    (void)flags;
    kl_ssh_session *session = *abstract;
    kl_ssh_wire *wire = &session->wire;
    if (wire->cut || wire->error != 0)
        return -ECONNABORTED;
    if (!kl_ssh_session_trusts(session))
        return (ssize_t)length; // dropped: an error here makes libssh2 1.10 forget the host key
    wire->sent += length;
    kl_buf_append(&wire->out, bytes, length);
    if (kl_ssh_wire_full(wire))
        kl_ssh_wire_flush(wire);
    return (ssize_t)length;
}

static ssize_t wire_receive(libssh2_socket_t fd, void *out, size_t size, int flags, void **abstract)
{
    (void)fd;
    (void)flags;
    kl_ssh_wire *wire = &((kl_ssh_session *)*abstract)->wire;
    size_t length = pending(&wire->in, wire->in_at);
    if (wire->cut)
        return -ECONNABORTED;
    if (length == 0)
        return wire->error == 0 ? -EAGAIN : -ECONNRESET;
    if (wire->allowance == 0)
        return -EAGAIN;
    if (length > size)
        length = size;
    if (length > wire->allowance)
        length = wire->allowance;
    wire->allowance -= length;
    memcpy(out, wire->in.data + wire->in_at, length);
    wire->in_at += length;
    return (ssize_t)length;
}

void kl_ssh_wire_attach(kl_ssh_wire *wire, int fd, LIBSSH2_SESSION *handle)
{
    int on = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    wire->fd = fd;
#if LIBSSH2_VERSION_NUM >= 0x010b01
    libssh2_session_callback_set2(handle, LIBSSH2_CALLBACK_SEND, (libssh2_cb_generic *)wire_send);
    libssh2_session_callback_set2(handle, LIBSSH2_CALLBACK_RECV,
                                  (libssh2_cb_generic *)wire_receive);
#else
    libssh2_session_callback_set(handle, LIBSSH2_CALLBACK_SEND, (void *)(uintptr_t)wire_send);
    libssh2_session_callback_set(handle, LIBSSH2_CALLBACK_RECV, (void *)(uintptr_t)wire_receive);
#endif
}

void kl_ssh_wire_close(kl_ssh_wire *wire)
{
    wire->cut = true;
    if (wire->fd >= 0) {
        shutdown(wire->fd, SHUT_RDWR);
        close(wire->fd);
    }
    wire->fd = -1;
    kl_buf_free(&wire->in);
    kl_buf_free(&wire->opening);
    kl_buf_free(&wire->out);
    wire->in_at = wire->out_at = 0;
}
