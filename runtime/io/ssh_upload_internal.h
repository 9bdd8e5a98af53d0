// What ssh_upload.c and ssh_upload_ways.c share.
#ifndef KL_IO_SSH_UPLOAD_INTERNAL_H
#define KL_IO_SSH_UPLOAD_INTERNAL_H

#include "io/file_source.h"
#include "io/ssh_transfer_internal.h"

#define KL_UPLOAD_ASKS (16 * 1024 * 1024) // bytes from which the host takes the sum as they come
#define KL_UPLOAD_MORE 3                  // channels besides the first
#define KL_UPLOAD_AHEAD 2 // pieces; with several channels, a slice more than they are

// The channels: the first one's is the script's.
typedef struct kl_upload_way {
    struct kl_file_upload *upload;
    kl_ssh_channel *channel; // of the others; NULL: ended
    bool settled;            // of the others: it is open, or will not be
    bool open;
    kl_buf said;
    size_t count_at;      // what it was told of how many there are
    kl_file_piece *piece; // being sent
    size_t at;
} kl_upload_way;

typedef struct kl_file_upload {
    kl_ssh_transfer transfer;
    kl_file_source *source; // NULL: from `content`
    kl_buf content;
    size_t content_at;
    uint64_t size;
    uint64_t left;
    char mark[17]; // empty: the host is not asked
    bool asks;     // it has not answered
    kl_buf answer;
    uint64_t resumed;
    char *part; // the unfinished file there
    bool sparse;
    kl_upload_way ways[1 + KL_UPLOAD_MORE];
    unsigned int count; // of ways that are used; 0: not decided
    char more[4];       // what the host is told of that
    bool broken;        // one of them failed: the others end, and the script says what it knows
    char sum[66];       // hex and a newline, once known
    size_t sum_at;
} kl_file_upload;

// dd's conversions for it.
const char *kl_upload_conversion(const kl_file_upload *self);
// Whether it may go over several channels.
bool kl_upload_far(const kl_file_upload *self);
// Opens the other channels, if the host has room for them now; then decides.
void kl_upload_ways_open(kl_file_upload *self);
// So many channels are used.
void kl_upload_ways_decide(kl_file_upload *self, unsigned int count);
// What a way gets: how many there are, then its bytes of the file.
ssize_t kl_upload_way_pull(kl_upload_way *way, char *out, size_t size);
// Copies from `*at` on as much of the text as there is room for, and moves it.
ssize_t kl_upload_pull_text(const char *text, size_t *at, char *out, size_t size);
void kl_upload_ways_free(kl_file_upload *self);

#endif
