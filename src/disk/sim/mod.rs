//! The simulated disk: a store's directory in memory that decides from a seed what a power cut
//! keeps, and fails the operations that a test chooses.
//!
//! One seed and one sequence of operations give one result: there is no clock and no other source
//! of chance. (Threads that race make sequences of their own.) The rooms:
//!
//! - `file`: one file's contents, what is synced of them, what a power cut leaves;
//! - `names`: the same for the directory's entries;
//! - `fault`: sorts of operations, their counts, those that fail;
//! - `state`: all of it behind one mutex, and the operations.
//!
//! Lock: one mutex around the whole state, held for one operation, never while calling out.

mod fault;
mod file;
mod names;
mod rng;
mod state;

pub use fault::{Fault, Op, Ops};

use super::{Disk, DiskError, Listed, LogFile, Object, ObjectWriter, Result, Space, check_name};
use bytes::Bytes;
use names::FileId;
use parking_lot::{Mutex, RwLock};
use state::{DIRECTORY, State, failed};
use std::collections::HashMap;
use std::fmt;
use std::io;
use std::sync::Arc;

/// A store's directory in memory.
///
/// # Power cuts
///
/// [`SimDisk::crash`] gives the disk as it is found after a power cut. What was synced is there. Of
/// the rest, each 4 KiB block of each file and each created, deleted or moved name survives by
/// chance and in any combination; blocks may be torn at a 512-byte boundary; a file that grew may
/// have any length between the synced and the new one, with zeros where no data arrived. An object
/// without its name is gone. [`SimDisk::crash_keep_all`] is the death of the process instead:
/// everything is there, but what was not synced can still be lost in a later power cut.
///
/// Either way this disk is dead from then on: each of its operations fails with `EIO`, whoever
/// still holds it. [`SimDisk::crash_at_op`] kills it at a chosen operation; `crash` and
/// `crash_keep_all` then say what is found, and may be called several times: each power cut has
/// an outcome of its own.
///
/// # Failures
///
/// [`SimDisk::fail`] chooses operations that fail, [`SimDisk::set_capacity`] fills the disk. A full
/// disk takes the part of a write that fits. After a failed sync of a file, the bytes that it should
/// have written count as clean, as in Linux: later syncs succeed without them, and a power cut may
/// lose them. Writing them again is what helps.
pub struct SimDisk {
    state: Arc<Mutex<State>>,
    hooks: Arc<Hooks>,
}

/// What a test wants called before operations.
type Hooks = RwLock<HashMap<Op, Arc<dyn Fn() + Send + Sync>>>;

/// Calls what is to be called before an operation. No lock is held meanwhile.
fn call_hook(hooks: &Hooks, op: Op) {
    let hook = hooks.read().get(&op).cloned();
    if let Some(hook) = hook {
        hook();
    }
}

impl SimDisk {
    /// An empty disk.
    pub fn new(seed: u64) -> SimDisk {
        SimDisk::with(State::new(seed))
    }

    fn with(state: State) -> SimDisk {
        SimDisk { state: Arc::new(Mutex::new(state)), hooks: Arc::default() }
    }

    /// Cuts the power: the disk as it is found afterwards. Its counts start at 0, no faults are set.
    pub fn crash(&self) -> SimDisk {
        let mut state = self.state.lock();
        state.crashed = true;
        SimDisk::with(state.after_power_cut())
    }

    /// Kills the process: the disk as the operating system keeps it. Its counts start at 0, no
    /// faults are set.
    pub fn crash_keep_all(&self) -> SimDisk {
        let mut state = self.state.lock();
        state.crashed = true;
        SimDisk::with(state.after_kill())
    }

    /// The `n`th change ([`Ops::changes`], counted from 1 and from the disk's start) does not take
    /// place: it and every operation after it fail with `EIO`. If there were as many already, the
    /// next one is it.
    pub fn crash_at_op(&self, n: u64) {
        self.state.lock().crash_at = Some(n);
    }

    /// Is the disk dead?
    pub fn is_crashed(&self) -> bool {
        self.state.lock().crashed
    }

    /// Lets operations fail, beside those that other faults choose.
    pub fn fail(&self, fault: Fault) {
        self.state.lock().faults.push(fault);
    }

    /// Forgets all faults: the disk works again.
    pub fn clear_faults(&self) {
        self.state.lock().faults.clear();
    }

