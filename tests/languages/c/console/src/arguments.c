#include "arguments.h"

#include <string.h>

static bool wrong(const call *call, const char *why) {
    jf_fail(JF_INVALID_ARGUMENT, "%s takes %s: %s", call->operation, call->takes, why);
    return false;
}

static bool is_wrong(const call *call, const char *name, const char *expected) {
    return wrong(call, jf_format("`%s` must be %s", name, expected).ptr);
}

/* Null counts as left out. */
static const json *argument(const call *call, const char *name) {
    const json *value = json_get(call->object, name);
    return value && value->kind != JSON_NULL ? value : NULL;
}

/* Whether the words of `takes` name an argument: "client?, text or binary", or "nothing". */
static bool has_word(const char *takes, jf_str name) {
    if (jf_equal(name, "or") || jf_equal(takes, "nothing")) return false;
    while (*takes) {
        size_t len = strcspn(takes, " ?,");
        if (len == name.len && !memcmp(takes, name.ptr, len)) return true;
        takes += len;
        takes += strspn(takes, " ?,");
    }
    return false;
}

bool takes_all_names(const call *call) {
    if (!call->object) return true;
    for (const json *item = call->object->first; item; item = item->next) {
        if (jf_equal(item->key, "id") || jf_equal(item->key, "do")) continue;
        if (!has_word(call->takes, item->key))
            return wrong(call, jf_format("not `%.*s`", JF_ARG(item->key)).ptr);
    }
    return true;
}

bool take_text(const call *call, const char *name, jf_str *text) {
    const json *value = argument(call, name);
    if (!value || value->kind != JSON_STRING) return is_wrong(call, name, "a string");
    *text = value->text;
    return true;
}

bool take_text_or(const call *call, const char *name, jf_str other, jf_str *text) {
    *text = other;
    return !argument(call, name) || take_text(call, name, text);
}

bool take_uint(const call *call, const char *name, uint64_t most, uint64_t *number) {
    if (json_is_uint(argument(call, name), most, number)) return true;
    return is_wrong(call, name, jf_format("a number, 0 to %llu", (unsigned long long)most).ptr);
}

bool take_uint_or(const call *call, const char *name, uint64_t most, uint64_t other,
                  uint64_t *number) {
    *number = other;
    return !argument(call, name) || take_uint(call, name, most, number);
}

bool take_client(const call *call, jf_str *client) {
    return take_text_or(call, "client", call->caller, client);
}

static bool take_texts_of(const call *call, const char *name, const json *value, jf_list *texts) {
    *texts = (jf_list){0};
    if (value->kind == JSON_STRING) {
        jf_list_add(texts, value->text);
        return true;
    }
    if (value->kind != JSON_ARRAY) return is_wrong(call, name, "a string or an array of strings");
    for (const json *item = value->first; item; item = item->next) {
        if (item->kind != JSON_STRING)
            return is_wrong(call, name, "a string or an array of strings");
        jf_list_add(texts, item->text);
    }
    return true;
}

bool take_texts(const call *call, const char *one, const char *many, jf_list *texts) {
    const json *of_one = argument(call, one), *of_many = argument(call, many);
    if (!of_one == !of_many) return wrong(call, jf_format("give `%s` or `%s`", one, many).ptr);
    return of_one ? take_texts_of(call, one, of_one, texts)
                  : take_texts_of(call, many, of_many, texts);
}

bool take_texts_or_none(const call *call, const char *name, jf_list *texts) {
    const json *value = argument(call, name);
    *texts = (jf_list){0};
    return !value || take_texts_of(call, name, value, texts);
}

static int sextet(char letter) {
    const char *letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const char *at = letter ? strchr(letters, letter) : NULL;
    return at ? (int)(at - letters) : -1;
}

static bool is_base64(jf_str text, jf_str *bytes) {
    if (text.len % 4) return false;
    size_t padding = 0;
    while (padding < 2 && padding < text.len && text.ptr[text.len - 1 - padding] == '=') padding++;
    char *to = jf_alloc(text.len / 4 * 3 + 1), *begin = to;
    unsigned bits = 0;
    int held = 0;
    for (size_t i = 0; i < text.len - padding; i++) {
        int six = sextet(text.ptr[i]);
        if (six < 0) return false;
        bits = bits << 6 | (unsigned)six;
        held += 6;
        if (held >= 8) {
            held -= 8;
            *to++ = (char)(bits >> held);
        }
    }
    *bytes = (jf_str){begin, (size_t)(to - begin)};
    /* What is left over must be nothing. */
    return !(bits & ((1u << held) - 1));
}

bool take_message_or_none(const call *call, jf_message *message) {
    jf_str text, binary, bytes;
    if (!take_text_or(call, "text", JF_NONE, &text) ||
        !take_text_or(call, "binary", JF_NONE, &binary))
        return false;
    *message = jf_text(text);
    if (!binary.ptr) return true;
    if (text.ptr) return wrong(call, "a message is `text` or `binary`, not both");
    if (!is_base64(binary, &bytes)) return wrong(call, "`binary` is not base64");
    *message = jf_binary(bytes);
    return true;
}

bool take_message(const call *call, jf_message *message) {
    if (!take_message_or_none(call, message)) return false;
    if (message->data.ptr) return true;
    return wrong(call, "the message is missing: give `text`, or `binary` in base64");
}

bool take_info(const call *call, bool with_null, jf_map *info) {
    const json *value = argument(call, "info");
    if (!value || value->kind != JSON_OBJECT) return is_wrong(call, "info", "an object of strings");
    *info = (jf_map){0};
    for (const json *item = value->first; item; item = item->next) {
        bool is_null = with_null && item->kind == JSON_NULL;
        if (!is_null && item->kind != JSON_STRING)
            return is_wrong(call, "info", "an object of strings");
        jf_map_add(info, item->key, is_null ? JF_NONE : item->text);
    }
    return true;
}

bool take_choice(const call *call, const char *name, const char *const *choices, int other,
                 int *choice) {
    jf_str word;
    if (!take_text_or(call, name, JF(choices[other]), &word)) return false;
    for (*choice = 0; choices[*choice]; ++*choice)
        if (jf_equal(word, choices[*choice])) return true;
    return is_wrong(call, name, "one of the words that the contract has");
}

bool take_object(const call *call, const char *name, const json **object) {
    *object = argument(call, name);
    return (*object && (*object)->kind == JSON_OBJECT) || is_wrong(call, name, "an object");
}
