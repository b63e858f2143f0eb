/* An auction: backends open items, clients bid, and a timer of the cluster ends it. */
#include <string.h>

#include "item.h"
#include "json.h"

#define GROUP "auction"
#define END "end:"
/* So that a timer can be named after it, in a node's default of 256 bytes. */
#define ITEM_BYTES 252

static uint64_t now_ms(void) {
    return (uint64_t)jf_now_ms();
}

static jf_str event(const char *name, jf_str item, uint64_t amount, jf_str by) {
    json_text text = {0};
    json_open(&text, '{');
    json_name(&text, "event");
    json_string(&text, name);
    json_name(&text, "item");
    json_string(&text, item);
    json_name(&text, "amount");
    json_uint(&text, amount);
    json_name(&text, "by");
    json_string(&text, by);
    json_close(&text, '}');
    return json_done(&text);
}

static void everybody_hears(jf_str event) {
    if (jf_send_to_group(GROUP, event, JF_NONE, NULL) != JF_OK)
        jf_log(JF_LOG_WARN, "nobody was told: %s", jf_error_text());
}

/* ---- Clients ---- */

jf_verdict jf_on_connect(jf_str client, const jf_handshake *handshake, jf_acceptance *acceptance) {
    (void)client;
    jf_str name = jf_map_get(handshake->query, "name");
    if (!name.len) return jf_refuse(400, "say ?name=");
    jf_accept_uid(acceptance, name);
    jf_accept_group(acceptance, GROUP);
    return JF_ACCEPT;
}

static void refuse(jf_str item, jf_str why) {
    json_text text = {0};
    json_open(&text, '{');
    json_name(&text, "event");
    json_string(&text, "refused");
    if (item.ptr) {
        json_name(&text, "item");
        json_string(&text, item);
    }
    json_name(&text, "why");
    json_string(&text, why);
    json_close(&text, '}');
    jf_reply(json_done(&text));
}

struct bid {
    uint64_t amount;
    jf_str by;
};

static uint64_t extend_ms(void) {
    json setting = {.kind = JSON_NUMBER, .text = jf_config("extend_ms")};
    uint64_t ms;
    return setting.text.len && json_is_uint(&setting, UINT32_MAX, &ms) ? ms : 5000;
}

static jf_code accept_bid(jf_str old, jf_out *value, void *context) {
    const struct bid *bid = context;
    item item;
    uint64_t now = now_ms();
    if (!item_read(old, &item) || !item.is_open || item.end_ms <= now)
        return jf_fail(JF_NOT_FOUND, "it is not open");
    if (bid->amount <= item.price)
        return jf_fail(JF_INVALID_ARGUMENT, "the price is %llu", (unsigned long long)item.price);
    item.price = bid->amount;
    item.by = bid->by;
    if (item.end_ms - now < extend_ms()) item.end_ms = now + extend_ms();
    return jf_put(value, item_write(&item));
}

void jf_on_message(jf_str client, jf_message message) {
    jf_str why;
    const json *request = message.is_binary ? NULL : json_read(message.data, &why);
    const json *wanted = json_get(request, "bid");
    const json *name = json_get(wanted, "item");
    struct bid bid;
    if (!name || name->kind != JSON_STRING ||
        !json_is_uint(json_get(wanted, "amount"), AMOUNT_MOST, &bid.amount)) {
        refuse(JF_NONE, JF("send {\"bid\":{\"item\":…,\"amount\":…}}"));
        return;
    }
    /* A client that has left bids no more. */
    if (jf_get_uid_by_client_id(client, &bid.by) != JF_OK) return;
    if (!name->text.len || name->text.len > ITEM_BYTES) refuse(name->text, JF("it is not open"));
    else if (jf_bucket_update(BUCKET, name->text, accept_bid, &bid) != JF_OK)
        refuse(name->text, JF(jf_error_message()));
    else everybody_hears(event("bid", name->text, bid.amount, bid.by));
}

/* ---- Backends ---- */

static jf_code open_new(jf_str old, jf_out *value, void *context) {
    item item;
    if (item_read(old, &item) && item.is_open)
        return jf_fail(JF_INVALID_ARGUMENT, "it is open already");
    return jf_put(value, item_write(context));
}

