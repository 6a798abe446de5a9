//! Keys: what stands where in a volume.
//!
//! ```text
//! e directory (8) name    an entry: see entry.rs. The root's own entry is `e` 0 and no name
//! b inode (8)             inode numbers from this one up to another are an import's that is under way
//! d inode (8) chunk (4)   a chunk of a file's contents: the head is empty, the tail is the bytes
//! d inode (8) chunk (4) 0    which of the chunk's pages are stored, if not all are
//! i inode (8)             a file that has, or had, several names: its entries only point here
//! i inode (8) dir (8) name   one of its names; the value is empty
//! p directory (8)         a directory's parent and name: an id becomes a path again
//! o inode (8)             an unlinked file of which chunks or attributes are still there
//! x inode (8) name        an extended attribute: the tail is the value
//! s name                  the volume's own counters
//! ```
//!
//! Integers are big-endian, so that byte order is numeric order. Inode numbers stay below 2^40, hence
//! "the next inode's keys" is a bound that always exists.

use crate::fs::attr::{Ino, NAME_MAX};
use crate::lsm::table::PrefixRule;

/// The counter that hands out inode numbers.
pub(super) const INODE_COUNTER: &[u8] = b"sino";

/// The first byte of a key.
const ENTRY: u8 = b'e';
const CHUNK: u8 = b'd';
const INODE: u8 = b'i';
const PARENT: u8 = b'p';
const ORPHAN: u8 = b'o';
const IMPORT: u8 = b'b';
const XATTR: u8 = b'x';

/// The first bytes of the keys that an inode has, in their order.
pub(super) const OF_INODES: [u8; 6] = [CHUNK, ENTRY, INODE, ORPHAN, PARENT, XATTR];

/// The length of a first byte and an inode number.
pub(super) const PREFIX_LEN: usize = 9;

/// A key of a first byte and an inode number.
pub(super) type Prefix = [u8; PREFIX_LEN];

/// A chunk's key.
pub(super) type ChunkKey = [u8; PREFIX_LEN + 4];

/// A page map's key.
pub(super) type PageMapKey = [u8; PREFIX_LEN + 5];

/// The key of a first byte and an inode number.
pub(super) fn prefix(first: u8, ino: Ino) -> Prefix {
    let mut key = [first; PREFIX_LEN];
    key[1..].copy_from_slice(&ino.to_be_bytes());
    key
}

/// What is scanned together: a directory's entries, a file's chunks, its attributes. Filters answer for
/// each whole, so that a scan of what has none reads no data.
pub(super) const GROUPS: PrefixRule = PrefixRule { id: 1, extract: group };

fn group(key: &[u8]) -> Option<&[u8]> {
    let grouped = matches!(key.first(), Some(&(ENTRY | CHUNK | XATTR)));
    key.get(..PREFIX_LEN).filter(|_| grouped)
}

/// The key of a directory's entry.
pub(super) fn entry(dir: Ino, name: &[u8]) -> Vec<u8> {
    debug_assert!(name.len() <= NAME_MAX);
    let mut key = Vec::with_capacity(PREFIX_LEN + name.len());
    key.extend_from_slice(&prefix(ENTRY, dir));
    key.extend_from_slice(name);
    key
}

/// The bounds of a directory's entries: the first is included, the second is not.
pub(super) fn entries(dir: Ino) -> (Prefix, Prefix) {
    (prefix(ENTRY, dir), prefix(ENTRY, dir + 1))
}

/// The name in an entry's key.
pub(super) fn entry_name(key: &[u8]) -> Option<&[u8]> {
    key.get(PREFIX_LEN..).filter(|_| key.first() == Some(&ENTRY))
}

/// The key of a chunk.
pub(super) fn chunk(ino: Ino, chunk: u32) -> ChunkKey {
    let mut key = [0; PREFIX_LEN + 4];
    key[..PREFIX_LEN].copy_from_slice(&prefix(CHUNK, ino));
    key[PREFIX_LEN..].copy_from_slice(&chunk.to_be_bytes());
    key
}

