//! lsmfs: a key-value store that is a directory.
//!
//! Four floors; each uses only those below it (a test holds the arrows):
//!
//! | floor | what it is |
//! |---|---|
//! | [`cli`] | one file a command: parses, calls, prints |
//! | [`fs`] | files and directories on keys: POSIX semantics and the FUSE face |
//! | [`lsm`] | the engine: ordered keys and values, volumes, durability; knows nothing of files |
//! | [`disk`] | the only code that touches the operating system's files |
//!
//! A write enters at [`lsm::Volume::write`] (`lsm/write.rs`), a read at
//! [`lsm::Volume::get`] (`lsm/read.rs`) and [`lsm::Volume::scan`] (`lsm/iter/scan.rs`).

pub mod cli;
pub mod disk;
pub mod fs;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
pub mod lsm;
