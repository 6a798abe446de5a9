//! Requests about names: those of files are the view's file system's, those of volumes and snapshots changes of the
//! store.

use crate::fs::attr::{Attr, Caller, Ino, ROOT};
use crate::fs::control::SNAPSHOTS;
use crate::fs::error::{Cause, Context, Result, Subject};
use crate::fs::host::{NewRoot, volume_name};
use crate::fs::node::Outcome;
use crate::fs::rename::RenameMode;
use crate::fs::views::files::check_same;
use crate::fs::views::{Place, Root, View, Views, inner};
use crate::lsm::{self, Volume};
use std::sync::Arc;

impl Views {
    /// The file of a name, if there is one; counts a reference to it.
    pub fn lookup(&self, parent: Ino, name: &[u8]) -> Result<Option<Attr>> {
        let volume = match self.place(parent)? {
            Place::Top(_) => self.find_volume(name),
            Place::Snapshots(view) => self.find_snapshot(&view, name),
            Place::File(view, parent) => {
                let fs = self.files(&view)?;
                let Some(found) = fs.lookup(parent, name)? else { return Ok(None) };
                self.count(&view, fs);
                return Ok(Some(view.show(found)));
            }
        };
        match volume.context("lookup", || Subject::name(parent, name))? {
            Some(volume) => self.enter(&volume).map(Some),
            None => Ok(None),
        }
    }

    fn find_volume(&self, name: &[u8]) -> Outcome<Option<Arc<Volume>>> {
        match volume_name(name) {
            // What an interrupted restore left behind is nobody's.
            Ok(name) if !name.starts_with('.') => if_there(self.host.store().volume(name)),
            _ => Ok(None),
        }
    }

    fn find_snapshot(&self, view: &View, name: &[u8]) -> Outcome<Option<Arc<Volume>>> {
        let Ok(name) = volume_name(name) else { return Ok(None) };
        if_there(self.host.store().snapshot(&view.volume, name))
    }

    /// Makes a directory, a volume or a snapshot; counts a reference to it.
    pub fn mkdir(&self, parent: Ino, name: &[u8], mode: u32, caller: Caller) -> Result<Attr> {
        let made = match self.place(parent)? {
            Place::File(..) => return self.make_directory(parent, name, mode, caller),
            Place::Top(top) => {
                top.note_change();
                self.make_volume(name, mode, caller)
            }
            Place::Snapshots(view) => volume_name(name)
                .and_then(|name| self.host.try_create_snapshot(&view.volume, name, Some(self))),
        };
        self.enter(&made.context("mkdir", || Subject::name(parent, name))?)
    }

    fn make_volume(&self, name: &[u8], mode: u32, caller: Caller) -> Outcome<Arc<Volume>> {
        let root = NewRoot { mode: mode & !caller.umask, owner: caller };
        self.host.try_create_volume(volume_name(name)?, Some(root), Some(self))
    }

    /// Removes an empty directory, an empty volume, or a snapshot.
    pub fn rmdir(&self, parent: Ino, name: &[u8]) -> Result<()> {
        let removed = match self.place(parent)? {
            Place::File(view, inner) => return self.files(&view)?.rmdir(inner, name),
            Place::Top(top) => {
                top.note_change();
                volume_name(name).and_then(|name| self.host.try_delete_empty_volume(name, Some(self)))
            }
            Place::Snapshots(view) => volume_name(name)
                .and_then(|name| self.host.try_delete_snapshot(&view.volume, name, Some(self))),
        };
        removed.map_err(not_found).context("rmdir", || Subject::name(parent, name))
    }

    /// Moves a file or a directory to another name in its view, or gives a volume another name.
    pub fn rename(
        &self,
        parent: Ino,
        name: &[u8],
        new_parent: Ino,
        new_name: &[u8],
        mode: RenameMode,
    ) -> Result<Vec<Ino>> {
        check_same(parent, new_parent, "rename")?;
        match self.place(parent)? {
            Place::Top(top) => {
                let renamed = self.rename_volume(name, new_name, mode);
                top.note_change();
                let renamed = renamed.map_err(not_found).context("rename", || Subject::name(parent, name));
                renamed.map(|()| Vec::new())
            }
            _ => self.ask("rename", parent, |view, fs, parent| {
                let moved = fs.rename(parent, name, inner(new_parent), new_name, mode)?;
                Ok(moved.into_iter().map(|ino| ino | view.bits).collect())
            }),
        }
    }

    fn rename_volume(&self, name: &[u8], new_name: &[u8], mode: RenameMode) -> Outcome<()> {
        let (name, new_name) = (volume_name(name)?, volume_name(new_name)?);
        match mode {
            RenameMode::Exchange => return Err(Cause::Invalid("volumes do not change places")),
            _ if name == new_name => return Ok(()),
            // As a directory takes the place of an empty one.
            RenameMode::Replace if self.host.store().volume(new_name).is_ok() => {
                self.host.store().volume(name)?;
                self.host.try_delete_empty_volume(new_name, Some(self))?;
            }
            RenameMode::Replace | RenameMode::NoReplace => {}
        }
        self.host.try_rename_volume(name, new_name, Some(self))
    }

    /// Somebody else changed which volume has this name.
    pub(in crate::fs) fn volume_changed(&self, name: &str) {
        if let Root::All(top) = &self.root {
            top.note_change();
            if let Some(audience) = self.audience() {
                audience.name(ROOT, name.as_bytes());
            }
        }
    }

    /// Somebody else took or deleted a snapshot.
    pub(in crate::fs) fn snapshot_changed(&self, volume: &Volume, name: &str) {
        let is_it = |view: &View| view.volume.id() == volume.id();
        let bits = match &self.root {
            Root::Volume(view) if is_it(view) => Some(view.bits),
            _ => self.table.read().values().find(|view| is_it(view)).map(|view| view.bits),
        };
        if let Some((bits, audience)) = bits.zip(self.audience()) {
            audience.name(bits | SNAPSHOTS, name.as_bytes());
        }
    }
}

/// The volume, if there is one.
fn if_there(found: lsm::Result<Arc<Volume>>) -> Outcome<Option<Arc<Volume>>> {
    match found {
        Ok(volume) => Ok(Some(volume)),
        Err(lsm::Error::NoVolume(_)) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// A name that no volume has is a name without a file.
fn not_found(cause: Cause) -> Cause {
    match cause {
        Cause::Engine(lsm::Error::NoVolume(_)) => Cause::NotFound,
        cause => cause,
    }
}
