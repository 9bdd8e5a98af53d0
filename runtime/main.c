// argv to the host, nothing else.
#include "base/ending.h"
#include "host/host.h"
#include "io/machine.h"

#include <string.h>
#include <uv.h>

int main(int argc, char **argv)
{
    if (argc > 2 && strcmp(argv[1], "__machine") == 0) { // a helper that works for rt.machine
        kl_core_dump(true);
        return kl_machine_main(argc, argv);
    }
    int status = kl_host_main(argc, argv);
    uv_library_shutdown(); // its threads end while OpenSSL, which they use, is there
    return status;
}
