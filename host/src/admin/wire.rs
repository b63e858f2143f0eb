//! The messages of the API, generated from `proto/jackfield/api/v1`.

#![allow(
    missing_docs,
    unreachable_pub,
    unused_qualifications,
    clippy::all,
    clippy::unwrap_used
)]

include!("../../generated/jackfield.api.v1.rs");
