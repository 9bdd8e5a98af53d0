// Plain scalars by YAML 1.1 (https://yaml.org/type/), the version that PyYAML and cloud-init read.
#ifndef KL_BASE_YAML_PLAIN_H
#define KL_BASE_YAML_PLAIN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum kl_yaml_style { KL_YAML_PLAIN, KL_YAML_QUOTED, KL_YAML_BLOCK } kl_yaml_style;
// How text is written so that no reader takes it for another type. `text` is NUL-terminated.
kl_yaml_style kl_yaml_style_of(const char *text, size_t length);

typedef enum kl_yaml_type {
    KL_YAML_TEXT,
    KL_YAML_NULL,
    KL_YAML_BOOLEAN,
    KL_YAML_INTEGER,
    KL_YAML_HUGE, // a whole number beyond 64 bits
    KL_YAML_REAL
} kl_yaml_type;

typedef struct kl_yaml_scalar {
    kl_yaml_type type;
    bool boolean;
    int64_t integer;
    double real;
} kl_yaml_scalar;
// What a scalar without quotes means; without sexagesimal numbers and underscores.
kl_yaml_scalar kl_yaml_plain(const char *text, size_t length);

// Writes a finite number so that it is read back as the same real one: always with its point.
void kl_yaml_real_text(double number, char *out, size_t size);

#endif
