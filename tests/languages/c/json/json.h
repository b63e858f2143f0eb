/* JSON: a reader and a writer, with the memory of the event. */
#ifndef JSON_H
#define JSON_H

#include "jackfield.h"

typedef enum {
    JSON_NULL,
    JSON_FALSE,
    JSON_TRUE,
    JSON_NUMBER,
    JSON_STRING,
    JSON_ARRAY,
    JSON_OBJECT,
} json_kind;

typedef struct json json;

struct json {
    json_kind kind;
    jf_str text;       /* a string's characters, or a number as it was written */
    jf_str raw;        /* the value as it was written */
    jf_str key;        /* in an object: the name that it stands under */
    const json *first; /* of an array's values, or an object's */
    const json *next;
};

/* Reads a whole text as RFC 8259 has it. NULL if it is no JSON: `why` then says what is wrong, and
 * where. */
const json *json_read(jf_str text, jf_str *why);

/* What an object has under this name, or NULL. If the name came twice, the last value counts. */
const json *json_get(const json *object, jf_str name);

/* Whether the value is a whole number of this range, which is then written to `number`. */
bool json_is_uint(const json *value, uint64_t most, uint64_t *number);

/* A text that grows. Commas come by themselves. */
typedef struct {
    char *ptr;
    size_t len, room;
} json_text;

void json_open(json_text *to, char bracket);
void json_close(json_text *to, char bracket);
void json_name(json_text *to, jf_str name);
/* The value as it is written; a string; null if it is none. */
void json_raw(json_text *to, jf_str value);
void json_string(json_text *to, jf_str value);
void json_uint(json_text *to, uint64_t value);
void json_bool(json_text *to, bool value);
jf_str json_done(const json_text *text);

/* As the SDK's functions, these take "text" as well. */
#define json_get(object, name) json_get(object, JF(name))
#define json_name(to, name) json_name(to, JF(name))
#define json_raw(to, value) json_raw(to, JF(value))
#define json_string(to, value) json_string(to, JF(value))

#endif
