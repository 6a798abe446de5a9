//! The state of a simulated disk, behind its one mutex, and what each operation does to it.

use super::fault::{Fault, Op, Ops};
use super::file::File;
use super::names::{FileId, Names};
use super::rng::Rng;
use crate::disk::{DiskError, LOST_DIR, Listed, RESERVE_FILE, Result, Space, lost_names};
use std::collections::{BTreeMap, HashMap};
use std::io;

/// What operations on the directory as a whole are on.
pub(super) const DIRECTORY: &str = ".";

/// The longest file, so that a wild offset is an error and no lack of memory.
const FILE_BYTES_MAX: u64 = 1 << 32;

/// Of the failing writes that write a part, so many write all.
const WHOLE_ONE_IN: usize = 4;

/// The size of a disk that was given none.
const DEFAULT_CAPACITY_BYTES: u64 = 1 << 40;

#[derive(Debug, Clone)]
pub(super) struct State {
    pub(super) rng: Rng,
    files: BTreeMap<FileId, Inode>,
    next_file: FileId,
    names: Names,
    /// Files without a name and an open handle; a power cut may bring them back until the
    /// directory is synced.
    gone: Vec<FileId>,
    /// The bytes of all files that are not gone.
    used: u64,
    /// Bytes among them that are kept aside.
    reserved: u64,
    pub(super) capacity: u64,
    pub(super) faults: Vec<Fault>,
    pub(super) ops: Ops,
    pub(super) ops_by_name: HashMap<String, Ops>,
    /// The change, counted from 1, that the power cut prevents.
    pub(super) crash_at: Option<u64>,
    pub(super) crashed: bool,
}

#[derive(Debug, Clone, Default)]
struct Inode {
    file: File,
    handles: u32,
    named: bool,
}

/// Why an operation does not take place.
struct Refusal {
    error: i32,
    short: bool,
}

impl State {
    pub(super) fn new(seed: u64) -> State {
        State::holding(Rng::new(seed), Names::default(), BTreeMap::new(), DEFAULT_CAPACITY_BYTES)
    }

    fn holding(rng: Rng, names: Names, files: BTreeMap<FileId, Inode>, capacity: u64) -> State {
        let mut state = State {
            rng,
            next_file: files.last_key_value().map_or(0, |(id, _)| id + 1),
            files,
            names,
            gone: Vec::new(),
            used: 0,
            reserved: 0,
            capacity,
            faults: Vec::new(),
            ops: Ops::default(),
            ops_by_name: HashMap::new(),
            crash_at: None,
            crashed: false,
        };
        for (&id, inode) in &state.files {
            if inode.named {
                state.used += inode.file.data().len() as u64;
            } else {
                state.gone.push(id);
            }
        }
        state
    }

    /// The disk that a power cut leaves; another one each time.
    pub(super) fn after_power_cut(&mut self) -> State {
        let mut rng = Rng::new(self.rng.next());
        let entries = self.names.after_power_cut(&mut rng);
        let found = |id: &FileId| {
            let file = File::durable(self.files[id].file.after_power_cut(&mut rng));
            (*id, Inode { file, handles: 0, named: true })
        };
        let files = entries.values().map(found).collect();
        State::holding(rng, Names::durable(entries), files, self.capacity)
    }

    /// The disk that the process leaves when it dies: as it is, what is not synced stays so.
    pub(super) fn after_kill(&mut self) -> State {
        let rng = Rng::new(self.rng.next());
        let mut files = self.files.clone();
        files.values_mut().for_each(|inode| inode.handles = 0);
        State::holding(rng, self.names.clone(), files, self.capacity)
    }

    /// Counts an operation; does it take place?
    fn admit(&mut self, op: Op, name: &str) -> std::result::Result<(), Refusal> {
        let eio = Refusal { error: libc::EIO, short: false };
        if self.crashed {
            return Err(eio);
        }
        self.ops.count(op);
        match self.ops_by_name.get_mut(name) {
            Some(ops) => ops.count(op),
            None => self.ops_by_name.entry(name.to_owned()).or_default().count(op),
        }
        if op.is_change() && self.crash_at.is_some_and(|n| self.ops.changes() >= n) {
            self.crashed = true;
            return Err(eio);
        }
        // Every fault counts the operation; the first that strikes answers.
        let mut refusal = None;
        for fault in &mut self.faults {
            if fault.strikes(op, name) && refusal.is_none() {
                refusal = Some(Refusal { error: fault.error, short: fault.short });
            }
        }
        refusal.map_or(Ok(()), Err)
    }