static jf_code open_item(const json *request, jf_str name, jf_out *answer) {
    item item = {.is_open = true};
    uint64_t ms;
    if (!json_is_uint(json_get(request, "price"), AMOUNT_MOST, &item.price))
        return jf_fail(JF_INVALID_ARGUMENT, "`price` must be a whole number");
    if (!json_is_uint(json_get(request, "ms"), UINT32_MAX, &ms))
        return jf_fail(JF_INVALID_ARGUMENT, "`ms` must be a whole number");
    item.end_ms = now_ms() + ms;
    jf_code code = jf_bucket_update(BUCKET, name, open_new, &item);
    if (code != JF_OK) return code;
    code = jf_set_timer(jf_format(END "%.*s", JF_ARG(name)), ms, JF_ONCE, JF_CLUSTER);
    if (code != JF_OK) {
        /* Nothing would end it. The error is that of the timer, and it is the one that counts. */
        jf_str why = jf_format("%s", jf_error_message());
        jf_bucket_delete(BUCKET, name);
        return jf_fail(code, "%s", why.ptr);
    }
    json_text text = {0};
    json_open(&text, '{');
    json_name(&text, "item");
    json_string(&text, name);
    json_name(&text, "ends_in_ms");
    json_uint(&text, ms);
    json_close(&text, '}');
    return jf_put(answer, json_done(&text));
}

static jf_code state_of_item(jf_str name, jf_out *answer) {
    jf_str stored;
    item item;
    jf_code code = jf_bucket_get(BUCKET, name, &stored);
    if (code != JF_OK) return code;
    if (!item_read(stored, &item)) return jf_fail(JF_NOT_FOUND, "there is no such item");
    json_text text = {0};
    json_open(&text, '{');
    json_name(&text, "item");
    json_string(&text, name);
    json_name(&text, "price");
    json_uint(&text, item.price);
    json_name(&text, "by");
    json_string(&text, item.by);
    json_name(&text, "open");
    json_bool(&text, item.is_open);
    json_close(&text, '}');
    return jf_put(answer, json_done(&text));
}

jf_code jf_on_call(jf_caller caller, jf_str method, jf_str payload, jf_out *answer) {
    (void)caller;
    bool is_open = jf_equal(method, "open");
    if (!is_open && !jf_equal(method, "state"))
        return jf_fail(JF_UNKNOWN_METHOD, "there is no method %s", method.ptr);
    jf_str why = JF("it is not UTF-8");
    const json *request = jf_is_utf8(payload) ? json_read(payload, &why) : NULL;
    if (!request) return jf_fail(JF_INVALID_ARGUMENT, "the payload is no JSON: %s", why.ptr);
    const json *name = json_get(request, "item");
    if (!name || name->kind != JSON_STRING || !name->text.len || name->text.len > ITEM_BYTES)
        return jf_fail(JF_INVALID_ARGUMENT, "`item` must be a string of 1 to %d bytes", ITEM_BYTES);
    return is_open ? open_item(request, name->text, answer) : state_of_item(name->text, answer);
}

/* ---- The end ---- */

struct end {
    item item;
    uint64_t rest_ms; /* 0: it is closed now */
    bool is_closed;
};

static jf_code close_item(jf_str old, jf_out *value, void *context) {
    struct end *end = context;
    *end = (struct end){0};
    if (!item_read(old, &end->item) || !end->item.is_open) return JF_OK;
    uint64_t now = now_ms();
    if (end->item.end_ms > now) {
        end->rest_ms = end->item.end_ms - now;
        return JF_OK;
    }
    end->item.is_open = false;
    end->is_closed = true;
    return jf_put(value, item_write(&end->item));
}

static void tell_webhook(jf_str sold) {
    jf_str url = jf_config("webhook");
    if (!url.ptr) return;
    jf_http_request request = {.method = JF("POST"), .url = url, .body = sold};
    jf_map_add(&request.headers, "content-type", "application/json");
    jf_http_response response;
    if (jf_http(&request, &response) != JF_OK)
        jf_log(JF_LOG_WARN, "the webhook was not told: %s", jf_error_text());
    else if (response.status < 200 || response.status > 299)
        jf_log(JF_LOG_WARN, "the webhook answered %d", response.status);
}

void jf_on_timer(jf_str timer) {
    if (timer.len <= strlen(END) || memcmp(timer.ptr, END, strlen(END))) return;
    jf_str name = {timer.ptr + strlen(END), timer.len - strlen(END)};
    struct end end;
    jf_code code = jf_bucket_update(BUCKET, name, close_item, &end);
    if (code == JF_OK && end.rest_ms)
        /* A node takes no less than 10 ms. */
        code = jf_set_timer(timer, end.rest_ms < 10 ? 10 : end.rest_ms, JF_ONCE, JF_CLUSTER);
    if (code != JF_OK) {
        jf_log(JF_LOG_ERROR, "%s does not end: %s", name.ptr, jf_error_text());
        return;
    }
    if (!end.is_closed) return;
    jf_str sold = event("sold", name, end.item.price, end.item.by);
    everybody_hears(sold);
    tell_webhook(sold);
}
