//! POSIX access control lists: how they and a file's mode follow each other.
//!
//! The kernel checks permissions by them; it hands a list over, and asks for it, as the extended
//! attributes [`ACCESS`] and [`DEFAULT`]. Here a list's bytes are read to keep to the rules: setting an
//! access list sets the mode, `chmod` changes the access list, and what is made in a directory with a
//! default list starts with it. A list that says no more than the mode does is not kept.
//!
//! ```text
//! version (4): 2, then for each entry: tag (2), permissions (2), user or group (4); little-endian,
//! in the order of the tags, entries of one tag by their user or group
//! ```

/// The attribute that holds the access list.
pub(super) const ACCESS: &[u8] = b"system.posix_acl_access";

/// The attribute that holds the default list, of directories.
pub(super) const DEFAULT: &[u8] = b"system.posix_acl_default";

const VERSION: u32 = 2;
const ENTRY_LEN: usize = 8;

/// The `rwx` of one entry.
const RWX: u32 = 0o7;

/// Whom an entry is for. The numbers are the kernel's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u16)]
enum Tag {
    Owner = 0x01,
    User = 0x02,
    Group = 0x04,
    NamedGroup = 0x08,
    Mask = 0x10,
    Other = 0x20,
}

impl Tag {
    fn from_u16(n: u16) -> Option<Tag> {
        let tags = [Tag::Owner, Tag::User, Tag::Group, Tag::NamedGroup, Tag::Mask, Tag::Other];
        tags.into_iter().find(|tag| *tag as u16 == n)
    }