/// The key of a chunk's page map: it stands behind the chunk's.
pub(super) fn page_map(ino: Ino, chunk: u32) -> PageMapKey {
    let mut key = [0; PREFIX_LEN + 5];
    key[..PREFIX_LEN + 4].copy_from_slice(&self::chunk(ino, chunk));
    key
}

/// The chunk's number in a page map's key.
pub(super) fn page_map_number(key: &[u8]) -> Option<u32> {
    key.split_last().filter(|(zero, _)| **zero == 0).and_then(|(_, chunk)| chunk_number(chunk))
}

/// The bounds of a file's chunks and page maps: the first is included, the second is not.
pub(super) fn chunks(ino: Ino) -> (Prefix, Prefix) {
    (prefix(CHUNK, ino), prefix(CHUNK, ino + 1))
}

/// The chunk's number in a chunk's key.
pub(super) fn chunk_number(key: &[u8]) -> Option<u32> {
    let (_, number) = key.split_last_chunk::<4>().filter(|(p, _)| p.len() == PREFIX_LEN)?;
    Some(u32::from_be_bytes(*number))
}

/// The key of an extended attribute.
pub(super) fn xattr(ino: Ino, name: &[u8]) -> Vec<u8> {
    [&prefix(XATTR, ino)[..], name].concat()
}

/// The bounds of a file's extended attributes: the first is included, the second is not.
pub(super) fn xattrs(ino: Ino) -> (Prefix, Prefix) {
    (prefix(XATTR, ino), prefix(XATTR, ino + 1))
}

/// The name in an extended attribute's key.
pub(super) fn xattr_name(key: &[u8]) -> &[u8] {
    key.get(PREFIX_LEN..).unwrap_or_default()
}

/// The key of a file with several names.
pub(super) fn inode(ino: Ino) -> Prefix {
    prefix(INODE, ino)
}

/// The key of one of the names of a file with several.
pub(super) fn inode_name(ino: Ino, dir: Ino, name: &[u8]) -> Vec<u8> {
    let mut key = Vec::with_capacity(PREFIX_LEN + 8 + name.len());
    key.extend_from_slice(&inode(ino));
    key.extend_from_slice(&dir.to_be_bytes());
    key.extend_from_slice(name);
    key
}

/// The key of a directory's parent record.
pub(super) fn parent(dir: Ino) -> Prefix {
    prefix(PARENT, dir)
}

/// The key of an unlinked file that still has chunks or attributes.
pub(super) fn orphan(ino: Ino) -> Prefix {
    prefix(ORPHAN, ino)
}

/// The bounds of the unlinked files: the first is included, the second is not.
pub(super) fn orphans() -> ([u8; 1], [u8; 1]) {
    ([ORPHAN], [ORPHAN + 1])
}

/// The inode number in an unlinked file's key.
pub(super) fn orphan_ino(key: &[u8]) -> Option<Ino> {
    let key: &Prefix = key.try_into().ok()?;
    let (_, ino) = key.split_last_chunk::<8>()?;
    Some(Ino::from_be_bytes(*ino))
}

/// The key of a block of inode numbers that are an import's.
pub(super) fn import(ino: Ino) -> Prefix {
    prefix(IMPORT, ino)
}

/// The bounds of the blocks of imports: the first is included, the second is not.
pub(super) fn imports() -> ([u8; 1], [u8; 1]) {
    ([IMPORT], [IMPORT + 1])
}

/// The first inode number in the key of an import's block.
pub(super) fn import_ino(key: &[u8]) -> Option<Ino> {
    let rest = key.strip_prefix(&[IMPORT])?;
    Some(Ino::from_be_bytes(rest.try_into().ok()?))
}

/// The inode number in any key but a counter's or an import's.
pub(super) fn ino_of(key: &[u8]) -> Option<Ino> {
    let (first, rest) = key.split_first()?;
    let known = matches!(*first, ENTRY | CHUNK | INODE | PARENT | ORPHAN | XATTR);
    rest.first_chunk().filter(|_| known).map(|ino| Ino::from_be_bytes(*ino))
}

