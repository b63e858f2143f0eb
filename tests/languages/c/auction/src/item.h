/* An item under the hammer, as the bucket has it under the item's name. */
#ifndef ITEM_H
#define ITEM_H

#include "jackfield.h"

#define BUCKET "auctions"

/* JSON's numbers are exact up to here, whoever reads them. */
#define AMOUNT_MOST ((UINT64_C(1) << 53) - 1)

typedef struct {
    uint64_t price;
    jf_str by;       /* the uid of the highest bid, or none */
    uint64_t end_ms; /* since 1970 */
    bool is_open;
} item;

/* False if there is no such item. */
bool item_read(jf_str stored, item *item);
jf_str item_write(const item *item);

#endif