    /// Has `hook` called before each read, write or sync ([`Op::Read`], [`Op::Write`], [`Op::Sync`]) of an
    /// open object or log, or before an object is started ([`Op::Create`]): a disk hangs while it does not return. One for each sort; it works on what is
    /// open already too, and is not kept after a crash.
    pub fn before(&self, op: Op, hook: impl Fn() + Send + Sync + 'static) {
        self.hooks.write().insert(op, Arc::new(hook));
    }

    /// Forgets what was to be called. What was called already goes on.
    pub fn clear_hooks(&self) {
        self.hooks.write().clear();
    }

    /// The size of the disk in bytes, which it keeps after a crash. What is open or unfinished
    /// takes room too.
    pub fn set_capacity(&self, bytes: u64) {
        self.state.lock().capacity = bytes;
    }

    /// How many operations there were.
    pub fn ops(&self) -> Ops {
        self.state.lock().ops
    }

    /// How many there were on the file called `name`.
    pub fn ops_on(&self, name: &str) -> Ops {
        self.state.lock().ops_by_name.get(name).copied().unwrap_or_default()
    }

    /// How many ranges of the file called `name` were read.
    pub fn reads(&self, name: &str) -> u64 {
        self.ops_on(name).get(Op::Read)
    }

    /// Flips bit `bit` (0 to 7) of the byte at `offset`, durably.
    pub fn flip_bit(&self, name: &str, offset: u64, bit: u8) -> Result<()> {
        let mut state = self.state.lock();
        let file = state.find(Op::Open, name)?;
        if bit > 7 || offset >= state.data(file).len() as u64 {
            return Err(failed(Op::Write, name, libc::EINVAL));
        }
        state.tamper(name, |file| file.flip_bit(offset as usize, bit))
    }

    /// Loses what the file has behind `len` bytes, durably.
    pub fn truncate_file(&self, name: &str, len: u64) -> Result<()> {
        self.state.lock().tamper(name, |file| file.lose_end(usize::try_from(len).unwrap_or(usize::MAX)))
    }

    /// A file's contents. No operation: it is not counted and works on a dead disk, as all that
    /// tampers with files does.
    pub fn read_file(&self, name: &str) -> Result<Vec<u8>> {
        let state = self.state.lock();
        state.find(Op::Open, name).map(|file| state.data(file).to_vec())
    }

    /// Puts a file there, or in the place of one, durably (and with it all other names). No
    /// operation either.
    pub fn write_file(&self, name: &str, contents: &[u8]) -> Result<()> {
        check_name("write", name)?;
        self.state.lock().put(name, contents);
        Ok(())
    }

    /// All files, in order; one in the folder of lost files is called `lost/NAME`. No operation.
    pub fn files(&self) -> Vec<Listed> {
        self.state.lock().all_files()
    }

    /// A handle on a file that the state counted already.
    fn handle(&self, file: FileId, name: &str) -> Handle {
        Handle { state: self.state.clone(), hooks: self.hooks.clone(), file, name: name.to_owned() }
    }
}

impl fmt::Debug for SimDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state.lock();
        f.debug_struct("SimDisk").field("files", &state.all_files()).field("crashed", &state.crashed).finish()
    }
}

impl Disk for SimDisk {
    fn create(&self, name: &str) -> Result<Box<dyn ObjectWriter>> {
        check_name("create", name)?;
        call_hook(&self.hooks, Op::Create);
        let mut state = self.state.lock();
        state.begin(Op::Create, name)?;
        Ok(Box::new(Writer { handle: self.handle(state.new_file(), name), written: 0 }))
    }

    fn open(&self, name: &str) -> Result<Arc<dyn Object>> {
        check_name("open", name)?;
        let mut state = self.state.lock();
        state.begin(Op::Open, name)?;
        let file = state.find(Op::Open, name)?;
        state.open_handle(file);
        Ok(Arc::new(self.handle(file, name)))
    }

    fn create_log(&self, name: &str) -> Result<Arc<dyn LogFile>> {
        check_name("create", name)?;
        let mut state = self.state.lock();
        let file = state.new_file();
        match state.link(Op::CreateLog, name, file) {
            Ok(()) => Ok(Arc::new(self.handle(file, name))),
            Err(e) => {
                state.close_handle(file);
                Err(e)
            }
        }
    }

