//! Takes every message and does nothing: what an event costs by itself.

use jackfield_sdk::Plugin;

struct Silent;

// The SDK's default drops a message.
impl Plugin for Silent {}

jackfield_sdk::export!(Silent);
