//! How much the kernel keeps of a listing, which must not end where a page does.
//!
//! The kernel keeps the entries that it was told of in pages, each entry whole in one. Somebody who has read a part of
//! the directory before it changed may look for his place in a listing that another one has brought since, and not find
//! it there. Mostly the kernel then asks for what follows his place. But where the kept listing fills its last page to
//! the end, it takes the end of that page for that of the directory, and he is shown nothing more
//! (`fuse_readdir_cached` in Linux 6.18). So such a listing is not left with the kernel.

use rustix::param::page_size;

/// What stands before an entry's name, and of what an entry is a multiple.
const HEAD_LEN: usize = 24;
const ALIGNMENT: usize = 8;

/// Bytes that the kernel keeps of a listing from its start on; `None` if its start was not seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Kept(Option<usize>);

impl Kept {
    /// Of a listing that starts.
    pub fn nothing() -> Kept {
        Kept(Some(0))
    }

    /// Of one that goes on.
    pub fn unknown() -> Kept {
        Kept(None)
    }

    /// The kernel is told of an entry.
    pub fn add(&mut self, name: &[u8]) {
        let len = (HEAD_LEN + name.len()).next_multiple_of(ALIGNMENT);
        if let Some(kept) = &mut self.0 {
            let left = page_size() - *kept % page_size();
            *kept += if len > left { left + len } else { len };
        }
    }

    /// May it end where a page does?
    pub fn may_fill_its_pages(self) -> bool {
        self.0.is_none_or(|kept| kept.is_multiple_of(page_size()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(names: &[(usize, usize)]) -> Kept {
        let mut kept = Kept::nothing();
        for (times, len) in names {
            (0..*times).for_each(|_| kept.add(&vec![b'x'; *len]));
        }
        kept
    }

    #[test]
    fn entries_are_padded_and_stand_each_in_one_page() {
        let in_page = page_size() / 32;
        assert!(after(&[(in_page, 8)]).may_fill_its_pages());
        assert!(after(&[(2 * in_page, 1)]).may_fill_its_pages());
        assert!(!after(&[(in_page - 1, 8)]).may_fill_its_pages());
        assert!(!after(&[(in_page, 8), (1, 1)]).may_fill_its_pages());
        // An entry of 40 bytes where 32 are left begins the next page.
        let kept = after(&[(in_page - 1, 8), (1, 9)]);
        assert_eq!(kept, Kept(Some(page_size() + 40)));
        assert!(Kept::unknown().may_fill_its_pages());
    }
}