    fn reuse_log(&self, old: &str, name: &str) -> Result<Arc<dyn LogFile>> {
        check_name("rename", old).and_then(|()| check_name("rename", name))?;
        let mut state = self.state.lock();
        let file = state.rename(old, name)?;
        state.open_handle(file);
        Ok(Arc::new(self.handle(file, name)))
    }

    /// In order of the names.
    fn list(&self) -> Result<Vec<Listed>> {
        let mut state = self.state.lock();
        state.begin(Op::List, DIRECTORY)?;
        let mut files = state.all_files();
        files.retain(|file| !file.name.contains('/'));
        Ok(files)
    }

    fn delete(&self, name: &str) -> Result<()> {
        check_name("delete", name)?;
        let mut state = self.state.lock();
        state.begin(Op::Delete, name)?;
        let file = state.find(Op::Delete, name)?;
        state.unlink(name, file);
        Ok(())
    }

    fn move_to_lost(&self, name: &str) -> Result<()> {
        check_name("move", name)?;
        self.state.lock().move_to_lost(name)
    }

    /// Three operations: `Write`, `Truncate`, `Sync`.
    fn rewrite_log(&self, name: &str, contents: &[u8]) -> Result<()> {
        check_name("rewrite", name)?;
        let mut state = self.state.lock();
        let file = state.find(Op::Write, name)?;
        state.write(name, file, 0, contents)?;
        state.truncate(name, file, contents.len() as u64)?;
        state.sync(name, file)
    }

    fn sync_dir(&self) -> Result<()> {
        self.state.lock().sync_dir()
    }

    /// Nobody else opens a simulated disk.
    fn release(&self) {}

    fn space(&self) -> Result<Space> {
        let mut state = self.state.lock();
        state.begin(Op::Space, DIRECTORY)?;
        Ok(state.space())
    }

    fn set_reserve(&self, bytes: u64) -> Result<()> {
        self.state.lock().set_reserve(bytes)
    }
}

/// An open file: an object for reading or a log.
struct Handle {
    state: Arc<Mutex<State>>,
    hooks: Arc<Hooks>,
    file: FileId,
    name: String,
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.state.lock().close_handle(self.file);
    }
}

impl Object for Handle {
    fn read_at(&self, offset: u64, len: usize) -> Result<Bytes> {
        call_hook(&self.hooks, Op::Read);
        let mut state = self.state.lock();
        state.begin(Op::Read, &self.name)?;
        let range = usize::try_from(offset).ok().and_then(|start| Some(start..start.checked_add(len)?));
        match range.and_then(|range| state.data(self.file).get(range)) {
            Some(bytes) => Ok(Bytes::copy_from_slice(bytes)),
            None => Err(DiskError::new("read", &self.name, io::ErrorKind::UnexpectedEof.into())),
        }
    }

    fn len(&self) -> Result<u64> {
        let mut state = self.state.lock();
        state.begin(Op::Len, &self.name)?;
        Ok(state.data(self.file).len() as u64)
    }
}

impl LogFile for Handle {
    fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<()> {
        call_hook(&self.hooks, Op::Write);
        self.state.lock().write(&self.name, self.file, offset, bytes)
    }

    fn truncate(&self, len: u64) -> Result<()> {
        self.state.lock().truncate(&self.name, self.file, len)
    }

    fn sync(&self) -> Result<()> {
        call_hook(&self.hooks, Op::Sync);
        self.state.lock().sync(&self.name, self.file)
    }
}

/// An object that is being written: a file without a name.
struct Writer {
    handle: Handle,
    written: u64,
}

impl ObjectWriter for Writer {
    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.handle.write_at(self.written, bytes)?;
        self.written += bytes.len() as u64;
        Ok(())
    }

    /// Three operations, with room for other threads' and for a power cut between them.
    fn finish(self: Box<Self>) -> Result<()> {
        let Handle { state, hooks, file, name } = &self.handle;
        call_hook(hooks, Op::Sync);
        state.lock().sync_object(name, *file, self.written)?;
        state.lock().link(Op::Name, name, *file)?;
        let mut state = state.lock();
        let synced = state.sync_dir();
        if synced.is_err() {
            state.withdraw_object(name, *file);
        }
        synced
    }
}

#[cfg(test)]
mod tests;
