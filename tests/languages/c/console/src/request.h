/* A request: what to do, with which arguments, and the id that its answer carries. */
#ifndef REQUEST_H
#define REQUEST_H

#include "json.h"

typedef struct {
    jf_str id; /* JSON */
    /* What is wrong with it, or none. */
    jf_str wrong;
    const json *operation;
    const json *object; /* with the arguments */
} request;

request request_read(jf_str text);
/* A whole request, or for short the name of one that needs no arguments: `panic`. */
request request_named_or_whole(jf_str text);
request request_of_object(const json *object);
/* What is no request at all. */
request request_wrong(const char *why);

/* Carries it out and writes the outcome as JSON. `caller` is meant where no client is named. */
jf_code request_run(const request *request, jf_str caller, json_text *ok);

/* Carries it out, and appends `"id":…,"ok":…` or `"id":…,"error":…` to an object. */
void request_answer(const request *request, jf_str caller, json_text *to);
/* The whole answer. */
jf_str request_answer_text(const request *request, jf_str caller);

/* Appends `"error":{…}` with the last error. */
void request_error(json_text *to, jf_code code);

#endif
