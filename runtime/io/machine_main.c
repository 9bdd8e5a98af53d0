// The machine helper: reads a request, runs its verb, answers.
#include "io/machine.h"

#include "io/files.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void kl_fields_add(kl_fields *fields, const char *name, const char *value)
{
    kl_buf_append(&fields->bytes, name, strlen(name) + 1);
    kl_buf_append(&fields->bytes, value, strlen(value) + 1);
}

const char *kl_fields_get(const kl_fields *fields, const char *name)
{
    const char *at = fields->bytes.data, *end = at + fields->bytes.length;
    while (at != NULL && at < end) {
        const char *value = at + strlen(at) + 1;
        if (value >= end)
            break;
        if (strcmp(at, name) == 0)
            return value;
        at = value + strlen(value) + 1;
    }
    return NULL;
}

void kl_fields_free(kl_fields *fields)
{
    kl_buf_free(&fields->bytes);
}

bool kl_fields_load(kl_fields *out, const char *path, kl_failure *failure)
{
    kl_failure local = {0};
    out->bytes.length = 0;
    if (kl_files_read(&out->bytes, path, 1 << 20, &local))
        return true;
    if (strcmp(local.kind, "not_found") == 0)
        return true;
    *failure = local;
    return false;
}

bool kl_fields_save(const kl_fields *fields, const char *path, kl_failure *failure)
{
    return kl_files_write(path, fields->bytes.data, fields->bytes.length, 0600, KL_FILES_REPLACE,
                          failure);
}

void kl_answer_row(const kl_fields *row)
{
    const char *at = kl_buf_text(&row->bytes);
    size_t left = row->bytes.length + 1; // with the zero byte that ends the buffer and the row
    while (left > 0) {
        ssize_t put = write(STDOUT_FILENO, at, left);
        if (put < 0 && errno != EINTR)
            return; // nobody listens any more
        at += put > 0 ? put : 0;
        left -= put > 0 ? (size_t)put : 0;
    }
}

static bool network_up(kl_site *site, const kl_fields *request, kl_failure *failure)
{
    (void)request;
    if (!kl_site_up(site, failure))
        return false;
    char text[64];
    kl_fields row = {0};
    snprintf(text, sizeof text, "10.199.%d.0/24", site->block + 2);
    kl_fields_add(&row, "machine_net", text);
    snprintf(text, sizeof text, "10.199.%d.0/24", site->block + 3);
    kl_fields_add(&row, "address_net", text);
    kl_answer_row(&row);
    kl_fields_free(&row);
    return true;
}

static bool repair(kl_site *site, const kl_fields *request, kl_failure *failure)
{
    (void)request;
    kl_fields row = {0};
    kl_buf repaired = {0};
    bool ok = kl_site_repair(site, &repaired, failure);
    if (ok) {
        kl_fields_add(&row, "repaired", kl_buf_text(&repaired));
        kl_answer_row(&row);
    }
    kl_buf_free(&repaired);
    kl_fields_free(&row);
    return ok;
}

static bool network_down(kl_site *site, const kl_fields *request, kl_failure *failure)
{
    (void)request;
    return kl_site_down(site, failure);
}

static bool address_set(kl_site *site, const kl_fields *request, kl_failure *failure)
{
    return kl_site_up(site, failure) && kl_net_assign(site, kl_fields_get(request, "address"),
                                                      kl_fields_get(request, "target"), failure);
}

static bool addresses(kl_site *site, const kl_fields *request, kl_failure *failure)
{
    (void)request;
    kl_buf text = {0};
    if (site->router == 0)
        return true;
    bool ok = kl_net_assigned(site, &text, failure);
    char address[64], target[64];
    int used = 0;
    for (const char *at = kl_buf_text(&text);
         ok && sscanf(at, "%63s %63s\n%n", address, target, &used) == 2; at += used) {
        kl_fields row = {0};
        kl_fields_add(&row, "address", address);
        kl_fields_add(&row, "target", target);
        kl_answer_row(&row);
        kl_fields_free(&row);
    }
    kl_buf_free(&text);
    return ok;
}

