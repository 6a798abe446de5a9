//! `.lsmfs`: the store's figures as files in the mount.
//!
//! The root has a directory of this name that answers to lookups and does not show in listings. In
//! it are `stats` and `stats.json`, which are read-only and their owner's alone, and `snapshots`, of which only the
//! name is here: what is in it is the business of who shows the volume (`views.rs`). Nothing can be made,
//! changed, renamed or removed there, nor under that name.
//!
//! A figure is rendered when it is looked up, and that rendering is an inode of its own: it keeps its
//! contents, and a size that fits them, until it is forgotten, so a reader never sees half of one and half of
//! another. The kernel is told to look the name up again each time, and finds new figures, with one
//! exception: programs such as `cp` look at a file before they open it and insist that it is the same, so
//! a rendering that nobody has read yet is found again for [`UNREAD_FOR`].
//!
//! Their inode numbers are those from [`INO_LIMIT`] to 2^40, which no file gets: the first is the
//! directory's, the second that of `snapshots`, the others go round among the renderings.
//!
//! Lock: the renderings that somebody knows, a leaf.

use crate::fs::FileSystem;
use crate::fs::attr::{Attr, Caller, FileKind, INO_LIMIT, Ino, ROOT, Timestamp};
use crate::fs::entry::Record;
use crate::fs::error::Cause;
use crate::fs::figures;
use crate::fs::node::{Outcome, check_name};
use crate::fs::readdir::DirEntry;
use bytes::Bytes;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// The directory's name, in the root.
pub const NAME: &[u8] = b".lsmfs";

/// The directory's inode number.
pub(super) const DIR: Ino = INO_LIMIT;

/// The inode number of its directory of snapshots, in which whoever shows the volume has them (`views.rs`).
pub(super) const SNAPSHOTS: Ino = DIR + 1;

/// That directory's name.
const SNAPSHOTS_NAME: &[u8] = b"snapshots";

/// The end of the renderings' inode numbers.
const END: Ino = 1 << 40;

/// Renderings that may be known at once: a bound on what programs that hold them open can take.
const LIVING_MAX: usize = 4096;

/// How long a rendering that nobody reads is found by further lookups.
const UNREAD_FOR: Duration = Duration::from_secs(1);

const DIR_MODE: u32 = 0o500;
const SNAPSHOTS_MODE: u32 = 0o700;
const FILE_MODE: u32 = 0o400;

/// Is it the directory, that of snapshots, or a rendering?
pub(super) fn is_control(ino: Ino) -> bool {
    ino >= DIR
}

/// Is it a rendering, which the name that led to it will not lead to again?
pub(super) fn is_rendering(ino: Ino) -> bool {
    ino > SNAPSHOTS
}

/// Is the name the directory's, or in it?
pub(super) fn holds(parent: Ino, name: &[u8]) -> bool {
    is_control(parent) || (parent == ROOT && name == NAME)
}

/// Refuses names that cannot be made, changed or removed.
pub(super) fn check_changeable(parent: Ino, name: &[u8]) -> Outcome<()> {
    check_name(name)?;
    if holds(parent, name) { Err(refused()) } else { Ok(()) }
}

fn refused() -> Cause {
    Cause::NotPermitted(".lsmfs holds the store's figures")
}

/// Why an inode is not in the table of files.
pub(super) fn unknown(ino: Ino) -> Cause {
    if is_control(ino) { refused() } else { Cause::Stale }
}

/// A file of figures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Figure {
    Text,
    Json,
}

/// The files, in byte order.
const FIGURES: [(&[u8], Figure); 2] = [(b"stats", Figure::Text), (b"stats.json", Figure::Json)];

/// A figure as it was when it was looked up.
#[derive(Debug, Clone)]
struct Rendering {
    record: Record,
    contents: Bytes,
}

#[derive(Debug)]
struct Known {
    lookups: u64,
    rendering: Rendering,
}

#[derive(Debug)]
struct Living {
    known: HashMap<Ino, Known>,
    last: Ino,
    /// The newest rendering of each figure, while nobody has read it, and when it was made.
    unread: [Option<(Ino, Instant)>; FIGURES.len()],
}

/// The directory and the renderings that somebody knows.
#[derive(Debug)]
pub(super) struct Control {
    dir: Record,
    snapshots: Record,
    owner: Caller,
    living: Mutex<Living>,
}

impl Control {
    /// The directory of an owner.
    pub fn new(owner: Caller) -> Control {
        let dir = Record::new(FileKind::Directory, DIR, DIR_MODE, owner, Timestamp::now());
        let snapshots = Record::new(FileKind::Directory, SNAPSHOTS, SNAPSHOTS_MODE, owner, Timestamp::now());
        let living = Living { known: HashMap::new(), last: SNAPSHOTS, unread: Default::default() };
        Control { dir, snapshots, owner, living: Mutex::new(living) }
    }

