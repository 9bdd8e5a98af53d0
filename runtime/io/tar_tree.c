// A directory as one tar stream.
#include "io/tar_tree.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/ending.h"
#include "io/sha256.h"
#include "io/tar_writer.h"

typedef struct tree_node {
    char *path; // owned; "./etc/app.conf"
    mode_t mode;
    uint64_t size;
    int64_t mtime;
} tree_node;

struct kl_tar_tree {
    char *sums_name;
    char *const *exclude; // borrowed while the tree is listed
    int root;             // descriptor of the source
    tree_node *nodes;
    size_t count;
    size_t capacity;
    size_t next;
    int file; // descriptor of the file in the stream, -1: none
    uint64_t left;
    uint64_t bytes;
    uint64_t total; // of all files, as listed
    bool ended;
    kl_buf pending; // headers and padding that wait for their turn
    size_t pending_at;
    kl_sha256 sha;
    kl_buf sums;
    kl_buf entries; // what the digest is of
};

static void add_node(kl_tar_tree *tree, const char *path, const struct stat *stat)
{
    if (tree->count == tree->capacity) {
        tree->capacity = tree->capacity != 0 ? tree->capacity * 2 : 64;
        tree->nodes = realloc(tree->nodes, tree->capacity * sizeof *tree->nodes);
        if (tree->nodes == NULL)
            kl_out_of_memory();
    }
    tree_node *node = &tree->nodes[tree->count++];
    node->path = kl_need(strdup(path));
    node->mode = stat->st_mode;
    node->size = S_ISREG(stat->st_mode) ? (uint64_t)stat->st_size : 0;
    node->mtime = stat->st_mtim.tv_sec;
    tree->total += node->size;
}

static int by_name(const struct dirent **a, const struct dirent **b)
{
    return strcmp((*a)->d_name, (*b)->d_name); // the same order under every locale
}

static int not_dots(const struct dirent *entry)
{
    return strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0;
}

static bool fail_errno(const char *path, kl_failure *out_failure)
{
    kl_failure_errno(out_failure, errno, path);
    return false;
}

static bool matches(const char *pattern, const char *path, bool directory)
{
    char text[PATH_MAX];
    size_t length = strlen(pattern);
    if (length == 0 || length >= sizeof text)
        return false;
    memcpy(text, pattern, length + 1);
    if (text[length - 1] == '/') {
        if (!directory)
            return false;
        text[length - 1] = '\0';
    }
    if (strchr(text, '/') != NULL)
        return fnmatch(text[0] == '/' ? text + 1 : text, path, FNM_PATHNAME) == 0;
    const char *slash = strrchr(path, '/');
    return fnmatch(text, slash != NULL ? slash + 1 : path, 0) == 0;
}

static bool is_excluded(const kl_tar_tree *tree, const char *path, bool directory)
{
    if (tree->exclude == NULL || strcmp(path, ".") == 0)
        return false;
    for (char *const *at = tree->exclude; *at != NULL; at++) {
        if (matches(*at, path + 2, directory)) // after "./"
            return true;
    }
    return false;
}

static bool list_directory(kl_tar_tree *tree, const char *path, kl_failure *out_failure);

static bool list_node(kl_tar_tree *tree, const char *path, kl_failure *out_failure)
{
    struct stat stat;
    if (fstatat(tree->root, path, &stat, AT_SYMLINK_NOFOLLOW) != 0)
        return fail_errno(path, out_failure);
    if (is_excluded(tree, path, S_ISDIR(stat.st_mode)))
        return true;
    if (!S_ISDIR(stat.st_mode) && !S_ISREG(stat.st_mode) && !S_ISLNK(stat.st_mode)) {
        kl_failure_set(out_failure, "unsupported", 0,
                       "%s is neither a file, a directory nor a symbolic link", path);
        return false;
    }
    add_node(tree, path, &stat);
    return !S_ISDIR(stat.st_mode) || list_directory(tree, path, out_failure);
}

