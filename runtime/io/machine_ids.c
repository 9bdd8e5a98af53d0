// The host's ids of a site's machines, and work done as the root that owns them.
#include "io/machine.h"

#include "io/files.h"

#include <errno.h>
#include <fcntl.h>
#include <pwd.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

// The user's name, or the number where it has none.
static void name_user(char *out, size_t size)
{
    const struct passwd *user = getpwuid(geteuid());
    if (user != NULL)
        snprintf(out, size, "%s", user->pw_name);
    else
        snprintf(out, size, "%u", (unsigned)geteuid());
}

// The first id of a range that is long enough, from "0: name first count" lines (getsubids(1)). It
// asks what newuidmap will ask, a directory service too.
static bool sub_range(bool groups, unsigned *first, kl_failure *failure)
{
    char name[64];
    name_user(name, sizeof name);
    char *const argv[] = {(char *)(uintptr_t) "getsubids", groups ? (char *)(uintptr_t) "-g" : name,
                          groups ? name : NULL, NULL};
    kl_command command = {.argv = argv};
    kl_buf text = {0};
    kl_failure local = {0};
    bool found = false;
    unsigned count = 0;
    int used = 0;
    if (!kl_command_run(&command, &text, &local) && strcmp(local.kind, "not_found") == 0) {
        kl_failure_set(failure, "unsupported", 0,
                       "newuidmap is not here, by which a user gets ids for machines: "
                       "apt-get install uidmap");
        return false;
    }
    for (const char *at = kl_buf_text(&text);
         !found && sscanf(at, "%*d: %*s %u %u\n%n", first, &count, &used) == 2; at += used)
        found = count >= KL_IDS - 1;
    kl_buf_free(&text);
    if (!found)
        kl_failure_set(failure, "unsupported", 0,
                       "/etc/sub%s gives %s no %d ids for machines: as root, usermod "
                       "--add-subuids FIRST-LAST --add-subgids FIRST-LAST %s, with %d ids that no "
                       "line of /etc/subuid and /etc/subgid has (the next user's range starts "
                       "where the last one ends)",
                       groups ? "gid" : "uid", name, KL_IDS, name, KL_IDS);
    return found;
}

static bool describe_one(const kl_site *site, bool groups, kl_buf *out, kl_failure *failure)
{
    unsigned first = 0;
    if (!site->ordinary) {
        kl_buf_printf(out, "0 %u %d\n", groups ? (unsigned)site->gid : (unsigned)site->uid, KL_IDS);
        return true;
    }
    if (!sub_range(groups, &first, failure))
        return false;
    kl_buf_printf(out, "0 %u 1 1 %u %d\n", groups ? (unsigned)site->gid : (unsigned)site->uid,
                  first, KL_IDS - 1);
    return true;
}

bool kl_ids_describe(const kl_site *site, kl_buf *out, kl_failure *failure)
{
    return describe_one(site, false, out, failure) && describe_one(site, true, out, failure);
}

static bool write_map(pid_t pid, const char *file, const char *text, kl_failure *failure)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/%s", (int)pid, file);
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    bool ok = fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);
    if (!ok)
        kl_failure_errno(failure, errno, path);
    if (fd >= 0)
        close(fd);
    return ok;
}

// An ordinary user's map is written by a program with the right to (newuidmap(1)).
static bool run_map(pid_t pid, const char *program, const char *map, kl_failure *failure)
{
    char number[16], words[6][16];
    snprintf(number, sizeof number, "%d", (int)pid);
    if (sscanf(map, "%15s %15s %15s %15s %15s %15s", words[0], words[1], words[2], words[3],
               words[4], words[5]) != 6)
        return false;
    char *const argv[] = {(char *)(uintptr_t)program,
                          number,
                          words[0],
                          words[1],
                          words[2],
                          words[3],
                          words[4],
                          words[5],
                          NULL};
    kl_command command = {.argv = argv};
    return kl_command_run(&command, NULL, failure);
}

bool kl_ids_map(const kl_site *site, pid_t pid, kl_failure *failure)
{
    kl_buf uids = {0}, gids = {0};
    bool ok = describe_one(site, false, &uids, failure) && describe_one(site, true, &gids, failure);
    if (ok && site->ordinary)
        ok = run_map(pid, "newuidmap", uids.data, failure) &&
             run_map(pid, "newgidmap", gids.data, failure);
    else if (ok)
        ok = write_map(pid, "uid_map", uids.data, failure) &&
             write_map(pid, "gid_map", gids.data, failure);
    kl_buf_free(&uids);
    kl_buf_free(&gids);
    return ok;
}

