//! Names that were removed of late, for those who are still to go on behind one.
//!
//! Who reads a directory is asked to go on behind the name that was read last. That may be gone: many a program removes
//! what it reads. Where it stood is known from its bytes, and these from here, by what a [`Cookie`] tells of
//! a name. So nobody needs to hold a snapshot for those who might come back.
//!
//! # Bounds
//! One table serves all file systems of a store. It has a number of places; a name that is removed takes that of an
//! older one, of those to whose place its hash leads. So a name is here until thousands more were removed.
//!
//! # Locks
//! Each bucket's is a leaf.

use crate::fs::attr::Ino;
use crate::fs::groups::Groups;
use crate::fs::readdir::cookie::Cookie;
use crate::lsm::manifest::VolumeId;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::Arc;

/// Buckets come in so many groups: 256 of them.
const BUCKET_GROUPS: usize = 4;

/// Names in a bucket.
const BUCKET: usize = 64;

/// The table.
pub(in crate::fs) type GoneNames = Groups<Mutex<VecDeque<Name>>, BUCKET_GROUPS>;

/// A name that was removed, and from where.
#[derive(Debug)]
pub(in crate::fs) struct Name {
    volume: VolumeId,
    dir: Ino,
    bytes: Box<[u8]>,
}

/// The names that were removed from one volume's directories. Others of its store may share the table.
#[derive(Debug, Clone)]
pub(in crate::fs) struct Gone {
    volume: VolumeId,
    table: Arc<GoneNames>,
}

impl Gone {
    /// The names of a volume in a table.
    pub fn new(volume: VolumeId, table: Arc<GoneNames>) -> Gone {
        Gone { volume, table }
    }

    /// A name is removed from a directory.
    pub fn note(&self, dir: Ino, name: &[u8]) {
        let mut bucket = self.table.get(Cookie::name_bits(name)).lock();
        if bucket.len() == BUCKET {
            bucket.pop_front();
        }
        bucket.push_back(Name { volume: self.volume, dir, bytes: name.into() });
    }

    /// The name behind which a cookie is, if it was removed from this directory; of several the one removed last.
    pub(super) fn find(&self, dir: Ino, cookie: Cookie) -> Option<Box<[u8]>> {
        let bucket = self.table.made(cookie.bits_of_name())?.lock();
        let is_it =
            |name: &&Name| name.dir == dir && name.volume == self.volume && cookie.is_behind(&name.bytes);
        bucket.iter().rev().find(is_it).map(|name| name.bytes.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn behind(name: &[u8]) -> Cookie {
        Cookie::decode(Cookie::behind(7, name).encode())
    }

    #[test]
    fn a_name_is_found_where_it_was_removed_and_nowhere_else() {
        let table = Arc::default();
        let gone = Gone::new(1, Arc::clone(&table));
        let other = Gone::new(2, table);
        assert_eq!(gone.find(5, behind(b"a")), None);
        gone.note(5, b"a");
        assert_eq!(gone.find(5, behind(b"a")).as_deref(), Some(&b"a"[..]));
        assert_eq!(gone.find(5, behind(b"b")), None);
        assert_eq!((gone.find(6, behind(b"a")), other.find(5, behind(b"a"))), (None, None));
        // Far behind the start cookies tell more of a name.
        assert!(gone.find(5, Cookie::decode(Cookie::behind(1 << 20, b"a").encode())).is_some());
    }

    #[test]
    fn a_name_stays_until_thousands_more_were_removed() {
        let gone = Gone::new(1, Arc::default());
        let name = |n: u32| format!("name-{n}").into_bytes();
        (0..5000).for_each(|n| gone.note(5, &name(n)));
        assert!((0..5000).all(|n| gone.find(5, behind(&name(n))).is_some()));
        (0..100_000).for_each(|n| gone.note(6, &name(n)));
        assert!((0..5000).all(|n| gone.find(5, behind(&name(n))).is_none()));
        let kept = gone.table.all_made().map(|(_, bucket)| bucket.lock().len());
        assert_eq!(kept.max(), Some(BUCKET));
    }
}
