// The store: SQL statements with parameters, rows by callback. SQLite now; the interface is narrow
// enough that another engine of the same SQL subset could serve it.
#ifndef KL_IO_STORE_H
#define KL_IO_STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/failure.h"

typedef struct kl_store kl_store;

typedef enum kl_value_type { KL_NULL, KL_INTEGER, KL_REAL, KL_TEXT } kl_value_type;

typedef struct kl_value {
    kl_value_type type;
    int64_t integer;
    double real;
    const char *text; // borrowed: parameters until the call returns, cells until the next row
    size_t length;
} kl_value;

// Appends the bytes of a new store's file, its tables made by the script of SQL: written as a
// whole, it is there or not, never half made.
bool kl_store_blank(kl_buf *out, const char *script, kl_failure *failure);

// Opens or makes the file (0600) with WAL, synchronous=FULL and foreign keys: what a statement
// acknowledged is on the disk. NULL and `out` on failure: denied, not_found, invalid (no store),
// locked, limit (disk full), io.
kl_store *kl_store_open(const char *path, kl_failure *out);
// Closes it; an open transaction is rolled back. NULL is fine. A short log stays beside the file
// (-wal, -shm): it belongs to the store, and the next one reads it.
void kl_store_close(kl_store *store);

// Runs one statement up to its first row or its end; kl_store_step goes on. Only one statement is
// open at a time: a new one, or kl_store_end, closes it. Parameters are ?1, ?2 …
bool kl_store_begin(kl_store *store, const char *sql, size_t length, const kl_value *params,
                    int count, kl_failure *out);
// Goes to the next row. 1: a row is there; 0: the end; -1: failed.
int kl_store_step(kl_store *store, kl_failure *out);
int kl_store_columns(const kl_store *store);
const char *kl_store_column_name(const kl_store *store, int column);
kl_value kl_store_cell(const kl_store *store, int column);
void kl_store_end(kl_store *store);

int64_t kl_store_changes(const kl_store *store);
int64_t kl_store_last_id(const kl_store *store);

#endif