static bool connections(kl_site *site, const kl_fields *request, kl_failure *failure)
{
    int count = site->router == 0 ? 0
                                  : kl_net_connections(site, kl_fields_get(request, "address"),
                                                       kl_fields_get(request, "target"), failure);
    if (count < 0)
        return false;
    char text[16];
    kl_fields row = {0};
    snprintf(text, sizeof text, "%d", count);
    kl_fields_add(&row, "count", text);
    kl_answer_row(&row);
    kl_fields_free(&row);
    return true;
}

typedef bool verb(kl_site *site, const kl_fields *request, kl_failure *failure);

// What starts processes that live on must be where the site's control group can be joined.
static const struct {
    const char *name;
    verb *run;
    bool starts;
} verbs[] = {
    {"check", kl_machine_check, true},
    {"network_up", network_up, true},
    {"network_down", network_down, false},
    {"site", kl_site_answer_state, false},
    {"repair", repair, true},
    {"release_ids", kl_range_release, false},
    {"create", kl_machine_create, true},
    {"list", kl_machine_list, false},
    {"start", kl_machine_start, true},
    {"admit", kl_machine_admit, true},
    {"power_off", kl_machine_power_off, false},
    {"destroy", kl_machine_destroy, false},
    {"address_set", address_set, true},
    {"addresses", addresses, false},
    {"connections", connections, false},
    {"unpack", kl_image_unpack, true},
    {"freeze", kl_image_freeze, true},
    {"images", kl_image_list, false},
    {"remove", kl_image_remove, false},
};

// A helper's memory has machines' keys: it leaves no core file. With a limit of 1 byte nothing goes
// to a program that core_pattern names either (core(5)).
static void forbid_cores(struct rlimit *before)
{
    getrlimit(RLIMIT_CORE, before);
    struct rlimit none = {.rlim_cur = before->rlim_max < 1 ? before->rlim_max : 1,
                          .rlim_max = before->rlim_max};
    setrlimit(RLIMIT_CORE, &none);
}

static bool dispatch(const char *name, const struct rlimit *core, const kl_fields *request,
                     kl_failure *failure)
{
    kl_site site = {.core = *core};
    const char *dir = kl_fields_get(request, "dir");
    if (dir == NULL) {
        kl_failure_set(failure, "invalid", 0, "no site");
        return false;
    }
    if (!kl_site_open(&site, dir, failure) && strcmp(name, "check") != 0)
        return false; // the check tells
    for (size_t i = 0; i < sizeof verbs / sizeof verbs[0]; i++) {
        if (strcmp(verbs[i].name, name) != 0)
            continue;
        if (verbs[i].starts && site.ordinary && !kl_cgroup_is_joinable(&site))
            kl_cgroup_enter_scope(&site, name, request);
        return verbs[i].run(&site, request, failure);
    }
    kl_failure_set(failure, "invalid", 0, "no verb '%s'", name);
    return false;
}

// ip and nft lie where an ordinary user's search path does not lead.
static void search_system_programs(void)
{
    char path[8192];
    const char *own = getenv("PATH");
    snprintf(path, sizeof path, "%s:/usr/local/sbin:/usr/sbin:/sbin",
             own != NULL && own[0] != '\0' ? own : "/usr/local/bin:/usr/bin:/bin");
    setenv("PATH", path, 1);
}

int kl_machine_main(int argc, char **argv)
{
    struct rlimit core;
    forbid_cores(&core);
    search_system_programs();
    signal(SIGPIPE,
           SIG_IGN); // kiln may end or lose its patience; the work is finished all the same
    signal(SIGTERM, SIG_IGN);
    if (argc > 2 && strcmp(argv[2], "portal") == 0)
        return kl_portal_main(argc, argv);
    kl_fields request = {0};
    kl_failure failure = {0};
    char block[4096];
    ssize_t got;
    while ((got = read(STDIN_FILENO, block, sizeof block)) > 0 || (got < 0 && errno == EINTR))
        kl_buf_append(&request.bytes, block, got > 0 ? (size_t)got : 0);
    bool ok = dispatch(argc > 2 ? argv[2] : "", &core, &request, &failure);
    kl_fields_free(&request);
    if (!ok) {
        kl_fields row = {0};
        kl_fields_add(&row, "error", kl_failed(&failure) ? failure.kind : "error");
        kl_fields_add(&row, "message", failure.message);
        kl_answer_row(&row);
        kl_fields_free(&row);
    }
    return ok ? 0 : 1;
}
