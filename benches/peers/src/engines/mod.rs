//! The engines that take part.

pub mod fjall;
pub mod lsmfs;
pub mod rocksdb;
