// One call of the machine helper as an operation, for rt.machine and rt.snapshot.
#ifndef KL_PRIM_MACHINE_CALL_H
#define KL_PRIM_MACHINE_CALL_H

#include <lua.h>

typedef enum kl_machine_answer {
    KL_MACHINE_ROWS, // a list of tables
    KL_MACHINE_ROW,  // one table; true when the verb answers nothing
    KL_MACHINE_COUNT // an integer
} kl_machine_answer;

typedef struct kl_machine_verb {
    const char *name;
    kl_machine_answer answer;
    double timeout;          // seconds; the option `within` comes on top
    const char *options[12]; // names; "!name" must be there; `within` is seconds
} kl_machine_verb;

// Reads the options at 1 (their `dir` too), runs the helper, waits. Nothing may follow it but its
// return. [-0, +(1|2), e]
int kl_machine_call(lua_State *L, const kl_machine_verb *verb);

// The helpers that run; call it once when a module that uses them opens. [-0, +0, e]
void kl_machine_open(lua_State *L);

#endif
