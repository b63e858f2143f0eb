/* State of the plugin's own. */
#include "internal.h"

#include <stdlib.h>
#include <string.h>

typedef wasi_keyvalue_store_borrow_bucket_t bucket_handle;

/* As often as others may come first. */
enum { ATTEMPTS = 100 };

__attribute__((import_module("wasi:keyvalue/atomics@0.2.0-draft2"),
               import_name("[resource-drop]cas"))) void
jf_drop_cas_(int32_t handle);

static jf_code failed(wasi_keyvalue_store_error_t error) {
    switch (error.tag) {
    case WASI_KEYVALUE_STORE_ERROR_NO_SUCH_STORE:
        return jf_note_error_(JF_NOT_FOUND, JF("there is no such bucket"));
    case WASI_KEYVALUE_STORE_ERROR_ACCESS_DENIED:
        return jf_note_error_(JF_DENIED, JF("the bucket is not granted"));
    default: return jf_note_error_(JF_FAILED, from_text(error.val.other));
    }
}

/* A bucket stays open as long as the instance. */
struct bucket {
    struct bucket *next;
    bucket_handle handle;
    size_t len;
    char name[];
};

static jf_code open_bucket(jf_str name, bucket_handle *handle) {
    static struct bucket *opened;
    if (!jf_is_text_("bucket", name)) return JF_INVALID_ARGUMENT;
    for (struct bucket *bucket = opened; bucket; bucket = bucket->next) {
        if (bucket->len == name.len && !memcmp(bucket->name, name.ptr, name.len)) {
            *handle = bucket->handle;
            return JF_OK;
        }
    }
    app_string_t identifier = to_text(name);
    wasi_keyvalue_store_own_bucket_t own;
    wasi_keyvalue_store_error_t error;
    if (!wasi_keyvalue_store_open(&identifier, &own, &error)) return failed(error);
    struct bucket *bucket = malloc(sizeof *bucket + name.len);
    if (!bucket) jf_panic("no memory for a bucket");
    *bucket = (struct bucket){opened, {own.__handle}, name.len};
    memcpy(bucket->name, name.ptr, name.len);
    opened = bucket;
    *handle = bucket->handle;
    return JF_OK;
}

#define OPEN(name) \
    bucket_handle opened; \
    do { \
        jf_code code = open_bucket(name, &opened); \
        if (code != JF_OK) return code; \
    } while (0)

static jf_str from_value(app_option_list_u8_t value) {
    return value.is_some ? from_bytes(value.val) : JF_NONE;
}

jf_code(jf_bucket_get)(jf_str bucket, jf_str key, jf_str *value) {
    TEXT(key);
    OPEN(bucket);
    app_string_t name = to_text(key);
    app_option_list_u8_t found;
    wasi_keyvalue_store_error_t error;
    if (!wasi_keyvalue_store_method_bucket_get(opened, &name, &found, &error)) return failed(error);
    RESULT(value, from_value(found));
    return JF_OK;
}

jf_code(jf_bucket_set)(jf_str bucket, jf_str key, jf_str value) {
    TEXT(key);
    OPEN(bucket);
    app_string_t name = to_text(key);
    app_list_u8_t bytes = to_bytes(value);
    wasi_keyvalue_store_error_t error;
    if (!wasi_keyvalue_store_method_bucket_set(opened, &name, &bytes, &error)) return failed(error);
    return JF_OK;
}

jf_code(jf_bucket_delete)(jf_str bucket, jf_str key) {
    TEXT(key);
    OPEN(bucket);
    app_string_t name = to_text(key);
    wasi_keyvalue_store_error_t error;
    if (!wasi_keyvalue_store_method_bucket_delete(opened, &name, &error)) return failed(error);
    return JF_OK;
}

jf_code(jf_bucket_exists)(jf_str bucket, jf_str key, bool *exists) {
    TEXT(key);
    OPEN(bucket);
    app_string_t name = to_text(key);
    bool does;
    wasi_keyvalue_store_error_t error;
    if (!wasi_keyvalue_store_method_bucket_exists(opened, &name, &does, &error))
        return failed(error);
    RESULT(exists, does);
    return JF_OK;
}

