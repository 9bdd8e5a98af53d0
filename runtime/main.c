// argv to the host, nothing else.
#include "host/host.h"

int main(int argc, char **argv)
{
    return kl_host_main(argc, argv);
}
