//! What one mount shows: a volume, or all of them, and the snapshots of each.
//!
//! The kernel knows inodes by a number of 64 bits, one space for the whole mount, and each volume counts its own from
//! one. So every volume and every snapshot that a mount shows is a *view* with a number, and what the kernel sees is
//! view (24 bits) ‖ inode (40 bits): else `cp`, `diff`, `rsync -H` and the page cache would take a file and its
//! older self, or its fork, for one. View 0 is what stands at the root: the mounted volume, or, in a mount of all
//! volumes, the directory of their names (`top`). The number of another view is that of its volume in the store, so
//! that it lasts.
//!
//! Here is the same face that [`FileSystem`] has, for the numbers of the mount: what is about files is handed on to
//! the view's file system (`files`), what is about names of volumes and snapshots is a change of the store
//! (`names`, [`crate::fs::host`]). Nothing leads from one view into another but those names: a rename or a link
//! across is refused as across file systems, and `mv` copies.
//!
//! # Life of a view
//! It begins with the lookup of its root and ends when the kernel has forgotten all of its inodes. Its file system
//! is opened when more than the root's attributes is asked for: ten thousand volumes in a listing cost their names.
//! What others change in it the kernel is told from the beginning: it keeps the root's attributes.
//!
//! # Locks
//! `table`, held to find a view and to count its root: a leaf.

mod files;
mod list;
mod names;
mod top;

pub use list::OpenDir;

use crate::fs::access::AccessTimes;
use crate::fs::attr::{Attr, Ino, ROOT};
use crate::fs::control::SNAPSHOTS;
use crate::fs::error::{Cause, Result, Subject};
use crate::fs::filesystem::{FileSystem, FsOptions};
use crate::fs::host::{Files, Host};
use crate::fs::inode::Name;
use crate::fs::news::{Audience, Seat, Seats};
use crate::lsm::Volume;
use crate::lsm::manifest::VolumeId;
use parking_lot::RwLock;
use std::collections::HashMap;
use std::ops::Deref;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::AcqRel, Ordering::Acquire, Ordering::Relaxed};
use std::sync::{Arc, OnceLock, Weak};
use top::Top;

/// Bits of an inode number inside a view.
const INODE_BITS: u32 = 40;

/// The number of views that can be told apart.
const VIEWS: Ino = 1 << (64 - INODE_BITS);

/// The inode number inside its view.
pub(super) fn inner(ino: Ino) -> Ino {
    ino & ((1 << INODE_BITS) - 1)
}

/// What one mount shows. All methods may be called from any thread.
#[derive(Debug)]
pub struct Views {
    host: Arc<Host>,
    root: Root,
    access_times: AccessTimes,
    /// By their numbers, that of the root aside.
    table: RwLock<HashMap<Ino, Arc<View>>>,
    /// The inodes known in those.
    known: AtomicUsize,
    audience: OnceLock<Weak<dyn Audience>>,
    root_seat: OnceLock<Arc<Seat>>,
}

/// What stands at the root.
#[derive(Debug)]
enum Root {
    Volume(View),
    All(Top),
}

/// A volume, or a snapshot, that is shown.
#[derive(Debug)]
struct View {
    /// Its number, in the place where inode numbers have it.
    bits: Ino,
    volume: Arc<Volume>,
    open: OnceLock<Open>,
    /// Where the kernel watches it from.
    watched: OnceLock<Option<(Arc<Seats>, Arc<Seat>)>>,
    /// What the kernel has to forget until it knows nothing here.
    lookups: AtomicU64,
    /// Inodes of it that were known when they were last counted.
    known: AtomicUsize,
}

/// A view's files.
#[derive(Debug)]
struct Open {
    files: Arc<FileSystem>,
    /// `None` where they belong to somebody else.
    _held: Option<Files>,
}

