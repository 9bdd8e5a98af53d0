// The host ids of root's machines: a range that nobody else has. It stands in the files from which
// users get their ranges (subuid(5), subgid(5)), so that useradd(8) gives it to nobody; usermod(8)
// does not look, so every start looks again.
#include "io/machine.h"

#include "io/files.h"

#include <errno.h>
#include <fcntl.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

// 1,024 blocks of ids. The ranges to choose from lie above those of useradd(8), of systemd-nspawn
// and of sssd, and below systemd's foreign ids (systemd's UIDS-GIDS.md) and 2^31.
enum { BLOCKS = 1024 };
#define COUNT (BLOCKS * (unsigned)KL_IDS)
static const unsigned choices[] = {0x78000000, 0x74000000, 0x70000000};
enum { CHOICES = sizeof choices / sizeof choices[0] };

static const char owner[] = "kiln-machines";
static const char *const files[] = {"/etc/subuid", "/etc/subgid"};

// What one of the files says.
typedef struct entry {
    bool there;
    unsigned own;   // the first id of our line; 0: it has none
    char other[80]; // a line of somebody else with ids of the range
} entry;

static void parse(entry *out, const char *text, unsigned first)
{
    char name[64];
    unsigned from, count;
    for (const char *line = text; line != NULL && *line != '\0';) {
        if (sscanf(line, "%63[^:\n]:%u:%u", name, &from, &count) == 3) {
            if (strcmp(name, owner) == 0)
                out->own = count >= COUNT ? from : out->own;
            else if (from < (uint64_t)first + COUNT && first < (uint64_t)from + count)
                snprintf(out->other, sizeof out->other, "%.40s:%u:%u", name, from, count);
        }
        line = strchr(line, '\n');
        line += line != NULL;
    }
}

static bool look(entry out[2], unsigned first, kl_failure *failure)
{
    for (int i = 0; i < 2; i++) {
        kl_buf text = {0};
        kl_failure local = {0};
        out[i] = (entry){.there = kl_files_read(&text, files[i], 1 << 20, &local)};
        if (out[i].there)
            parse(&out[i], kl_buf_text(&text), first);
        kl_buf_free(&text);
        if (!out[i].there && strcmp(local.kind, "not_found") != 0) {
            *failure = local;
            return false;
        }
    }
    return true;
}

unsigned kl_range_first(void)
{
    entry found[2];
    kl_failure ignored;
    if (look(found, choices[0], &ignored)) {
        for (int i = 0; i < 2; i++) {
            if (found[i].own != 0)
                return found[i].own;
        }
    }
    return choices[0];
}

bool kl_range_is_ours(unsigned first)
{
    return first % KL_IDS == 0 && first >= choices[CHOICES - 1] && first < choices[0] + COUNT;
}

// shadow's way to lock its files: a file with our number gets a second name (lckpwdf of shadow's
// lib/commonio.c). The lock of a process that is gone is taken away.
static bool lock_file(const char *file, char *lock, size_t size, kl_failure *failure)
{
    char own[64], number[16];
    snprintf(lock, size, "%s.lock", file);
    snprintf(own, sizeof own, "%s.%d", file, (int)getpid());
    int length = snprintf(number, sizeof number, "%d", (int)getpid());
    if (!kl_files_write(own, number, (size_t)length + 1, 0600, KL_FILES_REPLACE, failure))
        return false;
    bool locked = false;
    for (int tries = 0; !locked && tries < 150; tries++) {
        kl_buf text = {0};
        kl_failure ignored;
        locked = link(own, lock) == 0;
        if (!locked && kl_files_read(&text, lock, 64, &ignored) && atoi(kl_buf_text(&text)) > 0 &&
            kill(atoi(kl_buf_text(&text)), 0) != 0 && errno == ESRCH)
            unlink(lock);
        else if (!locked)
            usleep(100000);
        kl_buf_free(&text);
    }
    unlink(own);
    if (!locked)
        kl_failure_set(failure, "locked", 0, "%s is locked by another program (%s)", file, lock);
    return locked;
}

static bool append(const char *file, unsigned first, kl_failure *failure)
{
    kl_buf text = {0};
    struct stat there;
    bool ok = stat(file, &there) == 0 && kl_files_read(&text, file, 1 << 20, failure);
    if (ok && text.length > 0 && text.data[text.length - 1] != '\n')
        kl_buf_puts(&text, "\n");
    kl_buf_printf(&text, "%s:%u:%u\n", owner, first, COUNT);
    ok = ok && kl_files_write(file, text.data, text.length, there.st_mode & 0777, KL_FILES_REPLACE,
                              failure);
    kl_buf_free(&text);
    return ok;
}

static bool is_account(unsigned id)
{
    return getpwuid(id) != NULL;
}