    /// The attributes of the directory or of a rendering.
    pub fn record(&self, ino: Ino) -> Outcome<Record> {
        match ino {
            DIR => Ok(self.dir.clone()),
            SNAPSHOTS => Ok(self.snapshots.clone()),
            _ => self.known(ino, |rendering| rendering.record.clone()),
        }
    }

    /// A part of a rendering.
    pub fn read(&self, ino: Ino, offset: u64, len: usize) -> Outcome<Bytes> {
        if ino <= SNAPSHOTS {
            return Err(Cause::IsDirectory);
        }
        let contents = self.known(ino, |rendering| rendering.contents.clone())?;
        for unread in &mut self.living.lock().unread {
            unread.take_if(|(unread, _)| *unread == ino);
        }
        let from = contents.len().min(usize::try_from(offset).unwrap_or(usize::MAX));
        let to = contents.len().min(from.saturating_add(len));
        Ok(contents.slice(from..to))
    }

    fn known<T>(&self, ino: Ino, ask: impl FnOnce(&Rendering) -> T) -> Outcome<T> {
        self.living.lock().known.get(&ino).map(|known| ask(&known.rendering)).ok_or(Cause::Stale)
    }

    /// Takes back `count` lookups of a rendering; after the last one it is gone.
    pub fn forget(&self, ino: Ino, count: u64) {
        let known = &mut self.living.lock().known;
        if let Some(one) = known.get_mut(&ino) {
            one.lookups = one.lookups.saturating_sub(count);
            if one.lookups == 0 {
                known.remove(&ino);
            }
        }
    }

    /// The rendering of a figure that nobody has read yet; counts a reference to it.
    fn find_unread(&self, figure: Figure, now: Instant) -> Option<Attr> {
        let living = &mut *self.living.lock();
        let (ino, made) = living.unread[figure as usize]?;
        let known = living.known.get_mut(&ino).filter(|_| now.duration_since(made) < UNREAD_FOR)?;
        known.lookups += 1;
        Some(Attr::from(&known.rendering.record))
    }

    /// Keeps a rendering under a number of its own, looked up once.
    fn keep(&self, figure: Figure, mut rendering: Rendering, now: Instant) -> Outcome<Attr> {
        let mut living = self.living.lock();
        if living.known.len() >= LIVING_MAX {
            let errno = rustix::io::Errno::NFILE;
            return Err(Cause::System { what: "too many figures are open", errno });
        }
        let mut ino = living.last;
        loop {
            // Far more numbers than may be known at once: this ends.
            ino = if ino + 1 < END { ino + 1 } else { SNAPSHOTS + 1 };
            if !living.known.contains_key(&ino) {
                break;
            }
        }
        living.last = ino;
        living.unread[figure as usize] = Some((ino, now));
        rendering.record.ino = ino;
        let attr = Attr::from(&rendering.record);
        living.known.insert(ino, Known { lookups: 1, rendering });
        Ok(attr)
    }
}

impl FileSystem {
    /// Looks up the directory, or a name in it; counts a reference to a rendering.
    pub(super) fn lookup_control(&self, parent: Ino, name: &[u8]) -> Outcome<Option<Attr>> {
        match parent {
            ROOT => Ok(Some(Attr::from(&self.control.dir))),
            DIR if name == SNAPSHOTS_NAME && self.has_snapshots() => {
                Ok(Some(Attr::from(&self.control.snapshots)))
            }
            DIR => match FIGURES.iter().find(|(known, _)| *known == name) {
                Some((_, figure)) => self.reference(*figure).map(Some),
                None => Ok(None),
            },
            SNAPSHOTS => Ok(None),
            _ => Err(Cause::NotDirectory),
        }
    }

    /// A snapshot has none itself.
    fn has_snapshots(&self) -> bool {
        !self.volume.is_snapshot()
    }

