// The protocol: https://www.postgresql.org/docs/17/protocol.html; its login: RFC 5802 and RFC 7677.
#include "pg.h"

#include "scram.h"

#include <netdb.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { MESSAGE_MAX = 4096, WAIT_SECONDS = 3 };

typedef struct session {
    int fd;
    SSL_CTX *context;
    SSL *tls;
    char *why;
    size_t size;
    char type; // of the last message
    size_t length;
    char bytes[MESSAGE_MAX + 1]; // of the last message, with a NUL after it
} session;

static bool fail(session *self, const char *format, ...) __attribute__((format(printf, 2, 3)));
static bool fail(session *self, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(self->why, self->size, format, arguments);
    va_end(arguments);
    return false;
}

static const char *setting(const char *name, const char *otherwise)
{
    const char *value = getenv(name);
    return value != NULL && *value != '\0' ? value : otherwise;
}

static bool reach(session *self, const char *host, const char *port)
{
    struct addrinfo hints = {.ai_family = AF_INET, .ai_socktype = SOCK_STREAM}, *found = NULL;
    int status = getaddrinfo(host, port, &hints, &found);
    if (status != 0)
        return fail(self, "%s: %s", host, gai_strerror(status));
    self->fd = socket(found->ai_family, found->ai_socktype | SOCK_CLOEXEC, 0);
    struct timeval within = {.tv_sec = WAIT_SECONDS};
    bool connected = self->fd >= 0 &&
                     setsockopt(self->fd, SOL_SOCKET, SO_RCVTIMEO, &within, sizeof within) == 0 &&
                     setsockopt(self->fd, SOL_SOCKET, SO_SNDTIMEO, &within, sizeof within) == 0 &&
                     connect(self->fd, found->ai_addr, found->ai_addrlen) == 0;
    freeaddrinfo(found);
    return connected || fail(self, "%s:%s does not answer", host, port);
}

static void put32(char *at, size_t value)
{
    for (int i = 0; i < 4; i++)
        at[i] = (char)(value >> (24 - 8 * i) & 0xff);
}

static size_t get32(const char *at)
{
    size_t value = 0;
    for (int i = 0; i < 4; i++)
        value = value << 8 | (unsigned char)at[i];
    return value;
}

// Asks for TLS and starts it; the server's name is verified only where there is an authority.
static bool encrypt(session *self, const char *host)
{
    char request[8], answer = 0;
    put32(request, 8);
    put32(request + 4, 80877103); // SSLRequest
    if (send(self->fd, request, sizeof request, MSG_NOSIGNAL) != sizeof request ||
        recv(self->fd, &answer, 1, 0) != 1 || answer != 'S')
        return fail(self, "%s refuses encryption", host);
    const char *authority = setting("DB_CA", NULL);
    self->context = SSL_CTX_new(TLS_client_method());
    if (self->context == NULL)
        return fail(self, "no memory");
    if (authority != NULL) {
        if (SSL_CTX_load_verify_locations(self->context, authority, NULL) != 1)
            return fail(self, "%s is no authority's certificate", authority);
        SSL_CTX_set_verify(self->context, SSL_VERIFY_PEER, NULL);
    }
    self->tls = SSL_new(self->context);
    if (self->tls == NULL || SSL_set_fd(self->tls, self->fd) != 1 ||
        (authority != NULL && SSL_set1_host(self->tls, host) != 1))
        return fail(self, "no memory");
    SSL_set_tlsext_host_name(self->tls, host);
    if (SSL_connect(self->tls) != 1)
        return fail(self, "%s: TLS failed: %s", host,
                    X509_verify_cert_error_string(SSL_get_verify_result(self->tls)));
    return true;
}

static bool tell(session *self, char type, const char *bytes, size_t length)
{
    char head[5] = {type};
    put32(head + 1, length + 4);
    size_t skip = type == 0 ? 1 : 0; // the first message has no type
    if (SSL_write(self->tls, head + skip, (int)(sizeof head - skip)) <= 0 ||
        SSL_write(self->tls, bytes, (int)length) <= 0)
        return fail(self, "the connection ended");
    return true;
}

