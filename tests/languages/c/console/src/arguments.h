/* The arguments of the operations. Each function takes one, and says whether it is as it must be.
 * Otherwise an error is noted: what the operation takes, and which argument is wrong. */
#ifndef ARGUMENTS_H
#define ARGUMENTS_H

#include "json.h"

typedef struct {
    const char *operation, *takes;
    const json *object;
    jf_str caller;
    json_text *ok;
} call;

/* Whether the operation takes each name that is there, so that a typo is seen. */
bool takes_all_names(const call *call);

bool take_text(const call *call, const char *name, jf_str *text);
bool take_text_or(const call *call, const char *name, jf_str other, jf_str *text);
bool take_uint(const call *call, const char *name, uint64_t most, uint64_t *number);
bool take_uint_or(const call *call, const char *name, uint64_t most, uint64_t other,
                  uint64_t *number);
/* The caller, if no client is named. */
bool take_client(const call *call, jf_str *client);
/* Under one of two names, a string or an array of strings. */
bool take_texts(const call *call, const char *one, const char *many, jf_list *texts);
bool take_texts_or_none(const call *call, const char *name, jf_list *texts);
/* `text`, or `binary` in base64. */
bool take_message(const call *call, jf_message *message);
bool take_message_or_none(const call *call, jf_message *message);
/* An object of strings; `null` for a key that is deleted. */
bool take_info(const call *call, bool with_null, jf_map *info);
/* The place of a word in a list that ends with NULL; `other` if it is left out. */
bool take_choice(const call *call, const char *name, const char *const *choices, int other,
                 int *choice);
bool take_object(const call *call, const char *name, const json **object);

#endif
