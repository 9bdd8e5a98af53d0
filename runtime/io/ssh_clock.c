// A session's clocks: how long it may take, whether its host lives, its share of a turn of the
// loop.
#include "io/ssh_session_internal.h"

#include <time.h>

#define SILENT_KEEPALIVES 3
#define TURN_NS 500000

// Asks for a sign of life. False when libssh2 sends nothing any more, however often it is asked: it
// waits for the end of a key exchange, which both sides may wait for (libssh2 1672, 2110) while the
// host is well and speaks.
static bool send_keepalive(kl_ssh_session *session)
{
    int next = 0;
    uint64_t before = session->wire.sent;
    session->wire.unanswered++;
    libssh2_keepalive_send(session->handle, &next);
    session->withheld = session->wire.sent == before ? session->withheld + 1 : 0;
    return session->withheld <= SILENT_KEEPALIVES;
}

void kl_ssh_clocks_check(kl_ssh_session *session)
{
    uint64_t now = uv_now(session->loop);
    kl_failure failure;
    if (session->state < KL_SSH_OPEN) {
        if (now < session->deadline_ms)
            return;
        static const char *const doing[] = {"TCP connect", "key exchange", "login"};
        kl_failure_set(&failure, "timeout", 0, "%s: no answer in time (%s)", session->name,
                       doing[session->state]);
        kl_ssh_session_fail(session, &failure);
    } else if (session->state == KL_SSH_OPEN && now >= session->keepalive_ms) {
        kl_ssh_wire_fill(&session->wire, now); // an answer may wait there since long
        if (!kl_ssh_wire_wants_input(&session->wire))
            session->wire.unanswered = 0; // it is us who do not listen
        if (session->wire.unanswered >= SILENT_KEEPALIVES) {
            kl_failure_set(&failure, "unreachable", 0, "%s: silent for %.0f s", session->name,
                           (double)(now - session->wire.received_ms) / 1e3);
            kl_ssh_session_fail(session, &failure);
            return;
        }
        if (!send_keepalive(session)) {
            kl_failure_set(&failure, "unreachable", 0,
                           "%s: a key exchange has not ended for %.0f s; connect again",
                           session->name, session->keepalive * SILENT_KEEPALIVES);
            kl_ssh_session_fail(session, &failure);
            return;
        }
        session->keepalive_ms = now + (uint64_t)(session->keepalive * 1e3);
    }
}

static uint64_t cpu_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

void kl_ssh_pump_begins(kl_ssh_session *session)
{
    session->pump_ns = cpu_ns();
    session->pump_packets = 0;
}

bool kl_ssh_pump_is_long(const kl_ssh_session *session)
{
    return cpu_ns() - session->pump_ns > TURN_NS;
}

// Key exchange and login cost a millisecond. With hundreds of sessions under way at once, those
// that come after the first few wait for the next turn of the loop, where their poll fires again.
bool kl_ssh_turn_is_spent(const kl_ssh_session *session)
{
    static uint64_t turn, since; // the loop's time, which stands still for a turn; CPU at its start
    uint64_t now = cpu_ns();
    if (turn == uv_now(session->loop))
        return now - since > TURN_NS;
    turn = uv_now(session->loop);
    since = now;
    return false;
}