/// Where in a mount an inode is, and its number there.
enum Place<'a> {
    /// The directory of all volumes.
    Top(&'a Top),
    /// A view's directory of snapshots.
    Snapshots(Guard<'a>),
    /// A file, or another directory, of a view.
    File(Guard<'a>, Ino),
}

/// A view, held.
enum Guard<'a> {
    Root(&'a View),
    Other(Arc<View>),
}

impl Deref for Guard<'_> {
    type Target = View;

    fn deref(&self) -> &View {
        match self {
            Guard::Root(view) => view,
            Guard::Other(view) => view,
        }
    }
}

impl Views {
    /// Shows a volume, or a snapshot.
    pub fn of_volume(files: Files, access_times: AccessTimes) -> Arc<Views> {
        let host = files.host().clone();
        files.set_access_times(access_times);
        Views::of_root(host, files.share(), Some(files), access_times)
    }

    /// Shows the files of a volume that nobody else uses; the caller closes them.
    pub fn alone(files: Arc<FileSystem>) -> Arc<Views> {
        let host = Host::new(files.store.clone(), FsOptions::default());
        let access_times = files.access_times();
        Views::of_root(host, files, None, access_times)
    }

    /// Shows all volumes of a store.
    pub fn of_all(host: Arc<Host>, access_times: AccessTimes) -> Arc<Views> {
        let top = Top::new(host.owner());
        Views::with(host, Root::All(top), access_times)
    }

    fn of_root(
        host: Arc<Host>,
        files: Arc<FileSystem>,
        held: Option<Files>,
        access_times: AccessTimes,
    ) -> Arc<Views> {
        let mut view = View::new(0, files.volume().clone());
        view.open = OnceLock::from(Open { files, _held: held });
        Views::with(host, Root::Volume(view), access_times)
    }

    fn with(host: Arc<Host>, root: Root, access_times: AccessTimes) -> Arc<Views> {
        let views = Arc::new(Views {
            host: host.clone(),
            root,
            access_times,
            table: RwLock::default(),
            known: AtomicUsize::new(0),
            audience: OnceLock::new(),
            root_seat: OnceLock::new(),
        });
        host.watch(&views);
        views
    }

    /// From now on the kernel of this mount is told of changes that others make. Once, before it asks anything.
    pub fn set_audience(&self, audience: Weak<dyn Audience>) {
        if let Root::Volume(view) = &self.root
            && let Some(open) = view.open.get()
        {
            let seat = Arc::new(Seat { bits: 0, audience: audience.clone() });
            open.files.seats.add(&seat);
            let _ = self.root_seat.set(seat);
        }
        let _ = self.audience.set(audience);
    }

    /// The kernel of this mount, if it listens.
    pub(super) fn audience(&self) -> Option<Arc<dyn Audience>> {
        self.audience.get().and_then(Weak::upgrade)
    }

    /// Where an inode is.
    fn place(&self, ino: Ino) -> Result<Place<'_>> {
        let bits = ino - inner(ino);
        let view = match &self.root {
            Root::Volume(view) if bits == 0 => Guard::Root(view),
            Root::All(top) if bits == 0 => return Ok(Place::Top(top)),
            _ => match self.table.read().get(&bits) {
                Some(view) => Guard::Other(view.clone()),
                None => return Err(Cause::Stale.of("find", Subject::Inode(ino))),
            },
        };
        Ok(match inner(ino) {
            SNAPSHOTS => Place::Snapshots(view),
            inner => Place::File(view, inner),
        })
    }

    /// Asks a view's files about an inode.
    fn ask<T>(
        &self,
        op: &'static str,
        ino: Ino,
        question: impl FnOnce(&View, &FileSystem, Ino) -> Result<T>,
    ) -> Result<T> {
        match self.place(ino)? {
            Place::File(view, inner) => question(&view, self.files(&view)?, inner),
            Place::Snapshots(view) => question(&view, self.files(&view)?, SNAPSHOTS),
            Place::Top(_) => Err(top::refused().of(op, Subject::Inode(ino))),
        }
    }

    /// A view's files; opens them.
    fn files<'a>(&self, view: &'a View) -> Result<&'a FileSystem> {
        if let Some(open) = view.open.get() {
            return Ok(&open.files);
        }
        let held = self.host.files_of(view.volume.clone())?;
        held.set_access_times(self.access_times);
        // Of two who come at once, one opens what the other has open.
        let open = Open { files: held.share(), _held: Some(held) };
        Ok(&view.open.get_or_init(|| open).files)
    }

    /// From now on the kernel is told what others change in a view, whose files need not be open here.
    fn watch(&self, view: &View) {
        view.watched.get_or_init(|| {
            if view.volume.is_snapshot() {
                return None;
            }
            let audience = self.audience.get()?.clone();
            let seats = self.host.seats_of(view.volume.id());
            let seat = Arc::new(Seat { bits: view.bits, audience });
            seats.add(&seat);
            Some((seats, seat))
        });
    }

    /// The attributes of a view's root.
    fn root_attr(&self, view: &View) -> Result<Attr> {
        let attr = match view.open.get() {
            Some(open) => open.files.getattr(ROOT)?,
            None => match FileSystem::root_of(&view.volume)? {
                Some(attr) => attr,
                None => self.files(view)?.getattr(ROOT)?,
            },
        };
        Ok(view.show(attr))
    }

    /// Shows a volume, or a snapshot; counts a reference to its root.
    fn enter(&self, volume: &Arc<Volume>) -> Result<Attr> {
        let view = {
            let mut table = self.table.write();
            let bits = free_bits(&table, volume.id());
            let view = table.entry(bits).or_insert_with(|| Arc::new(View::new(bits, volume.clone())));
            view.lookups.fetch_add(1, AcqRel);
            view.clone()
        };
        // What is changed after the attributes are read must be heard.
        self.watch(&view);
        self.root_attr(&view).inspect_err(|_| self.forget(view.bits | ROOT, 1))
    }

    /// Counts a reference to an inode of a view, which the kernel is to give back.
    fn count(&self, view: &View, files: &FileSystem) {
        if view.bits != 0 {
            view.lookups.fetch_add(1, AcqRel);
            self.recount(view, files);
        }
    }

    /// Takes back `count` references to an inode. After the last one its number is not valid any more, and a file
    /// without a name is gone.
    pub fn forget(&self, ino: Ino, count: u64) {
        let Ok(place) = self.place(ino) else { return };
        let (view, inner) = match place {
            Place::Top(_) => return,
            Place::Snapshots(view) => (view, SNAPSHOTS),
            Place::File(view, inner) => (view, inner),
        };
        if let Some(open) = view.open.get() {
            open.files.forget(inner, count);
            if view.bits != 0 {
                self.recount(&view, &open.files);
            }
        }
        if view.bits != 0 && view.lookups.fetch_sub(count, AcqRel) == count {
            self.leave(&view);
        }
    }

    /// Ends a view if the kernel knows nothing in it any more.
    fn leave(&self, view: &View) {
        let mut table = self.table.write();
        let left = match table.get(&view.bits) {
            Some(known) if std::ptr::eq(&**known, view) && known.lookups.load(Acquire) == 0 => {
                table.remove(&view.bits)
            }
            _ => None,
        };
        drop(table);
        if let Some(view) = left {
            self.known.fetch_sub(view.known.swap(0, Relaxed), Relaxed);
        }
    }

    /// Counts the inodes that are known in a view.
    fn recount(&self, view: &View, files: &FileSystem) {
        let now = files.referenced();
        let before = view.known.swap(now, Relaxed);
        // Wraps, and back: each view adds and takes the same numbers.
        self.known.fetch_add(now.wrapping_sub(before), Relaxed);
    }

    /// The number of inodes that are referenced, roots aside.
    pub fn referenced(&self) -> usize {
        match &self.root {
            Root::Volume(View { open, .. }) => {
                open.get().map_or(0, |open| open.files.referenced()) + self.known.load(Relaxed)
            }
            Root::All(_) => self.known.load(Relaxed),
        }
    }

    /// Is an inode referenced? Asked without a look at the disk.
    pub fn is_referenced(&self, ino: Ino) -> bool {
        self.look_up(ino, |files, inner| Some(files.inodes.is_known(inner))).unwrap_or(false)
    }

    /// The directory and the name of a file that is known by one name; of no directory.
    pub(super) fn name_to_forget(&self, ino: Ino) -> Option<(Ino, Name)> {
        let at = self.look_up(ino, |files, inner| files.inodes.file_name(inner))?;
        Some((at.parent | (ino - inner(ino)), at.name))
    }

    /// Looks at an inode in the files of its view, if they are open.
    fn look_up<T>(&self, ino: Ino, look: impl FnOnce(&FileSystem, Ino) -> Option<T>) -> Option<T> {
        match self.place(ino).ok()? {
            Place::File(view, inner) => look(&view.open.get()?.files, inner),
            Place::Snapshots(_) | Place::Top(_) => None,
        }
    }

    /// Some of those that nobody asked for of late, at most `limit`. Each call looks at a part of them, in turn.
    pub fn coldest(&self, limit: usize) -> Vec<Ino> {
        let mut coldest = Vec::new();
        let mut look = |view: &View| {
            let left = limit - coldest.len();
            if let Some(open) = view.open.get().filter(|_| left > 0) {
                let found = open.files.coldest(left);
                coldest.extend(found.into_iter().map(|ino| ino | view.bits));
            }
        };
        if let Root::Volume(view) = &self.root {
            look(view);
        }
        let others: Vec<Arc<View>> = self.table.read().values().cloned().collect();
        others.iter().for_each(|view| look(view));
        coldest
    }
}

impl View {
    fn new(bits: Ino, volume: Arc<Volume>) -> View {
        let (lookups, known) = (AtomicU64::new(0), AtomicUsize::new(0));
        View { bits, volume, open: OnceLock::new(), watched: OnceLock::new(), lookups, known }
    }

    /// Attributes with the number that the mount has for them.
    fn show(&self, attr: Attr) -> Attr {
        Attr { ino: attr.ino | self.bits, ..attr }
    }
}

/// The number of a volume's view: its own, or the next that no other volume has.
fn free_bits(table: &HashMap<Ino, Arc<View>>, volume: VolumeId) -> Ino {
    // There are far fewer views than numbers: this ends.
    let mut number = Ino::from(volume) % VIEWS;
    loop {
        number = number.max(1);
        let bits = number << INODE_BITS;
        match table.get(&bits) {
            Some(view) if view.volume.id() != volume => number = (number + 1) % VIEWS,
            _ => return bits,
        }
    }
}
