// Asks an ssh-agent on its unix socket, without blocking the loop (draft-miller-ssh-agent).
#ifndef KL_IO_SSH_AGENT_H
#define KL_IO_SSH_AGENT_H

#include <uv.h>

#include "base/failure.h"
#include "io/ssh_blob.h"
#include "io/ssh_key.h"

typedef struct kl_ssh_agent kl_ssh_agent;

// Called once: the answer behind its length, borrowed for the call, or the failure (`unreachable`,
// `denied`, `timeout`, `protocol`). The question is gone afterwards.
typedef void (*kl_ssh_agent_fn)(void *ctx, const kl_ssh_string *answer, const kl_failure *failure);

// Sends a message, which is copied, over a connection of its own. `timeout` in seconds. Never calls
// `done` before it returned.
kl_ssh_agent *kl_ssh_agent_ask(uv_loop_t *loop, const char *path, const kl_buf *message,
                               double timeout, kl_ssh_agent_fn done, void *ctx);
// Gives up: `done` will not be called.
void kl_ssh_agent_cancel(kl_ssh_agent *agent);

// The question for the keys it holds; the answer to it as a reader at its first key. False: it is
// no such answer.
void kl_ssh_agent_put_list(kl_buf *out);
bool kl_ssh_agent_take_list(kl_ssh_string answer, kl_ssh_reader *out, uint32_t *out_count);
// The question for a signature with the algorithm that the data name; its answer, without the
// name. False: it refused, or signed with another algorithm.
void kl_ssh_agent_put_sign(kl_buf *out, const kl_ssh_key *key, const void *data, size_t length);
bool kl_ssh_agent_take_sign(kl_ssh_string answer, const void *data, size_t length,
                            kl_ssh_string *out);

#endif
