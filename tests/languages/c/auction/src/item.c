#include "item.h"

#include "json.h"

bool item_read(jf_str stored, item *item) {
    jf_str why;
    const json *object = stored.ptr ? json_read(stored, &why) : NULL;
    const json *by = json_get(object, "by"), *is_open = json_get(object, "open");
    if (!by || !is_open || !json_is_uint(json_get(object, "price"), AMOUNT_MOST, &item->price) ||
        !json_is_uint(json_get(object, "end"), UINT64_MAX, &item->end_ms))
        return false;
    item->by = by->text;
    item->is_open = is_open->kind == JSON_TRUE;
    return true;
}

jf_str item_write(const item *item) {
    json_text text = {0};
    json_open(&text, '{');
    json_name(&text, "price");
    json_uint(&text, item->price);
    json_name(&text, "by");
    json_string(&text, item->by);
    json_name(&text, "end");
    json_uint(&text, item->end_ms);
    json_name(&text, "open");
    json_bool(&text, item->is_open);
    json_close(&text, '}');
    return json_done(&text);
}
