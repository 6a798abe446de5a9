//! Listing a directory.
//!
//! A listing shows the names of one moment: an engine snapshot taken when reading starts (and again when
//! it is rewound). First come `.` and `..`, then the names in byte order, each with a [`Cookie`] to go on behind it.
//! A name that stays is shown exactly once, whatever comes and goes meanwhile; one that was removed since is left out.
//!
//! Memory stays small however large the directory is: a handle keeps where it stopped, and the name before
//! every 1024th that it passed, from which any cookie is reached by a short scan.
//!
//! The kernel keeps listings that were read to their end, until the directory changes, and shows them to others. It may
//! drop one that somebody has half read: then a handle is asked to go on behind a name that it never showed. As names are
//! shown in their order, what follows it is still to be shown, and nothing else. Who knows the name says so
//! ([`DirHandle::stopped_behind`]). Else it is looked for in a snapshot of now, first at the number that it had. If it is
//! not there the listing starts again: better to show a name twice than never.
//!
//! Attributes that the kernel keeps must be the present ones, not the snapshot's: an entry that may have
//! been written since is read again.

mod cookie;

use crate::fs::FileSystem;
use crate::fs::attr::{Attr, FileKind, Ino, ROOT};
use crate::fs::control;
use crate::fs::entry::{Entry, Record};
use crate::fs::error::{Cause, Context, Result, Subject};
use crate::fs::inode::Place;
use crate::fs::keys;
use crate::fs::node::{Outcome, decode_entry, decode_shared};
use crate::fs::readdir::cookie::{Cookie, DOTS};
use crate::lsm::{Scan, Snapshot};
use parking_lot::Mutex;
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Names between two that are kept to find a cookie.
const MARK_EVERY: u64 = 1024;

/// An open directory. Its lock is taken before all others.
#[derive(Debug)]
pub struct DirHandle {
    ino: Ino,
    listing: Mutex<Listing>,
    /// The sequence number of the moment that is shown; 0 before it was taken.
    moment: AtomicU64,
}

impl DirHandle {
    /// The listing stopped behind `name`, whose cookie this is; it goes on from there, in the moment that it has shown
    /// if it has begun, wherever in it the name is.
    pub fn stopped_behind(&self, cookie: u64, name: &[u8]) {
        let names = Cookie::decode(cookie).names();
        if names > 0 {
            self.listing.lock().stop(names, name);
        }
    }
}

/// The names of one moment, and what was seen of them. Names are numbered from 0.
#[derive(Debug, Default)]
struct Listing {
    snapshot: Option<Arc<Snapshot>>,
    /// The name before number `MARK_EVERY`, the one before twice that, and so on.
    marks: Vec<Box<[u8]>>,
    /// Where reading stopped: a number (0: nowhere yet), and the name before it.
    stopped: u64,
    stopped_after: Vec<u8>,
}

/// An entry of a directory.
#[derive(Debug, Clone, Copy)]
pub struct DirEntry<'a> {
    /// The name.
    pub name: &'a [u8],
    /// The inode number.
    pub ino: Ino,
    /// What the file is.
    pub kind: FileKind,
    /// The cookie to go on after this entry.
    pub cookie: u64,
    /// The attributes; `.` and `..` have none.
    pub attr: Option<Attr>,
}

/// Which attributes a listing shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Show {
    /// Those of the listing's moment.
    Snapshot,
    /// The present ones, and a reference is counted to each.
    Present,
}

impl FileSystem {
    /// Opens a directory for listing.
    pub fn opendir(&self, ino: Ino) -> Result<DirHandle> {
        let _inode = self.locks.inodes.shared(ino);
        let record = self.load_record(ino).and_then(|record| match record.kind {
            FileKind::Directory => Ok(record),
            _ => Err(Cause::NotDirectory),
        });
        record.context("opendir", || Subject::Inode(ino))?;
        Ok(DirHandle { ino, listing: Mutex::default(), moment: AtomicU64::new(0) })
    }

    /// May the directory have changed since the moment that a listing of it shows?
    pub fn has_changed(&self, dir: &DirHandle) -> bool {
        self.written.since(dir.ino, dir.moment.load(Ordering::Acquire))
    }