// A range of which nobody has an id; 0: there is none.
static unsigned choose(kl_failure *failure)
{
    for (int i = 0; i < CHOICES; i++) {
        entry found[2];
        if (!look(found, choices[i], failure))
            return 0;
        if (found[0].other[0] == '\0' && found[1].other[0] == '\0' && !is_account(choices[i]) &&
            !is_account(choices[i] + COUNT - 1))
            return choices[i];
    }
    kl_failure_set(failure, "unsupported", 0,
                   "no range of ids is free for machines: users have ids from %u to %u in "
                   "/etc/subuid or /etc/subgid",
                   choices[CHOICES - 1], choices[0] + COUNT - 1);
    return 0;
}

// With both files locked.
static bool write_down(kl_failure *failure)
{
    entry found[2];
    if (!look(found, choices[0], failure))
        return false;
    unsigned first = found[0].own != 0 ? found[0].own : found[1].own;
    if (first == 0)
        first = choose(failure);
    bool ok = first != 0;
    for (int i = 0; ok && i < 2; i++) {
        if (found[i].there && found[i].own != first)
            ok = append(files[i], first, failure);
    }
    return ok;
}

static bool register_range(const entry found[2], kl_failure *failure)
{
    char locks[2][64] = {"", ""};
    bool ok = true;
    for (int i = 0; ok && i < 2; i++) {
        if (found[i].there && !lock_file(files[i], locks[i], sizeof locks[i], failure)) {
            locks[i][0] = '\0';
            ok = false;
        }
    }
    ok = ok && write_down(failure);
    for (int i = 0; i < 2; i++) {
        if (locks[i][0] != '\0')
            unlink(locks[i]);
    }
    return ok;
}

// Without our lines.
static bool remove_own(const char *file, kl_failure *failure)
{
    kl_buf text = {0}, rest = {0};
    struct stat there;
    char start[64];
    size_t length = (size_t)snprintf(start, sizeof start, "%s:", owner);
    bool ok = stat(file, &there) == 0 && kl_files_read(&text, file, 1 << 20, failure);
    for (const char *line = kl_buf_text(&text); ok && *line != '\0';) {
        const char *end = strchrnul(line, '\n');
        end += *end == '\n';
        if (strncmp(line, start, length) != 0)
            kl_buf_append(&rest, line, (size_t)(end - line));
        line = end;
    }
    ok = ok && kl_files_write(file, kl_buf_text(&rest), rest.length, there.st_mode & 0777,
                              KL_FILES_REPLACE, failure);
    kl_buf_free(&text);
    kl_buf_free(&rest);
    return ok;
}

bool kl_range_release(kl_site *site, const kl_fields *request, kl_failure *failure)
{
    (void)request;
    entry found[2];
    bool ok = site->ordinary || look(found, choices[0], failure);
    for (int i = 0; ok && !site->ordinary && i < 2; i++) {
        char lock[64];
        if (!found[i].there || found[i].own == 0)
            continue;
        ok = lock_file(files[i], lock, sizeof lock, failure);
        if (ok) {
            ok = remove_own(files[i], failure);
            unlink(lock);
        }
    }
    return ok;
}

bool kl_range_reserve(kl_site *site, kl_failure *failure)
{
    entry found[2];
    if (site->ordinary)
        return true;
    if (getpwnam(owner) != NULL) {
        kl_failure_set(failure, "unsupported", 0,
                       "there is a user '%s' on this host, whose line in /etc/subuid would give it "
                       "the ids of machines: rename that user",
                       owner);
        return false;
    }
    if (!look(found, choices[0], failure))
        return false;
    bool written = (!found[0].there || found[0].own != 0) &&
                   (!found[1].there || found[1].own == found[0].own || !found[0].there);
    if (!written && !register_range(found, failure))
        return false;
    site->uid = site->gid = kl_range_first();
    if (!look(found, site->uid, failure))
        return false;
    for (int i = 0; i < 2; i++) {
        if (found[i].other[0] == '\0')
            continue;
        kl_failure_set(
            failure, "denied", 0,
            "%s gives ids of kiln's machines (%s:%u:%u) to somebody else, who could take "
            "machines over: change its line %s",
            files[i], owner, (unsigned)site->uid, COUNT, found[i].other);
        return false;
    }
    return true;
}

// The lock of a file belongs to the open file, so to whoever has the descriptor: it ends with the
// machine, whatever ends that.
int kl_range_block(const kl_site *site, unsigned *out, kl_failure *failure)
{
    char path[64];
    if (mkdir("/run/kiln", 0755) != 0 && errno != EEXIST) {
        kl_failure_errno(failure, errno, "/run/kiln");
        return -1;
    }
    mkdir("/run/kiln/ids", 0700);
    for (unsigned block = 1; block < BLOCKS; block++) { // the first one is that of files
        snprintf(path, sizeof path, "/run/kiln/ids/%u", site->uid + block * KL_IDS);
        int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
        if (fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) == 0) {
            *out = site->uid + block * KL_IDS;
            return fd;
        }
        if (fd < 0) {
            kl_failure_errno(failure, errno, path);
            return -1;
        }
        close(fd);
    }
    kl_failure_set(failure, "limit", 0, "all %d blocks of ids are taken by machines", BLOCKS - 1);
    return -1;
}
