//! The names that the kernel was shown of late, by their cookies.
//!
//! The kernel keeps whole listings, reads them out to whoever opens the directory, and says nothing of it. It may drop one
//! that somebody has half read, as when the directory changes: then it asks for what follows the cookie behind which that
//! one stopped. The name may be gone meanwhile, for many a program removes what it reads, and others have come; where it
//! stood is known from its bytes, which are here.
//!
//! # Bounds
//! The names take so many bytes; past that those shown longest ago are dropped. Whoever comes back to one of these is
//! served by a search (`readdir.rs`).
//!
//! # Locks
//! One mutex, held to look and to change; a leaf.

use crate::fs::attr::Ino;
use parking_lot::Mutex;
use std::collections::VecDeque;

/// Bytes of names and cookies that are kept: some 300,000 short names, 32,000 of the longest.
const BYTES_MAX: usize = 8 << 20;

/// What a page takes beside its entries.
const PAGE_OVERHEAD: usize = size_of::<Page>();

/// A cookie, and the name's length in a byte, stand before each name.
const COOKIE_LEN: usize = size_of::<u64>();

/// Names of all directories, those shown last at the end.
#[derive(Debug, Default)]
pub(super) struct Shown(Mutex<Pages>);

#[derive(Debug, Default)]
struct Pages {
    pages: VecDeque<Page>,
    bytes: usize,
}

/// What one answer has shown of a directory.
#[derive(Debug)]
struct Page {
    dir: Ino,
    entries: Box<[u8]>,
}

/// What an answer shows.
#[derive(Debug, Default)]
pub(super) struct Entries(Vec<u8>);

impl Entries {
    /// Adds a name and the cookie behind it.
    pub fn add(&mut self, cookie: u64, name: &[u8]) {
        // Names are not longer: see `NAME_MAX`.
        let Ok(len) = u8::try_from(name.len()) else { return };
        self.0.extend_from_slice(&cookie.to_ne_bytes());
        self.0.push(len);
        self.0.extend_from_slice(name);
    }
}

impl Page {
    fn size(&self) -> usize {
        PAGE_OVERHEAD + self.entries.len()
    }

    /// The name behind which a cookie is.
    fn name(&self, cookie: u64) -> Option<&[u8]> {
        let mut rest = &*self.entries;
        while let Some((told, after)) = rest.split_first_chunk::<COOKIE_LEN>() {
            let (len, after) = after.split_first()?;
            let (name, after) = after.split_at_checked(usize::from(*len))?;
            if u64::from_ne_bytes(*told) == cookie {
                return Some(name);
            }
            rest = after;
        }
        None
    }
}

impl Shown {
    /// An answer shows entries of a directory.
    pub fn note(&self, dir: Ino, entries: Entries) {
        if entries.0.is_empty() {
            return;
        }
        let page = Page { dir, entries: entries.0.into_boxed_slice() };
        let pages = &mut *self.0.lock();
        pages.bytes += page.size();
        pages.pages.push_back(page);
        while pages.bytes > BYTES_MAX
            && let Some(oldest) = pages.pages.pop_front()
        {
            pages.bytes -= oldest.size();
        }
    }

    /// The name of a directory that was shown with a cookie, if that was of late.
    pub fn name(&self, dir: Ino, cookie: u64) -> Option<Box<[u8]>> {
        let pages = &self.0.lock().pages;
        let mut of_dir = pages.iter().rev().filter(|page| page.dir == dir);
        of_dir.find_map(|page| page.name(cookie)).map(Box::from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(named: &[(u64, &[u8])]) -> Entries {
        let mut entries = Entries::default();
        named.iter().for_each(|(cookie, name)| entries.add(*cookie, name));
        entries
    }

    #[test]
    fn a_name_is_found_by_its_cookie_the_one_shown_last_first() {
        let shown = Shown::default();
        shown.note(7, entries(&[(3, b"a"), (4, &[b'x'; 255]), (5, b"")]));
        shown.note(8, entries(&[(3, b"other")]));
        shown.note(7, entries(&[(6, b"c")]));
        shown.note(7, entries(&[]));
        let name = |dir, cookie| shown.name(dir, cookie).map(Vec::from);
        assert_eq!((name(7, 3), name(8, 3)), (Some(b"a".to_vec()), Some(b"other".to_vec())));
        assert_eq!((name(7, 4), name(7, 5)), (Some(vec![b'x'; 255]), Some(Vec::new())));
        assert_eq!((name(7, 6), name(7, 7), name(9, 3)), (Some(b"c".to_vec()), None, None));
        shown.note(7, entries(&[(3, b"b")]));
        assert_eq!(name(7, 3), Some(b"b".to_vec()));
    }

    #[test]
    fn names_that_were_shown_long_ago_are_dropped() {
        let shown = Shown::default();
        let name = |n: u64| format!("{n:0200}").into_bytes();
        for n in 0..100_000 {
            shown.note(n, entries(&[(3, &name(n))]));
        }
        let pages = shown.0.lock();
        assert!(pages.bytes <= BYTES_MAX && pages.bytes > BYTES_MAX - 1000);
        assert_eq!(pages.bytes, pages.pages.iter().map(Page::size).sum::<usize>());
        drop(pages);
        assert_eq!(shown.name(99_999, 3).as_deref(), Some(&name(99_999)[..]));
        assert_eq!(shown.name(0, 3), None);
    }
}
