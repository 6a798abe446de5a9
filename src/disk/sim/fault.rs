//! The operations of a simulated disk: their counts, and those that are to fail.

/// A sort of operation. [`ObjectWriter::finish`](crate::disk::ObjectWriter::finish) is three:
/// `Sync`, `Name`, `SyncDir`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Op {
    /// An object is started.
    Create,
    /// Bytes are written to an object or a log.
    Write,
    /// A log is cut.
    Truncate,
    /// The contents of an object or a log are synced.
    Sync,
    /// A finished object gets its name.
    Name,
    /// A log is created.
    CreateLog,
    /// A log gets another name, to be written anew.
    Reuse,
    /// A file is deleted.
    Delete,
    /// A file is moved to `lost/`.
    Move,
    /// The directory is synced; its name is `.`.
    SyncDir,
    /// A file is opened for reading.
    Open,
    /// A range is read.
    Read,
    /// A file's length is asked for.
    Len,
    /// The files are listed; the name is `.`.
    List,
    /// The room is asked for; the name is `.`.
    Space,
}

impl Op {
    const COUNT: usize = Op::Space as usize + 1;

    /// Can the operation change what a power cut leaves?
    pub fn is_change(self) -> bool {
        !matches!(self, Op::Create | Op::Open | Op::Read | Op::Len | Op::List | Op::Space)
    }

    /// What a [`DiskError`](crate::disk::DiskError) calls it; as the real disk does.
    pub(super) fn label(self) -> &'static str {
        match self {
            Op::Create | Op::CreateLog => "create",
            Op::Write => "write",
            Op::Truncate => "truncate",
            Op::Sync | Op::SyncDir => "sync",
            Op::Name => "finish",
            Op::Reuse => "rename",
            Op::Delete => "delete",
            Op::Move => "move",
            Op::Open => "open",
            Op::Read => "read",
            Op::Len => "stat",
            Op::List => "list",
            Op::Space => "statfs",
        }
    }
}

/// How many operations of each sort there were, failed ones included.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Ops {
    counts: [u64; Op::COUNT],
    changes: u64,
}

impl Ops {
    /// Operations of one sort.
    pub fn get(&self, op: Op) -> u64 {
        self.counts[op as usize]
    }

    /// All operations.
    pub fn total(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Those that can change what a power cut leaves ([`Op::is_change`]): what
    /// [`SimDisk::crash_at_op`](super::SimDisk::crash_at_op) counts.
    pub fn changes(&self) -> u64 {
        self.changes
    }

    pub(super) fn count(&mut self, op: Op) {
        self.counts[op as usize] += 1;
        self.changes += u64::from(op.is_change());
    }
}

/// Operations that are to fail: of those of sort `op` on matching names the first `after` succeed,
/// the next `times` fail.
///
/// A failing `Sync` never makes good what it passed over, see
/// [`SimDisk`](super::SimDisk#failures).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The sort of operation.
    pub op: Op,
    /// Only on files whose name contains this.
    pub name_contains: Option<String>,
    /// How many matching operations succeed before the first that fails.
    pub after: u64,
    /// How many fail; `u64::MAX`: from then on all.
    pub times: u64,
    /// The system's answer, such as `libc::EIO`.
    pub error: i32,
    /// Does a failing write write a part, which chance determines, of its bytes? It may be none, or all.
    pub short: bool,
}

impl Fault {
    /// The next operation of sort `op`, on any file, fails with `error`.
    pub fn new(op: Op, error: i32) -> Fault {
        Fault { op, name_contains: None, after: 0, times: 1, error, short: false }
    }

    /// Only on files whose name contains `part`.
    pub fn on(self, part: &str) -> Fault {
        Fault { name_contains: Some(part.to_owned()), ..self }
    }

    /// Only after `after` matching operations.
    pub fn after(self, after: u64) -> Fault {
        Fault { after, ..self }
    }

    /// So many times.
    pub fn times(self, times: u64) -> Fault {
        Fault { times, ..self }
    }

    /// From then on always.
    pub fn always(self) -> Fault {
        self.times(u64::MAX)
    }

    /// A failing write writes a part of its bytes.
    pub fn short(self) -> Fault {
        Fault { short: true, ..self }
    }

    /// Counts an operation; is it one to fail?
    pub(super) fn strikes(&mut self, op: Op, name: &str) -> bool {
        let matches = op == self.op && self.name_contains.as_deref().is_none_or(|part| name.contains(part));
        if !matches || self.times == 0 {
            return false;
        }
        if self.after > 0 {
            self.after -= 1;
            return false;
        }
        if self.times != u64::MAX {
            self.times -= 1;
        }
        true
    }
}
