//! `dump keys`: every record of the engine, a line each.

use crate::cli::error::{CliError, Result};
use crate::cli::print::{escape, written};
use crate::cli::store::OpenStore;
use crate::fs::{FileSystem, readable_key};
use crate::lsm;
use crate::lsm::Kind;
use crate::lsm::blob::{self, Pointer};
use crate::lsm::records::{Place, Record};
use std::io::Write;

/// Bytes of a value that are shown.
const SHOWN: usize = 40;

/// What may end the walk.
enum Ended {
    Engine(lsm::Error),
    Output(CliError),
}

impl From<lsm::Error> for Ended {
    fn from(error: lsm::Error) -> Ended {
        Ended::Engine(error)
    }
}

/// Prints the records, place by place.
pub fn print(store: &OpenStore, files: &FileSystem, out: &mut impl Write) -> Result<()> {
    let mut last = None;
    let walked = files.volume().records(|place, record| {
        if last.as_ref() != Some(place) {
            written(writeln!(out, "{}", title(place))).map_err(Ended::Output)?;
            last = Some(place.clone());
        }
        written(writeln!(out, "  {}", describe(record))).map_err(Ended::Output)
    });
    walked.map_err(|ended| match ended {
        Ended::Engine(error) => CliError::engine(store.path(), error),
        Ended::Output(error) => error,
    })
}

fn title(place: &Place) -> String {
    match place {
        Place::Memtable(0) => "memtable".to_string(),
        Place::Memtable(number) => format!("frozen memtable {number}"),
        Place::Table { level, file } => format!("level {level}, table {file}"),
    }
}

fn describe(record: &Record<'_>) -> String {
    let (key, seq) = (readable_key(record.key), record.seq);
    let kind = match record.kind {
        Kind::Put => "put",
        Kind::FirstPut => "first put",
        Kind::Tombstone => return format!("{key}  @{seq} tombstone"),
        Kind::RangeTombstone => {
            return format!("{key}  @{seq} range tombstone up to {}", readable_key(&record.head));
        }
        Kind::Patch => "patch",
        Kind::HeadPatch => "patch with a head",
        Kind::BlobPointer => "put",
        Kind::FirstBlobPointer => "first put",
    };
    if let Some(pointer) = record.kind.is_blob().then(|| Pointer::decode(&record.tail)).flatten() {
        let (head, file) = (record.head.len(), blob::file_name(pointer.file));
        return format!(
            "{key}  @{seq} {kind}, head {head} B, tail in {file} at byte {}: {} B",
            pointer.offset, pointer.len
        );
    }
    let (head, tail) = (record.head.len(), record.tail.len());
    let more = if tail > SHOWN { " …" } else { "" };
    let shown = escape(&record.tail[..tail.min(SHOWN)]);
    match tail {
        0 => format!("{key}  @{seq} {kind}, head {head} B"),
        _ => format!("{key}  @{seq} {kind}, head {head} B, tail {tail} B: {shown}{more}"),
    }
}