    /// [`State::admit`] for operations that happen whole or not at all.
    pub(super) fn begin(&mut self, op: Op, name: &str) -> Result<()> {
        self.admit(op, name).map_err(|refusal| failed(op, name, refusal.error))
    }

    pub(super) fn data(&self, file: FileId) -> &[u8] {
        self.files[&file].file.data()
    }

    fn inode(&mut self, file: FileId) -> &mut Inode {
        self.files.get_mut(&file).expect("a handle or a name keeps the file")
    }

    /// The file called `name`.
    pub(super) fn find(&self, op: Op, name: &str) -> Result<FileId> {
        self.names.current().get(name).copied().ok_or_else(|| failed(op, name, libc::ENOENT))
    }

    /// A new file, without a name, that a handle has open.
    pub(super) fn new_file(&mut self) -> FileId {
        let id = self.next_file;
        self.next_file += 1;
        self.files.insert(id, Inode { handles: 1, ..Inode::default() });
        id
    }

    /// Gives a file its name, if that is free.
    pub(super) fn link(&mut self, op: Op, name: &str, file: FileId) -> Result<()> {
        self.begin(op, name)?;
        if self.names.current().contains_key(name) {
            return Err(failed(op, name, libc::EEXIST));
        }
        self.names.add(name, file);
        self.inode(file).named = true;
        Ok(())
    }

    /// Takes a file's name away.
    pub(super) fn unlink(&mut self, name: &str, file: FileId) {
        self.names.remove(name, file);
        self.inode(file).named = false;
        self.note_if_gone(file);
    }

    pub(super) fn open_handle(&mut self, file: FileId) {
        self.inode(file).handles += 1;
    }

    pub(super) fn close_handle(&mut self, file: FileId) {
        self.inode(file).handles -= 1;
        self.note_if_gone(file);
    }

    fn note_if_gone(&mut self, file: FileId) {
        let inode = &self.files[&file];
        if !inode.named && inode.handles == 0 {
            self.used -= inode.file.data().len() as u64;
            self.gone.push(file);
        }
    }

    pub(super) fn write(&mut self, name: &str, file: FileId, offset: u64, bytes: &[u8]) -> Result<()> {
        let admitted = self.admit(Op::Write, name);
        let wanted = match &admitted {
            Ok(()) => bytes.len(),
            Err(refusal) if refusal.short => match self.rng.below(WHOLE_ONE_IN) {
                0 => bytes.len(),
                _ => self.rng.below(bytes.len() + 1),
            },
            Err(_) => 0,
        };
        if offset.checked_add(bytes.len() as u64).is_none_or(|end| end > FILE_BYTES_MAX) {
            return Err(failed(Op::Write, name, libc::EFBIG));
        }
        let len = self.data(file).len() as u64;
        // Room behind the end of the file; a hole before `offset` takes room too.
        let end_max = len.saturating_add(self.capacity.saturating_sub(self.used));
        let written = wanted.min(end_max.saturating_sub(offset) as usize);
        let State { files, rng, .. } = self;
        let contents = &mut files.get_mut(&file).expect("the handle keeps the file").file;
        contents.write(rng, offset as usize, &bytes[..written]);
        self.used += contents.data().len() as u64 - len;
        match admitted {
            Err(refusal) => Err(failed(Op::Write, name, refusal.error)),
            Ok(()) if written < wanted => Err(failed(Op::Write, name, libc::ENOSPC)),
            Ok(()) => Ok(()),
        }
    }

    /// Keeps room aside. No operation: it is not counted, and not kept after a crash.
    pub(super) fn set_reserve(&mut self, bytes: u64) -> Result<()> {
        if self.crashed {
            return Err(failed(Op::Write, RESERVE_FILE, libc::EIO));
        }
        let others = self.used - self.reserved;
        if bytes > self.capacity.saturating_sub(others) {
            return Err(failed(Op::Write, RESERVE_FILE, libc::ENOSPC));
        }
        (self.used, self.reserved) = (others + bytes, bytes);
        Ok(())
    }

    pub(super) fn truncate(&mut self, name: &str, file: FileId, len: u64) -> Result<()> {
        self.begin(Op::Truncate, name)?;
        self.cut(name, file, len)
    }

