//! What mounts are told of changes that did not come through them.
//!
//! The kernel keeps names, absent names, attributes and pages for ever, for every change passes through itself;
//! but commands change files too. Whoever does so says here what was changed, after the change is visible and with
//! no lock held, and waits until it was heard: from then on the mounts show it.
//!
//! Lock: the list of seats, a leaf.

use crate::fs::FileSystem;
use crate::fs::attr::Ino;
use parking_lot::Mutex;
use std::fmt::Debug;
use std::sync::{Arc, Weak};
use std::time::Duration;

/// How long to wait until what was changed is heard. A kernel that hears nothing is stuck with something else.
const HEARD_TIMEOUT: Duration = Duration::from_secs(20);

/// Somebody who keeps what he was told of files: a mount's kernel. Inode numbers are those of the mount.
pub trait Audience: Send + Sync + Debug {
    /// What is believed of a name in a directory, and of the directory, is out of date. May wait while much is
    /// untold.
    fn name(&self, parent: Ino, name: &[u8]);

    /// What is believed of an inode and its contents is out of date.
    fn inode(&self, ino: Ino);

    /// Waits until all that was said is heard, or for `timeout`; says which.
    fn heard(&self, timeout: Duration) -> bool;
}

/// A place from which a volume's files are watched.
#[derive(Debug)]
pub(super) struct Seat {
    /// What the mount adds to the volume's inode numbers.
    pub bits: Ino,
    /// The mount's kernel.
    pub audience: Weak<dyn Audience>,
}

/// Those who watch a volume's files, which need not be open.
#[derive(Debug, Default)]
pub(super) struct Seats(Mutex<Vec<Weak<Seat>>>);

impl Seats {
    /// Somebody watches, as long as the seat lives.
    pub fn add(&self, seat: &Arc<Seat>) {
        let mut seats = self.0.lock();
        seats.retain(|seat| seat.strong_count() > 0);
        seats.push(Arc::downgrade(seat));
    }

    fn each(&self, mut tell: impl FnMut(Ino, &dyn Audience)) {
        let seats: Vec<Arc<Seat>> = self.0.lock().iter().filter_map(Weak::upgrade).collect();
        for seat in seats {
            if let Some(audience) = seat.audience.upgrade() {
                tell(seat.bits, &*audience);
            }
        }
    }
}

impl FileSystem {
    /// Says to the mounts that a name in a directory stands for something else now, or for nothing.
    pub fn tell_name(&self, parent: Ino, name: &[u8]) {
        self.seats.each(|bits, audience| audience.name(parent | bits, name));
    }

    /// Says to the mounts that an inode's attributes or contents are others now.
    pub fn tell_inode(&self, ino: Ino) {
        self.seats.each(|bits, audience| audience.inode(ino | bits));
    }

    /// Waits until the mounts have heard all that was said. Who holds a lock, or serves the kernel, must not wait
    /// here: the kernel may have to finish something else first.
    pub fn wait_until_told(&self) {
        self.seats.each(|_, audience| wait_until_heard(Some(audience)));
    }
}

/// Waits until one has heard all that was said.
pub(super) fn wait_until_heard(audience: Option<&dyn Audience>) {
    if audience.is_some_and(|audience| !audience.heard(HEARD_TIMEOUT)) {
        tracing::warn!("the kernel does not hear what was changed: it may show older files for a while");
    }
}

/// What was said, kept to be said once more, to others.
#[derive(Debug, Default)]
pub(super) struct Gathered(Mutex<Vec<News>>);

#[derive(Debug)]
enum News {
    Name(Ino, Box<[u8]>),
    Inode(Ino),
}

impl Gathered {
    /// Nothing yet.
    pub fn new() -> Arc<Gathered> {
        Arc::default()
    }

    /// From now on what is said of these files is kept, as long as the seat lives.
    pub fn listen_to(self: &Arc<Self>, files: &FileSystem) -> Arc<Seat> {
        let audience: Weak<Gathered> = Arc::downgrade(self);
        let seat = Arc::new(Seat { bits: 0, audience });
        files.seats.add(&seat);
        seat
    }

    /// Says all of it of these files.
    pub fn tell(&self, files: &FileSystem) {
        for news in std::mem::take(&mut *self.0.lock()) {
            match news {
                News::Name(parent, name) => files.tell_name(parent, &name),
                News::Inode(ino) => files.tell_inode(ino),
            }
        }
    }
}

impl Audience for Gathered {
    fn name(&self, parent: Ino, name: &[u8]) {
        self.0.lock().push(News::Name(parent, name.into()));
    }

    fn inode(&self, ino: Ino) {
        self.0.lock().push(News::Inode(ino));
    }

    fn heard(&self, _timeout: Duration) -> bool {
        true
    }
}