bool kl_ids_write_map(pid_t pid, const char *map, kl_failure *failure)
{
    return write_map(pid, "uid_map", map, failure) && write_map(pid, "gid_map", map, failure);
}

// In the child: becomes root of the ids of layers. Where no router holds a user namespace with
// them, of its own, which the parent gives its ids: a byte each way.
static bool become_inside(const kl_site *site, int folder, int report, int go)
{
    char byte = '?';
    if (fchdir(folder) != 0)
        return false;
    if (site->router != 0)
        return kl_enter(site->router);
    return unshare(CLONE_NEWUSER) == 0 && write(report, &byte, 1) == 1 && read(go, &byte, 1) == 1 &&
           kl_enter(0);
}

// The child's report: '?' asks for ids, then '+' and what came out, or '-' and what failed.
static void work_inside(const kl_site *site, int folder, kl_inside_fn *work, const void *ctx,
                        int report, int go)
{
    kl_failure failure = {0};
    kl_buf out = {0};
    bool ok = become_inside(site, folder, report, go);
    if (!ok)
        kl_failure_errno(&failure, errno, "the machines' user namespace");
    ok = ok && work(ctx, &out, &failure);
    FILE *to = fdopen(report, "w");
    if (to == NULL)
        _exit(1);
    fputc(ok ? '+' : '-', to);
    if (ok)
        fwrite(kl_buf_text(&out), 1, out.length, to);
    else
        fputs(failure.message, to);
    _exit(fclose(to) == 0 ? 0 : 1);
}

static bool hear(const kl_site *site, pid_t pid, int report, int go, kl_buf *words,
                 kl_failure *failure)
{
    char block[4096];
    ssize_t got;
    while ((got = read(report, block, sizeof block)) > 0 || (got < 0 && errno == EINTR)) {
        if (words->length == 0 && got == 1 && block[0] == '?') {
            if (!kl_ids_map(site, pid, failure) || write(go, "", 1) != 1)
                return false;
        } else if (got > 0) {
            kl_buf_append(words, block, (size_t)got);
        }
    }
    if (words->length > 0 && words->data[0] == '+')
        return true;
    kl_failure_set(failure, "io", 0, "%.400s",
                   words->length > 0 ? words->data + 1
                                     : "the work in the user namespace was ended");
    return false;
}

bool kl_inside(const kl_site *site, int folder, kl_inside_fn *work, const void *ctx, kl_buf *out,
               kl_failure *failure)
{
    int report[2], go[2], status;
    kl_buf words = {0};
    if (pipe2(report, O_CLOEXEC) != 0 || pipe2(go, O_CLOEXEC) != 0) {
        kl_failure_errno(failure, errno, "pipe");
        return false;
    }
    pid_t pid = fork();
    if (pid == 0) {
        close(report[0]);
        close(go[1]);
        work_inside(site, folder, work, ctx, report[1], go[0]);
    }
    close(report[1]);
    close(go[0]);
    bool ok = pid > 0 && hear(site, pid, report[0], go[1], &words, failure);
    if (pid < 0)
        kl_failure_errno(failure, errno, "fork");
    close(report[0]);
    close(go[1]);
    while (pid > 0 && waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    if (ok && out != NULL)
        kl_buf_append(out, words.data + 1, words.length - 1);
    kl_buf_free(&words);
    return ok;
}

static bool remove_tree(const void *ctx, kl_buf *out, kl_failure *failure)
{
    (void)out;
    kl_failure local = {0};
    if (kl_files_remove(ctx, true, &local) || strcmp(local.kind, "not_found") == 0)
        return true;
    *failure = local;
    return false;
}

typedef struct move {
    const char *from, *to;
} move;

static bool move_folder(const void *ctx, kl_buf *out, kl_failure *failure)
{
    (void)out;
    const move *self = ctx;
    if (rename(self->from, self->to) == 0)
        return true;
    kl_failure_errno(failure, errno, self->to);
    return false;
}

// The owner of the site's folder may do it, or only the root of the machines' ids.
static bool as_owner(const kl_site *site, kl_inside_fn *work, const void *ctx, kl_failure *failure)
{
    return site->ordinary ? kl_inside(site, site->fd, work, ctx, NULL, failure)
                          : work(ctx, NULL, failure);
}

bool kl_layer_move(const kl_site *site, const char *from, const char *to, kl_failure *failure)
{
    const move self = {from, to};
    return as_owner(site, move_folder, &self, failure);
}

bool kl_layer_remove(const kl_site *site, const char *path, kl_failure *failure)
{
    struct stat there;
    if (lstat(path, &there) != 0 && errno == ENOENT)
        return true;
    return as_owner(site, remove_tree, path, failure);
}