/// Directory and name in the key of one of the names of a file with several.
pub(super) fn split_inode_name(key: &[u8]) -> Option<(Ino, &[u8])> {
    let (dir, name) = key.get(PREFIX_LEN..)?.split_first_chunk::<8>()?;
    Some((Ino::from_be_bytes(*dir), name))
}

/// A key, or a bound of keys, for people: its kind and inode number, then a name or a chunk's number.
pub fn readable(key: &[u8]) -> String {
    let Some((prefix, rest)) = key.split_first_chunk::<PREFIX_LEN>() else {
        return key.escape_ascii().to_string();
    };
    let [first, ino @ ..] = prefix;
    let (kind, ino) = (first.escape_ascii(), Ino::from_be_bytes(*ino));
    let name = |name| format!("{:?}", String::from_utf8_lossy(name));
    if let Some(number) = page_map_number(key).filter(|_| *first == CHUNK) {
        return format!("{kind} {ino} {number} pages");
    }
    match (*first, chunk_number(key), rest.split_first_chunk()) {
        (CHUNK, Some(number), _) => format!("{kind} {ino} {number}"),
        (ENTRY | XATTR, ..) => format!("{kind} {ino} {}", name(rest)),
        (INODE, _, Some((dir, of))) => format!("{kind} {ino} {} {}", Ino::from_be_bytes(*dir), name(of)),
        (CHUNK | PARENT | ORPHAN | INODE | IMPORT, ..) if rest.is_empty() => format!("{kind} {ino}"),
        _ => key.escape_ascii().to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_one_range_in_name_order() {
        let (from, to) = entries(7);
        let keys =
            [entry(6, b"\xff"), from.to_vec(), entry(7, b"\0"), entry(7, b"a"), entry(7, b"ab"), to.to_vec()];
        assert!(keys.is_sorted());
        assert_eq!(entry_name(&keys[4]), Some(&b"ab"[..]));
        assert_eq!(entry_name(&chunk(7, 1)), None);
        assert_eq!(entry_name(b"e"), None);
    }

    #[test]
    fn a_files_chunks_are_one_range_in_numeric_order() {
        let keys =
            [chunk(7, 0).to_vec(), chunk(7, 255).to_vec(), chunk(7, 256).to_vec(), chunks(7).1.to_vec()];
        assert!(keys.is_sorted());
        let map = page_map(7, 255);
        assert!(chunk(7, 255)[..] < map[..] && map[..] < chunk(7, 256)[..]);
        assert_eq!((page_map_number(&map), chunk_number(&map)), (Some(255), None));
        assert_eq!(page_map_number(&chunk(7, 256)), None);
        assert_eq!(chunk_number(&keys[2]), Some(256));
        assert_eq!(chunk_number(&keys[3]), None);
    }

    #[test]
    fn unlinked_files_are_one_range() {
        let (from, to) = orphans();
        assert!(from.as_slice() < orphan(0).as_slice() && orphan(u64::MAX).as_slice() < to.as_slice());
        assert_eq!(orphan_ino(&orphan(12)), Some(12));
        assert_eq!(orphan_ino(b"o"), None);
    }

    #[test]
    fn keys_are_readable() {
        let keys = [
            &entry(1, "größe\n".as_bytes())[..],
            &chunk(7, 258),
            &page_map(7, 258),
            &parent(3),
            &orphan(9),
            &inode(4),
            &inode_name(4, 1, b"link"),
            &xattr(5, b"user.a"),
            &chunks(7).1,
            &import(70),
            INODE_COUNTER,
            b"\x01",
        ];
        let texts = [
            r#"e 1 "größe\n""#,
            "d 7 258",
            "d 7 258 pages",
            "p 3",
            "o 9",
            "i 4",
            r#"i 4 1 "link""#,
            r#"x 5 "user.a""#,
            "d 8",
            "b 70",
            "sino",
            r"\x01",
        ];
        assert_eq!(keys.map(readable), texts);
        assert_eq!(readable(&[&parent(3)[..], b"x"].concat()), r"p\x00\x00\x00\x00\x00\x00\x00\x03x");
    }
}