static bool read_all(session *self, char *bytes, size_t length)
{
    while (length > 0) {
        int got = SSL_read(self->tls, bytes, (int)length);
        if (got <= 0)
            return fail(self, "the connection ended");
        bytes += got;
        length -= (size_t)got;
    }
    return true;
}

// The next message; an error of the server is a failure in its own words.
static bool hear(session *self)
{
    char head[5];
    if (!read_all(self, head, sizeof head))
        return false;
    size_t length = get32(head + 1);
    if (length < 4 || length - 4 > MESSAGE_MAX)
        return fail(self, "the server's message has no sensible length");
    self->type = head[0];
    self->length = length - 4;
    if (!read_all(self, self->bytes, self->length))
        return false;
    self->bytes[self->length] = '\0';
    if (self->type != 'E')
        return true;
    for (char *at = self->bytes; *at != '\0'; at += strlen(at) + 1)
        if (*at == 'M')
            return fail(self, "%s", at + 1);
    return fail(self, "the server refuses without a word");
}

static bool hear_authentication(session *self, size_t kind)
{
    if (!hear(self))
        return false;
    if (self->type != 'R' || self->length < 4 || get32(self->bytes) != kind)
        return fail(self, "the server wants another login than SCRAM-SHA-256");
    return true;
}

static bool log_in(session *self, const char *user, const char *database)
{
    static const char mechanism[] = "SCRAM-SHA-256";
    char message[MESSAGE_MAX];
    put32(message, 196608); // protocol 3.0
    int length = snprintf(message + 4, sizeof message - 4, "user%c%s%cdatabase%c%s%c", 0, user, 0,
                          0, database, 0);
    if (!tell(self, 0, message, (size_t)length + 5) || !hear_authentication(self, 10))
        return false;
    scram login;
    char reply[SCRAM_MAX];
    if (!scram_first(&login, reply))
        return fail(self, "no random bytes");
    size_t first = strlen(reply);
    memcpy(message, mechanism, sizeof mechanism);
    put32(message + sizeof mechanism, first);
    memcpy(message + sizeof mechanism + 4, reply, first);
    if (!tell(self, 'p', message, sizeof mechanism + 4 + first) || !hear_authentication(self, 11))
        return false;
    if (!scram_final(&login, setting("DB_PASSWORD", ""), self->bytes + 4, reply))
        return fail(self, "the server's challenge makes no sense");
    if (!tell(self, 'p', reply, strlen(reply)) || !hear_authentication(self, 12))
        return false;
    if (!scram_proves(&login, self->bytes + 4))
        return fail(self, "the server does not know the password either");
    return hear_authentication(self, 0);
}

static bool ask(session *self)
{
    static const char query[] = "select 1";
    bool answered = false;
    do {
        if (!hear(self)) // settings, the key for a cancel, and that it is ready
            return false;
    } while (self->type != 'Z');
    if (!tell(self, 'Q', query, sizeof query))
        return false;
    do {
        if (!hear(self))
            return false;
        if (self->type == 'D')
            answered = self->length == 7 && self->bytes[6] == '1'; // one column of one byte
    } while (self->type != 'Z');
    return answered || fail(self, "\"select 1\" is not 1");
}

bool pg_check(char *why, size_t size)
{
    session *self = calloc(1, sizeof *self);
    if (self == NULL) {
        snprintf(why, size, "no memory");
        return false;
    }
    self->fd = -1;
    self->why = why;
    self->size = size;
    const char *host = setting("DB_HOST", "localhost");
    bool good = reach(self, host, setting("DB_PORT", "5432")) && encrypt(self, host) &&
                log_in(self, setting("DB_USER", "app"), setting("DB_NAME", "app")) && ask(self);
    if (good)
        tell(self, 'X', "", 0);
    SSL_free(self->tls);
    SSL_CTX_free(self->context);
    if (self->fd >= 0)
        close(self->fd);
    free(self);
    return good;
}