static bool list_directory(kl_tar_tree *tree, const char *path, kl_failure *out_failure)
{
    struct dirent **entries = NULL;
    int count = scandirat(tree->root, path, &entries, not_dots, by_name);
    if (count < 0)
        return fail_errno(path, out_failure);
    bool ok = true;
    for (int i = 0; i < count; i++) {
        kl_buf child = {0};
        kl_buf_printf(&child, "%s/%s", path, entries[i]->d_name);
        ok = ok && list_node(tree, child.data, out_failure);
        kl_buf_free(&child);
        free(entries[i]);
    }
    free(entries);
    return ok;
}

kl_tar_tree *kl_tar_tree_open(const char *source, const char *sums, char *const exclude[],
                              kl_failure *out_failure)
{
    int root = open(source, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (root < 0) {
        kl_failure_errno(out_failure, errno, source);
        return NULL;
    }
    kl_tar_tree *tree = calloc(1, sizeof *tree);
    if (tree == NULL)
        kl_out_of_memory();
    tree->root = root;
    tree->file = -1;
    tree->sums_name = kl_need(strdup(sums));
    tree->exclude = exclude;
    if (!list_node(tree, ".", out_failure)) {
        kl_tar_tree_close(tree);
        return NULL;
    }
    return tree;
}

// A line as sha256sum writes it: names with a backslash or a newline are escaped, and say so.
static void note_sum(kl_tar_tree *tree, const char *path, const char *hex)
{
    bool escaped = strpbrk(path, "\\\n\r") != NULL;
    kl_buf_printf(&tree->sums, "%s%s  ", escaped ? "\\" : "", hex);
    for (const char *at = path; *at != '\0'; at++) {
        if (*at == '\\')
            kl_buf_puts(&tree->sums, "\\\\");
        else if (*at == '\n')
            kl_buf_puts(&tree->sums, "\\n");
        else if (*at == '\r')
            kl_buf_puts(&tree->sums, "\\r");
        else
            kl_buf_append(&tree->sums, at, 1);
    }
    kl_buf_puts(&tree->sums, "\n");
}

// A line of what the digest is of; no path has the zero byte that ends it.
static void note_entry(kl_tar_tree *tree, const tree_node *node, const char *kind, const char *is)
{
    kl_buf_printf(&tree->entries, "%s %04o %s %s", kind, (unsigned)(node->mode & 07777), is,
                  node->path);
    kl_buf_append(&tree->entries, "", 1);
}

static bool start_link(kl_tar_tree *tree, const tree_node *node, kl_failure *out_failure)
{
    char link[PATH_MAX];
    ssize_t length = readlinkat(tree->root, node->path, link, sizeof link - 1);
    if (length < 0)
        return fail_errno(node->path, out_failure);
    link[length] = '\0';
    kl_tar_entry entry = {KL_TAR_LINK, node->path, link, 0777, 0, node->mtime};
    kl_tar_header(&tree->pending, &entry);
    char hex[65];
    kl_sha256_of(link, (size_t)length, hex);
    note_entry(tree, node, "link", hex);
    return true;
}

static bool start_node(kl_tar_tree *tree, kl_failure *out_failure)
{
    const tree_node *node = &tree->nodes[tree->next++];
    if (S_ISLNK(node->mode))
        return start_link(tree, node, out_failure);
    kl_tar_entry entry = {KL_TAR_DIRECTORY, node->path, NULL, node->mode, 0, node->mtime};
    if (S_ISREG(node->mode)) {
        tree->file = openat(tree->root, node->path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
        if (tree->file < 0)
            return fail_errno(node->path, out_failure);
        entry.type = KL_TAR_FILE;
        entry.size = node->size;
        tree->left = node->size;
        kl_sha256_start(&tree->sha);
    } else {
        note_entry(tree, node, "directory", "-");
    }
    kl_tar_header(&tree->pending, &entry);
    return true;
}

static void end_file(kl_tar_tree *tree)
{
    const tree_node *node = &tree->nodes[tree->next - 1];
    close(tree->file);
    tree->file = -1;
    char hex[65];
    kl_sha256_hex(&tree->sha, hex);
    note_sum(tree, node->path, hex);
    note_entry(tree, node, "file", hex);
    kl_tar_pad(&tree->pending, node->size);
}

static void end_stream(kl_tar_tree *tree)
{
    kl_tar_entry entry = {KL_TAR_FILE, tree->sums_name, NULL, 0600, tree->sums.length, 0};
    kl_tar_header(&tree->pending, &entry);
    kl_buf_append(&tree->pending, kl_buf_text(&tree->sums), tree->sums.length);
    kl_tar_pad(&tree->pending, tree->sums.length);
    kl_tar_end(&tree->pending);
    tree->ended = true;
}

static ssize_t read_file(kl_tar_tree *tree, char *out, size_t size, kl_failure *out_failure)
{
    size_t want = tree->left < size ? (size_t)tree->left : size;
    ssize_t n = read(tree->file, out, want);
    const char *path = tree->nodes[tree->next - 1].path;
    if (n < 0) {
        fail_errno(path, out_failure);
        return -1;
    }
    if (n == 0) {
        kl_failure_set(out_failure, "io", 0, "%s changed while it was read", path);
        return -1;
    }
    kl_sha256_add(&tree->sha, out, (size_t)n);
    tree->left -= (uint64_t)n;
    tree->bytes += (uint64_t)n;
    return n;
}

static size_t take_pending(kl_tar_tree *tree, char *out, size_t size)
{
    size_t length = tree->pending.length - tree->pending_at;
    if (length > size)
        length = size;
    memcpy(out, tree->pending.data + tree->pending_at, length);
    tree->pending_at += length;
    if (tree->pending_at == tree->pending.length)
        tree->pending_at = tree->pending.length = 0;
    return length;
}

ssize_t kl_tar_tree_read(kl_tar_tree *tree, char *out, size_t size, kl_failure *out_failure)
{
    size_t filled = 0;
    while (filled < size) {
        if (tree->pending.length > tree->pending_at) {
            filled += take_pending(tree, out + filled, size - filled);
        } else if (tree->file >= 0 && tree->left > 0) {
            ssize_t n = read_file(tree, out + filled, size - filled, out_failure);
            if (n < 0)
                return -1;
            filled += (size_t)n;
        } else if (tree->file >= 0) {
            end_file(tree);
        } else if (tree->next < tree->count) {
            if (!start_node(tree, out_failure))
                return -1;
        } else if (!tree->ended) {
            end_stream(tree);
        } else {
            break;
        }
    }
    return (ssize_t)filled;
}

uint64_t kl_tar_tree_bytes(const kl_tar_tree *tree)
{
    return tree->bytes;
}

uint64_t kl_tar_tree_total(const kl_tar_tree *tree)
{
    return tree->total;
}

void kl_tar_tree_digest(const kl_tar_tree *tree, char out[65])
{
    kl_sha256 sha = {0};
    kl_sha256_start(&sha);
    kl_sha256_add(&sha, kl_buf_text(&tree->entries), tree->entries.length);
    kl_sha256_hex(&sha, out);
    kl_sha256_free(&sha);
}

void kl_tar_tree_close(kl_tar_tree *tree)
{
    if (tree->file >= 0)
        close(tree->file);
    close(tree->root);
    for (size_t i = 0; i < tree->count; i++)
        free(tree->nodes[i].path);
    free(tree->nodes);
    free(tree->sums_name);
    kl_buf_free(&tree->pending);
    kl_buf_free(&tree->sums);
    kl_buf_free(&tree->entries);
    kl_sha256_free(&tree->sha);
    free(tree);
}
