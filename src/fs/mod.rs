//! Files and directories on keys.
//!
//! Two rooms. The semantics are plain functions of [`FileSystem`] that return a [`Result`] and can be
//! tested without a mount; [`fuse`] turns each request of the kernel into one call of them.
//!
//! | module | what it holds |
//! |---|---|
//! | [`filesystem`] | opening and closing, what belongs to the whole |
//! | [`host`] | an open store, and those of its volumes that somebody uses |
//! | [`views`] | what one mount shows: a volume, or all, and their snapshots |
//! | [`news`] | what mounts are told of changes by others |
//! | [`attr`], [`entry`], `keys` | attributes; the bytes of records; the keys they stand under |
//! | `inode`, `node`, `change` | what the outside knows; a file in hand; one request's batch |
//! | `lock` | all locks and their order |
//! | `number`, `reclaim` | inode numbers; giving back what removed files held |
//! | [`tally`] | what counts in a volume's tally and quota |
//! | `setattr`, `access`, `xattr`, `acl` | attributes |
//! | `file`, `room`, `truncate`, `allocate`, `chunk` | contents |
//! | `dir`, `link`, `remove`, [`rename`], [`readdir`] | names |
//! | [`control`], [`figures`] | the store's figures as files, and as text |
//! | [`diff`] | which paths differ between two volumes |
//! | [`check`] | whether all records fit together, and mending them |
//! | [`error`], [`errno`] | what can go wrong, and the system's number for it |
//! | [`import`], [`export`], [`archive`], [`pack`] | whole trees at once, as tar archives |
//! | [`fuse`] | the kernel's face |
//! | [`mount`] | making and ending mounts |
//! | [`tree`], [`batch`] | whole files by their paths, for who has no mount; many changes in one step |

mod access;
mod acl;
mod allocate;
pub mod archive;
pub mod attr;
pub mod batch;
mod change;
pub mod check;
mod chunk;
pub mod control;
pub mod diff;
mod dir;
pub mod entry;
pub mod errno;
pub mod error;
pub mod export;
pub mod figures;
mod file;
pub mod filesystem;
pub mod fuse;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod groups;
pub mod host;
pub mod import;
mod inline;
mod inode;
mod keys;
mod link;
mod lock;
pub mod mount;
pub mod news;
mod node;
mod number;
pub mod pack;
pub mod readdir;
mod recent;
mod reclaim;
mod remove;
pub mod rename;
mod room;
mod setattr;
mod sweep;
pub mod tally;
pub mod tree;
mod truncate;
pub mod views;
mod xattr;

pub use access::AccessTimes;
pub use allocate::{Allocate, Seek};
pub use attr::{Attr, Caller, FileKind, Ino, NAME_MAX, ROOT, SetAttr, SetTime, Timestamp};
pub use error::{Cause, Error, Result, Subject};
pub use filesystem::{FileSystem, FsOptions, StatFs, engine_options};
pub use host::{Claim, Files, Host, find_volume};
pub use keys::readable as readable_key;
pub use readdir::{DirEntry, DirHandle};
pub use rename::RenameMode;
pub use views::Views;
pub use xattr::XattrMode;
