// A file that is read ahead in pieces by a thread, with its sum.
#include "io/file_source.h"

#include "base/ending.h"
#include "io/sha256.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

struct kl_file_source {
    uv_work_t work;
    uv_loop_t *loop;
    const kl_file_source_events *events; // NULL: closed
    void *ctx;
    bool busy;
    uint64_t left; // bytes that were not read yet
    uint64_t skip; // of them, those for the sum alone
    uint64_t count;
    int ahead;
    int ready;
    kl_file_piece *first, **last;
    kl_file_piece *spare; // given back, to be used again
    char sum[65];
    // The thread's own while it is busy:
    int file;
    kl_file_piece *piece;
    kl_sha256 sha;
    kl_failure failure;
};

// Fills the piece.
static void read_piece(uv_work_t *work)
{
    kl_file_source *source = work->data;
    kl_file_piece *piece = source->piece;
    size_t at = 0;
    while (at < piece->length) {
        ssize_t n = read(source->file, piece->bytes + at, piece->length - at);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            kl_failure_errno(&source->failure, errno, "reading the source");
        else if (n == 0)
            kl_failure_set(&source->failure, "io", 0, "the source shrank while it was read");
        if (n <= 0)
            return;
        at += (size_t)n;
    }
    kl_sha256_add(&source->sha, piece->bytes, at);
}

static void free_pieces(kl_file_piece *piece)
{
    while (piece != NULL) {
        kl_file_piece *next = piece->next;
        free(piece);
        piece = next;
    }
}

static void free_source(kl_file_source *source)
{
    free_pieces(source->first);
    free_pieces(source->spare);
    free(source->piece);
    close(source->file);
    kl_sha256_free(&source->sha);
    free(source);
}

static void piece_read(uv_work_t *work, int status);

// Pages that are new each time would cost more than a copy.
static kl_file_piece *new_piece(kl_file_source *source)
{
    kl_file_piece *piece = source->spare;
    if (piece == NULL)
        return kl_need(malloc(sizeof *piece + KL_FILE_PIECE));
    source->spare = piece->next;
    return piece;
}

static void read_ahead(kl_file_source *source)
{
    if (source->busy || source->left == 0 || source->ready >= source->ahead ||
        kl_failed(&source->failure))
        return;
    uint64_t most = source->skip > 0 ? source->skip : source->left;
    size_t length = most < KL_FILE_PIECE ? (size_t)most : KL_FILE_PIECE;
    if (source->piece == NULL)
        source->piece = new_piece(source);
    source->piece->length = length;
    source->busy = true;
    source->work.data = source;
    uv_queue_work(source->loop, &source->work, read_piece, piece_read);
}

static void piece_read(uv_work_t *work, int status)
{
    kl_file_source *source = work->data;
    kl_file_piece *piece = source->piece;
    (void)status;
    source->busy = false;
    if (source->events == NULL) {
        free_source(source);
        return;
    }
    if (kl_failed(&source->failure)) {
        source->events->failed(source->ctx, &source->failure);
        return;
    }
    source->left -= piece->length;
    if (source->skip > 0) {
        source->skip -= piece->length;
    } else {
        piece->next = NULL;
        piece->index = source->count++;
        *source->last = piece;
        source->last = &piece->next;
        source->ready++;
        source->piece = NULL;
    }
    if (source->left == 0)
        kl_sha256_hex(&source->sha, source->sum);
    read_ahead(source);
    source->events->ready(source->ctx);
}

kl_file_source *kl_file_source_open(uv_loop_t *loop, int file, uint64_t size,
                                    const kl_file_source_events *events, void *ctx)
{
    kl_file_source *source = calloc(1, sizeof *source);
    if (source == NULL)
        kl_out_of_memory();
    source->loop = loop;
    source->events = events;
    source->ctx = ctx;
    source->file = file;
    source->left = size;
    source->last = &source->first;
    kl_sha256_start(&source->sha);
    if (size == 0)
        kl_sha256_hex(&source->sha, source->sum);
    return source;
}

void kl_file_source_start(kl_file_source *source, uint64_t skip, int ahead)
{
    source->skip = skip;
    source->ahead = ahead;
    read_ahead(source);
}

kl_file_piece *kl_file_source_take(kl_file_source *source, unsigned int ways, unsigned int way)
{
    for (kl_file_piece **at = &source->first; *at != NULL; at = &(*at)->next) {
        kl_file_piece *piece = *at;
        if (piece->index / KL_FILE_SLICE % ways != way)
            continue;
        *at = piece->next;
        if (source->last == &piece->next)
            source->last = at;
        source->ready--;
        read_ahead(source);
        return piece;
    }
    return NULL;
}

void kl_file_source_give(kl_file_source *source, kl_file_piece *piece)
{
    piece->next = source->spare;
    source->spare = piece;
}

const char *kl_file_source_sum(const kl_file_source *source)
{
    return source->sum[0] != '\0' ? source->sum : NULL;
}

void kl_file_source_close(kl_file_source *source)
{
    source->events = NULL;
    if (source->busy)
        uv_cancel((uv_req_t *)&source->work); // if it has not begun
    else
        free_source(source);
}