    /// Lists a directory from a cookie on, until `add` says that it took no more. Names and attributes
    /// are those of the moment when the listing started.
    pub fn readdir(
        &self,
        dir: &DirHandle,
        cookie: u64,
        add: &mut dyn FnMut(DirEntry<'_>) -> bool,
    ) -> Result<()> {
        self.list(dir, cookie, Show::Snapshot, add).context("readdir", || Subject::Inode(dir.ino))
    }

    /// As [`FileSystem::readdir`], with the present attributes; counts a reference to each entry that
    /// `add` took, `.` and `..` aside.
    pub fn readdir_plus(
        &self,
        dir: &DirHandle,
        cookie: u64,
        add: &mut dyn FnMut(DirEntry<'_>) -> bool,
    ) -> Result<()> {
        self.list(dir, cookie, Show::Present, add).context("readdir", || Subject::Inode(dir.ino))
    }

    fn list(
        &self,
        dir: &DirHandle,
        cookie: u64,
        show: Show,
        add: &mut dyn FnMut(DirEntry<'_>) -> bool,
    ) -> Outcome<()> {
        if control::is_control(dir.ino) {
            return self.list_control(cookie, show == Show::Present, add);
        }
        if cookie == 0 {
            self.note_access(dir.ino);
        }
        let mut listing = dir.listing.lock();
        if cookie == 0 {
            *listing = Listing::default();
        }
        let from = Cookie::decode(cookie);
        for dot in from.index()..DOTS {
            let (name, ino) = match dot {
                0 => (&b"."[..], dir.ino),
                _ => (&b".."[..], self.parent_of(dir.ino)),
            };
            let cookie = Cookie::behind_dots(dot + 1).encode();
            if add(DirEntry { name, ino, kind: FileKind::Directory, cookie, attr: None }) {
                return Ok(());
            }
        }
        // Names do not change their inode while entries are shown and counted.
        let _names = self.locks.names.shared(dir.ino);
        let (snapshot, cursor) = self.go_on(dir.ino, &mut listing, from)?;
        dir.moment.store(snapshot.seq(), Ordering::Release);
        self.list_names(dir.ino, &mut listing, (snapshot, cursor), show, add)
    }

    /// Shows the names behind a cursor in a snapshot.
    fn list_names(
        &self,
        dir: Ino,
        listing: &mut Listing,
        (snapshot, mut cursor): (Arc<Snapshot>, Cursor),
        show: Show,
        add: &mut dyn FnMut(DirEntry<'_>) -> bool,
    ) -> Outcome<()> {
        let mut taken = 0u64;
        loop {
            let next = cursor.next(listing).and_then(|number| match number {
                Some(number) => Ok(Some((number, self.shown(dir, &snapshot, &cursor, show)?))),
                None => Ok(None),
            });
            let (number, record) = match next {
                Ok(Some(next)) => next,
                Ok(None) => return Ok(()),
                // What was taken is counted already: it is answered, and the next call meets the error.
                Err(_) if taken > 0 => return Ok(()),
                Err(e) => return Err(e),
            };
            let name = cursor.name()?;
            if let Some(record) = record {
                let (ino, kind) = (record.ino, record.kind);
                let cookie = Cookie::behind(number, name).encode();
                if add(DirEntry { name, ino, kind, cookie, attr: Some(Attr::from(&record)) }) {
                    return Ok(());
                }
                if show == Show::Present {
                    self.inodes.reference(ino, dir, name, || self.facts(&record, dir, snapshot.seq()));
                }
                taken += 1;
            }
            listing.stop(number + 1, name);
        }
    }

    /// The snapshot to show, and a cursor in it behind the entry of a cookie.
    fn go_on(&self, dir: Ino, listing: &mut Listing, from: Cookie) -> Outcome<(Arc<Snapshot>, Cursor)> {
        let snapshot = listing.snapshot.get_or_insert_with(|| Arc::new(self.volume.snapshot())).clone();
        if let Some(cursor) = listing.seek_behind(dir, from)? {
            return Ok((snapshot, cursor));
        }
        let snapshot = Arc::new(self.volume.snapshot());
        *listing = Listing::of(snapshot.clone());
        let number = listing.find(dir, from)?;
        Ok((snapshot, listing.seek(dir, number)?))
    }

    /// What is shown for an entry of the snapshot; `None` if it was removed since.
    fn shown(&self, dir: Ino, snapshot: &Snapshot, cursor: &Cursor, show: Show) -> Outcome<Option<Record>> {
        let (key, head) = (cursor.scan.key(), cursor.scan.head());
        match show {
            Show::Snapshot => record_at(snapshot, key, head).map(Some),
            Show::Present if self.written.since(dir, snapshot.seq()) => self.find_record(dir, cursor.name()?),
            Show::Present => self.record_of(key, head).map(Some),
        }
    }

    /// The directory that `..` means; one that was removed means itself.
    fn parent_of(&self, dir: Ino) -> Ino {
        match self.inodes.place(dir) {
            Some(Place::Entry(at)) if dir != ROOT => at.parent,
            _ => dir,
        }
    }
}

/// The record of an entry as it was at a snapshot.
fn record_at(snapshot: &Snapshot, key: &[u8], head: &[u8]) -> Outcome<Record> {
    match decode_entry(key, head)? {
        Entry::File(record) => Ok(record),
        Entry::Link(ino) => {
            let shared = keys::inode(ino);
            decode_shared(&shared, snapshot.get(&shared)?.map(|value| value.head), ino)
        }
    }
}

/// A scan that knows the number of its name.
struct Cursor {
    scan: Scan,
    number: u64,
}

impl Listing {
    /// Nothing of it was read.
    fn of(snapshot: Arc<Snapshot>) -> Listing {
        Listing { snapshot: Some(snapshot), ..Listing::default() }
    }

    /// The nearest place before number `first` from which its name can be reached.
    fn nearest(&self, first: u64) -> (u64, Option<&[u8]>) {
        let marks = (first / MARK_EVERY).min(self.marks.len() as u64);
        let mark = match marks {
            0 => (0, None),
            n => (n * MARK_EVERY, self.marks.get(n as usize - 1).map(|name| &name[..])),
        };
        if self.stopped > 0 && (mark.0..=first).contains(&self.stopped) {
            return (self.stopped, Some(&self.stopped_after));
        }
        mark
    }

    /// Keeps where reading stopped.
    fn stop(&mut self, number: u64, after: &[u8]) {
        self.stopped = number;
        self.stopped_after.clear();
        self.stopped_after.extend_from_slice(after);
    }

    /// A cursor before the name of number `first`.
    fn seek(&mut self, dir: Ino, first: u64) -> Outcome<Cursor> {
        let (number, after) = self.nearest(first);
        let (from, to) = keys::entries(dir);
        let after = after.map(|name| keys::entry(dir, name));
        let from = after.as_deref().map_or(Bound::Included(&from[..]), Bound::Excluded);
        let Some(snapshot) = &self.snapshot else {
            return Err(Cause::Invalid("a listing without a snapshot"));
        };
        let mut cursor = Cursor { scan: snapshot.scan(from, Bound::Excluded(&to))?, number };
        while cursor.number < first && cursor.next(self)?.is_some() {}
        Ok(cursor)
    }

    /// A cursor behind the entry of a cookie, if that is the one of its number here.
    fn seek_behind(&mut self, dir: Ino, from: Cookie) -> Outcome<Option<Cursor>> {
        let names = from.names();
        if names == 0 || self.stopped == names && from.is_behind(&self.stopped_after) {
            return self.seek(dir, names).map(Some);
        }
        let mut cursor = self.seek(dir, names - 1)?;
        let found = cursor.next(self)?.is_some() && from.is_behind(cursor.name()?);
        Ok(found.then_some(cursor))
    }

    /// The number behind the entry of a cookie, wherever that is; 0 if it is not here.
    fn find(&mut self, dir: Ino, from: Cookie) -> Outcome<u64> {
        let mut cursor = self.seek(dir, 0)?;
        let mut found = None;
        while let Some(number) = cursor.next(self)? {
            if from.is_behind(cursor.name()?) {
                let behind = number + 1;
                let distance = |number: u64| number.abs_diff(from.names());
                found = found.filter(|other| distance(*other) < distance(behind)).or(Some(behind));
            }
        }
        Ok(found.unwrap_or(0))
    }

    /// Keeps the name of a number if it is the next to be kept.
    fn mark(&mut self, number: u64, name: &[u8]) {
        if number + 1 == (self.marks.len() as u64 + 1) * MARK_EVERY {
            self.marks.push(name.into());
        }
    }
}

impl Cursor {
    /// Moves to the next name and returns its number.
    fn next(&mut self, listing: &mut Listing) -> Outcome<Option<u64>> {
        if !self.scan.next()? {
            return Ok(None);
        }
        let number = self.number;
        self.number += 1;
        listing.mark(number, self.name()?);
        Ok(Some(number))
    }

    /// The name that the cursor stands on.
    fn name(&self) -> Outcome<&[u8]> {
        let key = self.scan.key();
        keys::entry_name(key).ok_or_else(|| Cause::bad_record(key, "not an entry's key"))
    }
}