    /// Lists the directory, as [`FileSystem::readdir`] or, if `count` is set, as
    /// [`FileSystem::readdir_plus`] does.
    pub(super) fn list_control(
        &self,
        cookie: u64,
        count: bool,
        add: &mut dyn FnMut(DirEntry<'_>) -> bool,
    ) -> Outcome<()> {
        let snapshots = Attr::from(&self.control.snapshots);
        let directories =
            [(&b"."[..], DIR, None), (b"..", ROOT, None), (SNAPSHOTS_NAME, SNAPSHOTS, Some(snapshots))];
        let skipped = usize::try_from(cookie).unwrap_or(usize::MAX);
        for (at, (name, ino, attr)) in directories.into_iter().enumerate().skip(skipped) {
            let cookie = at as u64 + 1;
            let shown = attr.is_none() || self.has_snapshots();
            if shown && add(DirEntry { name, ino, kind: FileKind::Directory, cookie, attr }) {
                return Ok(());
            }
        }
        let figures = FIGURES.into_iter().enumerate().skip(skipped.saturating_sub(directories.len()));
        for (at, (name, figure)) in figures {
            let attr = self.reference(figure)?;
            let cookie = (directories.len() + at) as u64 + 1;
            let full = add(DirEntry { name, ino: attr.ino, kind: attr.kind, cookie, attr: Some(attr) });
            if full || !count {
                self.control.forget(attr.ino, 1);
            }
            if full {
                return Ok(());
            }
        }
        Ok(())
    }

    /// A rendering of a figure; counts a reference to it.
    fn reference(&self, figure: Figure) -> Outcome<Attr> {
        let now = Instant::now();
        let unread = self.control.find_unread(figure, now);
        unread.map_or_else(|| self.control.keep(figure, self.render(figure), now), Ok)
    }

    /// A figure as it is now.
    fn render(&self, figure: Figure) -> Rendering {
        let stats = self.store.stats();
        let contents = Bytes::from(match figure {
            Figure::Text => figures::text(&stats),
            Figure::Json => figures::json(&stats),
        });
        let owner = self.control.owner;
        let mut record = Record::new(FileKind::File, DIR, FILE_MODE, owner, Timestamp::now());
        record.size = contents.len() as u64;
        Rendering { record, contents }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rendering(text: &'static [u8]) -> Rendering {
        let owner = Caller::new(7, 8);
        let mut record = Record::new(FileKind::File, DIR, FILE_MODE, owner, Timestamp::now());
        record.size = text.len() as u64;
        Rendering { record, contents: Bytes::from_static(text) }
    }

    fn keep(control: &Control, text: &'static [u8]) -> Outcome<Attr> {
        control.keep(Figure::Text, rendering(text), Instant::now())
    }

    #[test]
    fn each_rendering_keeps_its_contents_until_it_is_forgotten() {
        let control = Control::new(Caller::new(7, 8));
        let first = keep(&control, b"first").unwrap();
        let second = keep(&control, b"second").unwrap();
        assert!(is_rendering(first.ino) && is_rendering(second.ino) && first.ino != second.ino);
        assert_eq!((first.size, first.uid, first.mode), (5, 7, 0o400));
        assert_eq!(control.read(first.ino, 1, 3).unwrap(), "irs");
        assert_eq!(control.read(second.ino, 4, 100).unwrap(), "nd");
        assert_eq!(control.read(second.ino, u64::MAX, usize::MAX).unwrap(), "");
        control.forget(first.ino, 1);
        assert!(matches!(control.read(first.ino, 0, 1), Err(Cause::Stale)));
        assert_eq!(control.record(second.ino).unwrap().size, 6);
    }

    #[test]
    fn a_rendering_is_found_again_until_it_is_read_forgotten_or_old() {
        let control = Control::new(Caller::new(0, 0));
        let made = Instant::now();
        let found = |after| control.find_unread(Figure::Text, made + after).map(|attr| attr.ino);
        let make = || control.keep(Figure::Text, rendering(b"text"), made).unwrap().ino;
        assert_eq!(found(Duration::ZERO), None);
        let first = make();
        assert_eq!(found(UNREAD_FOR / 2), Some(first));
        assert_eq!(found(UNREAD_FOR), None);
        assert_eq!(control.find_unread(Figure::Json, made), None);
        control.forget(first, 1);
        assert_eq!(found(Duration::ZERO), Some(first), "it was looked up twice");
        control.forget(first, 2);
        assert_eq!(found(Duration::ZERO), None);
        let second = make();
        control.read(second, 0, 1).unwrap();
        assert_eq!(found(Duration::ZERO), None);
    }

    #[test]
    fn numbers_go_round_and_miss_those_that_are_known() {
        let control = Control::new(Caller::new(0, 0));
        let kept = keep(&control, b"kept").unwrap();
        control.living.lock().last = END - 1;
        assert_eq!(keep(&control, b"next").unwrap().ino, kept.ino + 1);
    }

    #[test]
    fn only_so_many_renderings_are_known_at_once() {
        let control = Control::new(Caller::new(0, 0));
        for _ in 0..LIVING_MAX {
            keep(&control, b"").unwrap();
        }
        assert!(matches!(keep(&control, b""), Err(Cause::System { .. })));
        control.forget(SNAPSHOTS + 1, 1);
        keep(&control, b"").unwrap();
    }
}
