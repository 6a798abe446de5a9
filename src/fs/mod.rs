//! Files and directories on keys.

pub mod mount;