    fn cut(&mut self, name: &str, file: FileId, len: u64) -> Result<()> {
        if len > FILE_BYTES_MAX {
            return Err(failed(Op::Truncate, name, libc::EFBIG));
        }
        let others = self.used - self.data(file).len() as u64;
        if len > self.data(file).len() as u64 && others + len > self.capacity {
            return Err(failed(Op::Truncate, name, libc::ENOSPC));
        }
        let State { files, rng, .. } = self;
        let contents = &mut files.get_mut(&file).expect("the handle keeps the file").file;
        contents.truncate(rng, len as usize);
        self.used = others + len;
        Ok(())
    }

    pub(super) fn sync(&mut self, name: &str, file: FileId) -> Result<()> {
        let admitted = self.admit(Op::Sync, name);
        if self.crashed {
            return Err(failed(Op::Sync, name, libc::EIO));
        }
        match admitted {
            Ok(()) => {
                self.inode(file).file.sync();
                Ok(())
            }
            Err(refusal) => {
                self.inode(file).file.fail_sync();
                Err(failed(Op::Sync, name, refusal.error))
            }
        }
    }

    /// Syncs an object of `len` bytes; writes that failed may have left more.
    pub(super) fn sync_object(&mut self, name: &str, file: FileId, len: u64) -> Result<()> {
        self.cut(name, file, len)?;
        self.sync(name, file)
    }

    /// Takes the name of an object away whose directory could not be synced.
    pub(super) fn withdraw_object(&mut self, name: &str, file: FileId) {
        if !self.crashed && self.names.current().get(name) == Some(&file) {
            self.unlink(name, file);
        }
    }

    pub(super) fn sync_dir(&mut self) -> Result<()> {
        self.begin(Op::SyncDir, DIRECTORY)?;
        self.names.sync();
        for file in self.gone.drain(..) {
            self.files.remove(&file);
        }
        Ok(())
    }

    pub(super) fn move_to_lost(&mut self, name: &str) -> Result<()> {
        self.begin(Op::Move, name)?;
        let file = self.find(Op::Move, name)?;
        let free = lost_names(name)
            .map(|new_name| format!("{LOST_DIR}/{new_name}"))
            .find(|path| !self.names.current().contains_key(path))
            .ok_or_else(|| failed(Op::Move, name, libc::EEXIST))?;
        self.names.rename(name, &free, file);
        Ok(())
    }

    /// Gives a log another name, if that is free.
    pub(super) fn rename(&mut self, old: &str, name: &str) -> Result<FileId> {
        self.begin(Op::Reuse, old)?;
        let file = self.find(Op::Reuse, old)?;
        if self.names.current().contains_key(name) {
            return Err(failed(Op::Reuse, old, libc::EEXIST));
        }
        self.names.rename(old, name, file);
        Ok(file)
    }

    /// The files, those in `lost/` included, in order.
    pub(super) fn all_files(&self) -> Vec<Listed> {
        let listed = |(name, file): (&String, &FileId)| Listed {
            name: name.clone(),
            len: self.data(*file).len() as u64,
        };
        self.names.current().iter().map(listed).collect()
    }

    pub(super) fn space(&self) -> Space {
        let available = self.capacity.saturating_sub(self.used);
        Space { total: self.capacity, available, free: available }
    }

    /// Changes a file behind the back of everything, durably.
    pub(super) fn tamper(&mut self, name: &str, change: impl FnOnce(&mut File)) -> Result<()> {
        let file = self.find(Op::Open, name)?;
        let len_before = self.data(file).len() as u64;
        change(&mut self.inode(file).file);
        self.used = self.used - len_before + self.data(file).len() as u64;
        Ok(())
    }

    /// Puts a file where there may be one already, durably; a new one with all other names.
    pub(super) fn put(&mut self, name: &str, contents: &[u8]) {
        if !self.names.current().contains_key(name) {
            let id = self.next_file;
            self.next_file += 1;
            self.files.insert(id, Inode { named: true, ..Inode::default() });
            self.names.add(name, id);
            self.names.sync();
        }
        let put = self.tamper(name, |file| *file = File::durable(contents.to_vec()));
        assert!(put.is_ok(), "the file was just made");
    }
}

/// The system's answer `error` to `op` on `name`.
pub(super) fn failed(op: Op, name: &str, error: i32) -> DiskError {
    DiskError::new(op.label(), name, io::Error::from_raw_os_error(error))
}