    /// Does an entry of this tag name a user or group?
    fn is_named(self) -> bool {
        matches!(self, Tag::User | Tag::NamedGroup)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Entry {
    tag: Tag,
    perm: u32,
    id: u32,
}

/// A list that makes sense: owner, group and other once each, and a mask if somebody is named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Acl(Vec<Entry>);

impl Acl {
    /// Reads a list. `Some(None)` is one without entries, which stands for none; `None` makes no sense.
    pub fn decode(bytes: &[u8]) -> Option<Option<Acl>> {
        let (version, rest) = bytes.split_first_chunk::<4>()?;
        if u32::from_le_bytes(*version) != VERSION || rest.len() % ENTRY_LEN != 0 {
            return None;
        }
        let entries: Option<Vec<Entry>> = rest.chunks_exact(ENTRY_LEN).map(decode_entry).collect();
        let acl = Acl(entries?);
        match acl.0.is_empty() {
            true => Some(None),
            false if acl.makes_sense() => Some(Some(acl)),
            false => None,
        }
    }

    /// The list's bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = VERSION.to_le_bytes().to_vec();
        for entry in &self.0 {
            out.extend_from_slice(&(entry.tag as u16).to_le_bytes());
            out.extend_from_slice(&(entry.perm as u16).to_le_bytes());
            out.extend_from_slice(&entry.id.to_le_bytes());
        }
        out
    }

    fn makes_sense(&self) -> bool {
        let count = |tag| self.0.iter().filter(|entry| entry.tag == tag).count();
        let once = [Tag::Owner, Tag::Group, Tag::Other].into_iter().all(|tag| count(tag) == 1);
        let named = self.0.iter().any(|entry| entry.tag.is_named());
        let in_order = self.0.is_sorted_by(|a, b| (a.tag, a.id) < (b.tag, b.id) || a.tag < b.tag);
        once && in_order && count(Tag::Mask) <= 1 && (!named || count(Tag::Mask) == 1)
    }

    fn perm(&mut self, tag: Tag) -> Option<&mut u32> {
        self.0.iter_mut().find(|entry| entry.tag == tag).map(|entry| &mut entry.perm)
    }

    /// The entry that the mode's group bits stand for: the mask if there is one.
    fn group_class(&self) -> Tag {
        let has_mask = self.0.iter().any(|entry| entry.tag == Tag::Mask);
        if has_mask { Tag::Mask } else { Tag::Group }
    }

    /// The entries that the mode shows, and how far left their bits stand in it.
    fn classes(&self) -> [(Tag, u32); 3] {
        [(Tag::Owner, 6), (self.group_class(), 3), (Tag::Other, 0)]
    }

    /// Does the list say no more than a mode?
    pub fn is_only_mode(&self) -> bool {
        self.0.iter().all(|entry| matches!(entry.tag, Tag::Owner | Tag::Group | Tag::Other))
    }

    /// A mode with the permissions that the list shows.
    pub fn show_in(&mut self, mode: u32) -> u32 {
        self.classes().into_iter().fold(mode, |mode, (tag, shift)| {
            let perm = self.perm(tag).map_or(0, |perm| *perm);
            mode & !(RWX << shift) | perm << shift
        })
    }

    /// Takes over the permissions of a changed mode.
    pub fn follow(&mut self, mode: u32) {
        for (tag, shift) in self.classes() {
            if let Some(perm) = self.perm(tag) {
                *perm = mode >> shift & RWX;
            }
        }
    }

    /// Makes a default list the access list of something made with `mode`: each grants what both do.
    /// Returns the mode.
    pub fn inherit(&mut self, mode: u32) -> u32 {
        for (tag, shift) in self.classes() {
            if let Some(perm) = self.perm(tag) {
                *perm &= mode >> shift & RWX;
            }
        }
        self.show_in(mode)
    }
}

fn decode_entry(bytes: &[u8]) -> Option<Entry> {
    let (tag, rest) = bytes.split_first_chunk::<2>()?;
    let (perm, id) = rest.split_first_chunk::<2>()?;
    let tag = Tag::from_u16(u16::from_le_bytes(*tag))?;
    let perm = u32::from(u16::from_le_bytes(*perm));
    let id = u32::from_le_bytes(*id.first_chunk()?);
    (perm <= RWX).then_some(Entry { tag, perm, id: if tag.is_named() { id } else { u32::MAX } })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn acl(entries: &[(Tag, u32, u32)]) -> Acl {
        Acl(entries.iter().map(|&(tag, perm, id)| Entry { tag, perm, id }).collect())
    }

    const ANY: u32 = u32::MAX;

    fn named() -> Acl {
        acl(&[
            (Tag::Owner, 7, ANY),
            (Tag::User, 6, 1000),
            (Tag::User, 4, 1001),
            (Tag::Group, 5, ANY),
            (Tag::Mask, 5, ANY),
            (Tag::Other, 1, ANY),
        ])
    }

    fn plain() -> Acl {
        acl(&[(Tag::Owner, 6, ANY), (Tag::Group, 4, ANY), (Tag::Other, 0, ANY)])
    }

    #[test]
    fn lists_read_back() {
        for list in [named(), plain()] {
            assert_eq!(Acl::decode(&list.encode()), Some(Some(list)));
        }
        assert_eq!(Acl::decode(&VERSION.to_le_bytes()), Some(None));
    }

    #[test]
    fn lists_that_make_no_sense_are_refused() {
        let without = |tag| Acl(named().0.into_iter().filter(|entry| entry.tag != tag).collect());
        for tag in [Tag::Owner, Tag::Group, Tag::Other, Tag::Mask] {
            assert_eq!(Acl::decode(&without(tag).encode()), None, "{tag:?}");
        }
        let twice = Acl([named().0, named().0].concat());
        assert_eq!(Acl::decode(&twice.encode()), None);
        let mut reversed = named();
        reversed.0.reverse();
        assert_eq!(Acl::decode(&reversed.encode()), None);
        let mut same_user = named();
        same_user.0[2].id = 1000;
        assert_eq!(Acl::decode(&same_user.encode()), None);
        assert_eq!(Acl::decode(&named().encode()[..11]), None);
        assert_eq!(Acl::decode(&1u32.to_le_bytes()), None);
        let mut bad_perm = named().encode();
        bad_perm[6] = 8;
        assert_eq!(Acl::decode(&bad_perm), None);
    }

    #[test]
    fn the_mode_shows_the_mask_in_the_place_of_the_group() {
        assert_eq!(named().show_in(0o4000), 0o4751);
        assert_eq!(plain().show_in(0o777), 0o640);
        assert!(plain().is_only_mode() && !named().is_only_mode());
    }

    #[test]
    fn chmod_changes_the_list() {
        let mut list = named();
        list.follow(0o2604);
        assert_eq!(list.show_in(0), 0o604);
        assert_eq!(list.perm(Tag::Group).copied(), Some(5));
        assert_eq!(list.perm(Tag::User).copied(), Some(6));
    }

    #[test]
    fn what_is_made_gets_what_both_grant() {
        let mut list = named();
        assert_eq!(list.inherit(0o1640), 0o1640);
        let mut list = named();
        assert_eq!(list.inherit(0o777), 0o751);
        let mut list = plain();
        assert_eq!(list.inherit(0o777), 0o640);
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            let _ = Acl::decode(&bytes);
            if let Some(start) = bytes.first_chunk_mut() {
                *start = VERSION.to_le_bytes();
            }
            if let Some(Some(list)) = Acl::decode(&bytes) {
                prop_assert_eq!(Acl::decode(&list.encode()), Some(Some(list)));
            }
        }
    }
}
