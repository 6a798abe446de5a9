//! Tests of whole tables, on a disk in memory that counts its reads.

mod damage;
mod format;
mod mem;
mod model;
mod reads;
