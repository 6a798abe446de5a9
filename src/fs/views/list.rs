//! Listing: directories of files, and those of volumes and of snapshots.
//!
//! Volumes and snapshots are those of the moment when reading began, or was taken up again; what was deleted
//! since is left out. They come in the order of the volumes' numbers, which are never used again, and cookies are those: so who
//! is to go on behind one finds his place, whatever was deleted.

use crate::fs::access::AccessTimes;
use crate::fs::attr::{FileKind, Ino, ROOT};
use crate::fs::control;
use crate::fs::error::{Cause, Context, Result, Subject};
use crate::fs::readdir::{DirEntry, DirHandle};
use crate::fs::views::{Place, Views};
use crate::lsm::Volume;
use std::sync::Arc;

/// An open directory.
#[derive(Debug)]
pub struct OpenDir {
    ino: Ino,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Files(DirHandle),
    /// With the inode number of what `..` means.
    Volumes(Ino, Vec<Arc<Volume>>),
}

impl OpenDir {
    /// As [`DirHandle::stopped_behind`]. Where volumes are listed cookies tell enough.
    pub fn stopped_behind(&self, cookie: u64, name: &[u8]) {
        if let Kind::Files(listed) = &self.kind {
            listed.stopped_behind(cookie, name);
        }
    }
}

impl Views {
    /// May the kernel keep what is listed until it changes a directory itself, or is told that somebody else did? Not
    /// where it would have to ask because reading is noted.
    pub fn keeps_listings(&self) -> bool {
        self.access_times == AccessTimes::Kept
    }

    /// Opens a directory for listing.
    pub fn opendir(&self, ino: Ino) -> Result<OpenDir> {
        let store = self.host.store();
        let volumes = |parent, volumes: crate::lsm::Result<Vec<Arc<Volume>>>| {
            let mut volumes = volumes.map_err(Cause::from).context("opendir", || Subject::Inode(ino))?;
            volumes.sort_by_key(|volume| volume.id());
            Ok(Kind::Volumes(parent, volumes))
        };
        let kind = match self.place(ino)? {
            Place::Top(_) => volumes(ROOT, store.volumes())?,
            Place::Snapshots(view) => volumes(view.bits | control::DIR, store.snapshots(&view.volume))?,
            Place::File(view, inner) => Kind::Files(self.files(&view)?.opendir(inner)?),
        };
        Ok(OpenDir { ino, kind })
    }

    /// May the directory have changed since the moment that a listing of it shows? Of volumes it is known whether some
    /// have come or gone.
    pub fn has_changed(&self, dir: &OpenDir) -> bool {
        let changed = || -> Result<bool> {
            let ids = |volumes: &[Arc<Volume>]| volumes.iter().map(|volume| volume.id()).collect::<Vec<_>>();
            Ok(match (&dir.kind, self.place(dir.ino)?) {
                (Kind::Files(listed), Place::File(view, _)) => self.files(&view)?.has_changed(listed),
                (Kind::Files(_), _) => true,
                (Kind::Volumes(_, listed), _) => match self.opendir(dir.ino)?.kind {
                    Kind::Volumes(_, present) => ids(listed) != ids(&present),
                    Kind::Files(_) => true,
                },
            })
        };
        // Where it can't be told it may.
        changed().unwrap_or(true)
    }

    /// As [`FileSystem::readdir`](crate::fs::FileSystem::readdir).
    pub fn readdir(
        &self,
        dir: &OpenDir,
        cookie: u64,
        add: &mut dyn FnMut(DirEntry<'_>) -> bool,
    ) -> Result<()> {
        self.list(dir, cookie, false, add)
    }

    /// As [`FileSystem::readdir_plus`](crate::fs::FileSystem::readdir_plus).
    pub fn readdir_plus(
        &self,
        dir: &OpenDir,
        cookie: u64,
        add: &mut dyn FnMut(DirEntry<'_>) -> bool,
    ) -> Result<()> {
        self.list(dir, cookie, true, add)
    }

    /// Lists a directory; with `count` a reference is counted to each entry that has attributes and was taken.
    fn list(
        &self,
        dir: &OpenDir,
        cookie: u64,
        count: bool,
        add: &mut dyn FnMut(DirEntry<'_>) -> bool,
    ) -> Result<()> {
        let listed = match &dir.kind {
            Kind::Volumes(parent, volumes) => {
                return self.list_volumes((dir.ino, *parent), volumes, cookie, count, add);
            }
            Kind::Files(listed) => listed,
        };
        let view = match self.place(dir.ino)? {
            Place::File(view, _) | Place::Snapshots(view) => view,
            Place::Top(_) => return Err(Cause::Stale.of("readdir", Subject::Inode(dir.ino))),
        };
        let fs = self.files(&view)?;
        let mut show = |entry: DirEntry<'_>| {
            let counted = count && entry.attr.is_some();
            let (ino, attr) = (entry.ino | view.bits, entry.attr.map(|attr| view.show(attr)));
            let full = add(DirEntry { ino, attr, ..entry });
            if counted && !full {
                self.count(&view, fs);
            }
            full
        };
        match count {
            true => fs.readdir_plus(listed, cookie, &mut show),
            false => fs.readdir(listed, cookie, &mut show),
        }
    }

    fn list_volumes(
        &self,
        (ino, parent): (Ino, Ino),
        volumes: &[Arc<Volume>],
        cookie: u64,
        count: bool,
        add: &mut dyn FnMut(DirEntry<'_>) -> bool,
    ) -> Result<()> {
        let dots = [(&b"."[..], ino), (b"..", parent)];
        let skipped = usize::try_from(cookie).unwrap_or(usize::MAX);
        for (at, (name, ino)) in dots.into_iter().enumerate().skip(skipped) {
            let cookie = at as u64 + 1;
            if add(DirEntry { name, ino, kind: FileKind::Directory, cookie, attr: None }) {
                return Ok(());
            }
        }
        let cookie_of = |volume: &Volume| dots.len() as u64 + 1 + u64::from(volume.id());
        for volume in volumes.iter().filter(|volume| cookie_of(volume) > cookie) {
            // What cannot be read is left out, as what is gone: its name answers with the reason.
            let Ok(attr) = self.enter(volume) else { continue };
            let name = volume.name();
            let cookie = cookie_of(volume);
            let (name, kind) = (name.as_bytes(), FileKind::Directory);
            let full = add(DirEntry { name, ino: attr.ino, kind, cookie, attr: Some(attr) });
            if full || !count {
                self.forget(attr.ino, 1);
            }
            if full {
                return Ok(());
            }
        }
        Ok(())
    }
}