jf_code(jf_bucket_keys)(jf_str bucket, jf_str cursor, jf_page *page) {
    TEXT_OR_NONE(cursor);
    OPEN(bucket);
    app_string_t from = to_text(cursor);
    wasi_keyvalue_store_key_response_t found;
    wasi_keyvalue_store_error_t error;
    if (!wasi_keyvalue_store_method_bucket_list_keys(opened, from.ptr ? &from : NULL, &found,
                                                     &error))
        return failed(error);
    RESULT(page, ((jf_page){.items = from_texts(found.keys.ptr, found.keys.len),
                            .next = from_option(found.cursor)}));
    return JF_OK;
}

jf_code(jf_bucket_increment)(jf_str bucket, jf_str key, int64_t delta, int64_t *value) {
    TEXT(key);
    OPEN(bucket);
    app_string_t name = to_text(key);
    int64_t sum;
    wasi_keyvalue_store_error_t error;
    if (!wasi_keyvalue_atomics_increment(opened, &name, delta, &sum, &error)) return failed(error);
    RESULT(value, sum);
    return JF_OK;
}

jf_code(jf_bucket_update)(jf_str bucket, jf_str key, jf_updater *updater, void *context) {
    TEXT(key);
    OPEN(bucket);
    app_string_t name = to_text(key);
    wasi_keyvalue_atomics_own_cas_t cas;
    wasi_keyvalue_store_error_t error;
    if (!wasi_keyvalue_atomics_static_cas_new(opened, &name, &cas, &error)) return failed(error);
    for (int attempt = 0; attempt < ATTEMPTS; attempt++) {
        wasi_keyvalue_atomics_borrow_cas_t borrowed = {cas.__handle};
        app_option_list_u8_t old;
        if (!wasi_keyvalue_atomics_method_cas_current(borrowed, &old, &error)) {
            jf_drop_cas_(cas.__handle);
            return failed(error);
        }
        jf_out new = {0};
        /* The updater may call the node. */
        struct jf_place place = jf_place_();
        jf_code code = updater(from_value(old), &new, context);
        jf_at_(place.function, place.file, place.line);
        if (code != JF_OK || !new.bytes.ptr) {
            jf_drop_cas_(cas.__handle);
            return code;
        }
        app_list_u8_t value = to_bytes(new.bytes);
        wasi_keyvalue_atomics_cas_error_t refused;
        if (wasi_keyvalue_atomics_swap(cas, &value, &refused)) return JF_OK;
        if (refused.tag == WASI_KEYVALUE_ATOMICS_CAS_ERROR_STORE_ERROR)
            return failed(refused.val.store_error);
        cas = refused.val.cas_failed;
    }
    jf_drop_cas_(cas.__handle);
    return jf_note_error_(JF_FAILED, jf_format("others came first, %d times", ATTEMPTS));
}

jf_code(jf_bucket_get_many)(jf_str bucket, jf_list keys, jf_list *values) {
    TEXTS(keys);
    OPEN(bucket);
    app_list_string_t names = {to_texts(keys), keys.len};
    app_list_option_tuple2_string_list_u8_t found;
    wasi_keyvalue_store_error_t error;
    if (!wasi_keyvalue_batch_get_many(opened, &names, &found, &error)) return failed(error);
    jf_list list = {0};
    for (size_t i = 0; i < found.len; i++)
        jf_list_add(&list, found.ptr[i].is_some ? from_bytes(found.ptr[i].val.f1) : JF_NONE);
    RESULT(values, list);
    return JF_OK;
}

jf_code(jf_bucket_set_many)(jf_str bucket, jf_map values) {
    app_list_tuple2_string_list_u8_t pairs = {NULL, values.len};
    pairs.ptr = jf_alloc(values.len * sizeof *pairs.ptr);
    for (size_t i = 0; i < values.len; i++) {
        jf_str key = values.items[i].key;
        TEXT(key);
        pairs.ptr[i].f0 = to_text(key);
        pairs.ptr[i].f1 = to_bytes(values.items[i].value);
    }
    OPEN(bucket);
    wasi_keyvalue_store_error_t error;
    if (!wasi_keyvalue_batch_set_many(opened, &pairs, &error)) return failed(error);
    return JF_OK;
}

jf_code(jf_bucket_delete_many)(jf_str bucket, jf_list keys) {
    TEXTS(keys);
    OPEN(bucket);
    app_list_string_t names = {to_texts(keys), keys.len};
    wasi_keyvalue_store_error_t error;
    if (!wasi_keyvalue_batch_delete_many(opened, &names, &error)) return failed(error);
    return JF_OK;
}
