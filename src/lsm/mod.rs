//! The engine: a log-structured merge tree of ordered byte keys and values, in named volumes.
//!
//! It knows nothing of files or FUSE and stands alone as a library:
//!
//! ```no_run
//! use lsmfs::disk::real::RealDisk;
//! use lsmfs::lsm::{Batch, Options, Store};
//! use std::sync::Arc;
//! use std::time::Duration;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let disk = RealDisk::open_or_create("/tmp/store".as_ref(), Duration::from_secs(5))?;
//! let store = Store::open(Arc::new(disk), Options::default())?;
//! let volume = store.volume("main")?;
//! let mut batch = Batch::new();
//! batch.put(b"key", b"value");
//! volume.write(batch)?;
//! assert_eq!(volume.get(b"key")?.unwrap().head.as_ref(), b"value");
//! store.close()?;
//! # Ok(())
//! # }
//! ```

mod background;
pub mod batch;
pub mod blob;
mod budget;
pub mod cache;
pub mod check;
mod commit;
mod compaction;
pub mod error;
mod flush;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod graveyard;
pub mod ingest;
pub mod iter;
pub mod key;
mod levels;
pub mod lineage;
pub mod log;
pub mod manifest;
pub mod memtable;
mod metrics;
pub mod names;
mod obsolete;
pub mod options;
mod range;
mod read;
pub mod readonly;
pub mod records;
mod recover;
pub mod repair;
mod reserve;
mod shape;
pub mod snapshot;
mod staged;
pub mod stall;
pub mod stats;
pub mod store;
mod syncs;
pub mod table;
pub mod tally;
pub mod value;
pub mod varint;
pub mod volume;
pub mod volumes;
mod watch;
mod work;
mod write;

pub use batch::Batch;
pub use error::{Error, Result};
pub use iter::difference::Differences;
pub use iter::scan::Scan;
pub use iter::scan_back::ScanBack;
pub use key::{Kind, SeqNo};
pub use options::Options;
pub use snapshot::Snapshot;
pub use store::Store;
pub use tally::{Quota, Tally};
pub use value::Value;
pub use volume::Volume;
