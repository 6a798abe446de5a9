//! The kernel's layouts, as they come and go over a ring (`linux/fuse.h`, protocol 7.42 and later).
//!
//! Of an entry the kernel and this process share two pieces of memory. The first is 288 bytes long:
//!
//! ```text
//! in_out: 128 bytes    request: length, opcode (u32), unique, nodeid (u64), uid, gid, pid (u32), two u16
//!                      answer:  length (u32), error (i32, negative or 0), unique (u64)
//! op_in:  128 bytes    the first argument, where it has a fixed length
//! ring:   flags, commit id (u64), bytes in the payload (u32), padding (u32), reserved (u64)
//! ```
//!
//! The second, the *payload*, has what else belongs to a request (names, data), then what belongs to the answer. Numbers
//! are in the machine's order. A request that breaks these rules is answered with `EINVAL`.

use crate::fs::attr::{Attr, FileKind, MODE_BITS, Timestamp};
use crate::fs::filesystem::{BLOCK_SIZE, StatFs};
use crate::fs::fuse::ring::opcode::READ;
use std::time::Duration;

/// The first piece's length.
pub const HEADERS_LEN: usize = 288;

/// Where the parts of the first piece begin.
const OP_IN: usize = 128;
const RING: usize = 256;
const COMMIT_ID: usize = RING + 8;
const PAYLOAD_LEN: usize = RING + 16;

/// Entries of a listing begin at multiples of this.
const DIRENT_ALIGNMENT: usize = 8;

/// Numbers and names that follow each other.
#[derive(Debug, Clone, Copy)]
pub struct Words<'a>(pub &'a [u8]);

impl<'a> Words<'a> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*taken)
    }

    pub fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_ne_bytes)
    }

    pub fn u64(&mut self) -> Option<u64> {
        self.take().map(u64::from_ne_bytes)
    }

    /// Bytes up to a zero, which is passed.
    pub fn name(&mut self) -> Option<&'a [u8]> {
        let len = self.0.iter().position(|byte| *byte == 0)?;
        let (name, rest) = self.0.split_at_checked(len)?;
        self.0 = rest.get(1..)?;
        Some(name)
    }
}

/// A request's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    pub opcode: u32,
    pub unique: u64,
    pub ino: u64,
    pub uid: u32,
    pub gid: u32,
    pub pid: u32,
}

/// A request.
#[derive(Debug)]
pub struct Request<'a> {
    pub header: Header,
    /// The first argument, where it has a fixed length, and bytes that mean nothing.
    pub argument: Words<'a>,
    /// What else there is.
    pub payload: Words<'a>,
}

impl<'a> Request<'a> {
    /// What the kernel has put into an entry's memory. `None` if that is no request.
    pub fn decode(headers: &'a [u8; HEADERS_LEN], payload: &'a [u8]) -> Option<Request<'a>> {
        let mut words = Words(headers);
        let (_len, opcode) = (words.u32()?, words.u32()?);
        let (unique, ino) = (words.u64()?, words.u64()?);
        let (uid, gid, pid) = (words.u32()?, words.u32()?, words.u32()?);
        let header = Header { opcode, unique, ino, uid, gid, pid };
        let len = Words(headers.get(PAYLOAD_LEN..)?).u32()?;
        let payload = Words(payload.get(..usize::try_from(len).ok()?)?);
        Some(Request { header, argument: Words(headers.get(OP_IN..RING)?), payload })
    }

    /// For how many bytes it is: that it brings, or that a READ asks for.
    pub fn len(&self) -> usize {
        let mut read = self.argument;
        let asked = if self.header.opcode == READ { (read.u64(), read.u64(), read.u32()).2 } else { None };
        asked.map_or(self.payload.0.len(), |len| len as usize)
    }
}

/// The number by which an entry is answered.
pub fn commit_id(headers: &[u8; HEADERS_LEN]) -> u64 {
    Words(&headers[COMMIT_ID..]).u64().unwrap_or_default()
}

/// Puts down an answer whose payload has this length: an error (a positive number), or 0.
pub fn put_answer(headers: &mut [u8; HEADERS_LEN], error: i32, payload_len: usize) {
    // An answer's header is that of the request, but for two numbers.
    let unique = Words(&headers[8..]).u64().unwrap_or_default();
    let payload_len = payload_len as u32;
    headers[..4].copy_from_slice(&(16 + payload_len).to_ne_bytes());
    headers[4..8].copy_from_slice(&(-error).to_ne_bytes());
    headers[8..16].copy_from_slice(&unique.to_ne_bytes());
    headers[PAYLOAD_LEN..PAYLOAD_LEN + 4].copy_from_slice(&payload_len.to_ne_bytes());
}

/// An answer's payload, as far as it is put down.
#[derive(Debug)]
pub struct Answer<'a> {
    room: &'a mut [u8],
    len: usize,
}

impl<'a> Answer<'a> {
    /// Nothing yet.
    pub fn new(room: &'a mut [u8]) -> Answer<'a> {
        Answer { room, len: 0 }
    }

    /// The bytes that are put down.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Puts bytes down; false if there is no room for all of them, or `most` would be passed.
    fn put_within(&mut self, most: usize, bytes: &[u8]) -> bool {
        let end = self.len + bytes.len();
        match self.room.get_mut(self.len..end.min(most)) {
            Some(room) if room.len() == bytes.len() => room.copy_from_slice(bytes),
            _ => return false,
        }
        self.len = end;
        true
    }

    /// Puts bytes down. The payload has room for the longest answer.
    pub fn put(&mut self, bytes: &[u8]) {
        let fits = self.put_within(usize::MAX, bytes);
        assert!(fits, "an answer is no longer than what was asked for");
    }

    pub fn u32(&mut self, number: u32) {
        self.put(&number.to_ne_bytes());
    }

    pub fn u64(&mut self, number: u64) {
        self.put(&number.to_ne_bytes());
    }

    /// `fuse_write_out`, `fuse_getxattr_out`.
    pub fn length(&mut self, len: u32) {
        self.u32(len);
        self.u32(0);
    }

    fn seconds(&mut self, time: Timestamp) {
        self.put(&time.secs.to_ne_bytes());
    }

    /// `fuse_attr`.
    fn fields(&mut self, attr: &Attr) {
        [attr.ino, attr.size, attr.blocks].into_iter().for_each(|number| self.u64(number));
        let times = [attr.atime, attr.mtime, attr.ctime];
        times.into_iter().for_each(|time| self.seconds(time));
        times.into_iter().for_each(|time| self.u32(time.nanos));
        let mode = kind_bits(attr.kind) | attr.mode & MODE_BITS;
        [mode, attr.nlink, attr.uid, attr.gid, attr.rdev, BLOCK_SIZE, 0]
            .into_iter()
            .for_each(|number| self.u32(number));
    }

    /// `fuse_attr_out`; how long the kernel may keep it is told in whole seconds.
    pub fn attr(&mut self, attr: &Attr, ttl: &Duration) {
        self.u64(ttl.as_secs());
        self.u64(0);
        self.fields(attr);
    }

    /// `fuse_entry_out`. An inode number of 0: there is no such name.
    pub fn entry(&mut self, attr: &Attr, ttl: &Duration) {
        let valid = ttl.as_secs();
        // The generation is always 0, the nanoseconds of both times too.
        [attr.ino, 0, valid, valid, 0].into_iter().for_each(|number| self.u64(number));
        self.fields(attr);
    }

    /// `fuse_dirent`, of a listing of at most `most` bytes. False if it has no room left.
    pub fn dirent(&mut self, most: usize, name: &[u8], (ino, kind): (u64, FileKind), cookie: u64) -> bool {
        let mut head = [0; 24];
        head[..8].copy_from_slice(&ino.to_ne_bytes());
        head[8..16].copy_from_slice(&cookie.to_ne_bytes());
        head[16..20].copy_from_slice(&(name.len() as u32).to_ne_bytes());
        head[20..].copy_from_slice(&(kind_bits(kind) >> 12).to_ne_bytes());
        let start = self.len;
        let padding = [0; DIRENT_ALIGNMENT];
        let padding = &padding
            [..(head.len() + name.len()).next_multiple_of(DIRENT_ALIGNMENT) - head.len() - name.len()];
        let put = [&head, name, padding].into_iter().all(|bytes| self.put_within(most, bytes));
        if !put {
            self.len = start;
        }
        put
    }

    /// `fuse_direntplus`, as [`Answer::dirent`].
    pub fn direntplus(
        &mut self,
        most: usize,
        name: &[u8],
        (attr, ttl): (&Attr, &Duration),
        (ino, cookie): (u64, u64),
    ) -> bool {
        let start = self.len;
        const ENTRY_LEN: usize = 128;
        if most.min(self.room.len()) < start + ENTRY_LEN {
            return false;
        }
        self.entry(attr, ttl);
        let put = self.dirent(most, name, (ino, attr.kind), cookie);
        if !put {
            self.len = start;
        }
        put
    }

    /// `fuse_statfs_out`.
    pub fn statfs(&mut self, s: &StatFs) {
        [s.blocks, s.free, s.available, s.files, s.files_free]
            .into_iter()
            .for_each(|number| self.u64(number));
        [s.block_size, s.name_max, s.block_size, 0].into_iter().for_each(|number| self.u32(number));
        self.put(&[0; 24]);
    }
}

/// A kind, as in a mode.
fn kind_bits(kind: FileKind) -> u32 {
    match kind {
        FileKind::File => libc::S_IFREG,
        FileKind::Directory => libc::S_IFDIR,
        FileKind::Symlink => libc::S_IFLNK,
        FileKind::Fifo => libc::S_IFIFO,
        FileKind::Socket => libc::S_IFSOCK,
        FileKind::CharDevice => libc::S_IFCHR,
        FileKind::BlockDevice => libc::S_IFBLK,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fs::fuse::TTL;

    fn attr(ino: u64) -> Attr {
        let at = |secs| Timestamp { secs, nanos: 5 };
        let (kind, mode, nlink, size, blocks) = (FileKind::Symlink, 0o7777, 3, 4097, 16);
        Attr {
            ino,
            kind,
            mode,
            uid: 1,
            gid: 2,
            nlink,
            size,
            blocks,
            rdev: 6,
            atime: at(-1),
            mtime: at(7),
            ctime: at(8),
        }
    }

    fn put(put: impl FnOnce(&mut Answer<'_>)) -> Vec<u8> {
        let mut room = [0xaa; 4096];
        let mut answer = Answer::new(&mut room);
        put(&mut answer);
        let len = answer.len();
        room[..len].to_vec()
    }

    #[test]
    fn a_request_is_read_where_the_kernel_puts_it() {
        let mut headers = [0; HEADERS_LEN];
        headers[4..8].copy_from_slice(&READ.to_ne_bytes());
        headers[8..16].copy_from_slice(&77u64.to_ne_bytes());
        headers[16..24].copy_from_slice(&5u64.to_ne_bytes());
        for (at, number) in [(24, 1000u32), (28, 1001), (32, 1002), (OP_IN + 16, 4096), (PAYLOAD_LEN, 7)] {
            headers[at..at + 4].copy_from_slice(&number.to_ne_bytes());
        }
        headers[COMMIT_ID..COMMIT_ID + 8].copy_from_slice(&99u64.to_ne_bytes());
        let request = Request::decode(&headers, b"ab\0cd\0x-").unwrap();
        let header = Header { opcode: READ, unique: 77, ino: 5, uid: 1000, gid: 1001, pid: 1002 };
        assert_eq!((request.header, request.len()), (header, 4096));
        let mut payload = request.payload;
        assert_eq!((payload.name(), payload.name()), (Some(&b"ab"[..]), Some(&b"cd"[..])));
        assert_eq!((payload.0, payload.name()), (&b"x"[..], None));
        assert_eq!(commit_id(&headers), 99);
        // A payload that is longer than its room is none.
        assert!(Request::decode(&headers, b"short").is_none());
        put_answer(&mut headers, libc::ENOENT, 0);
        assert_eq!(
            headers[..16],
            [&16u32.to_ne_bytes()[..], &(-2i32).to_ne_bytes(), &77u64.to_ne_bytes()].concat()
        );
        assert_eq!(commit_id(&headers), 99);
    }

    #[test]
    fn answers_are_as_long_as_the_kernel_insists() {
        let statfs = StatFs {
            block_size: 4096,
            blocks: 1,
            free: 2,
            available: 3,
            files: 4,
            files_free: 5,
            name_max: 255,
        };
        assert_eq!(put(|answer| answer.attr(&attr(9), &TTL)).len(), 104);
        assert_eq!(put(|answer| answer.entry(&attr(9), &TTL)).len(), 128);
        assert_eq!(put(|answer| answer.statfs(&statfs)).len(), 80);
        assert_eq!(put(|answer| answer.length(1)).len(), 8);
    }

    #[test]
    fn attributes_stand_where_the_kernel_reads_them() {
        let bytes = put(|answer| answer.attr(&attr(9), &TTL));
        let mut words = Words(&bytes);
        let long: Vec<u64> = (0..8).map(|_| words.u64().unwrap()).collect();
        assert_eq!(long, [u64::from(u32::MAX), 0, 9, 4097, 16, u64::MAX, 7, 8]);
        let short: Vec<u32> = (0..10).map(|_| words.u32().unwrap()).collect();
        assert_eq!(short, [5, 5, 5, libc::S_IFLNK | 0o7777, 3, 1, 2, 6, BLOCK_SIZE, 0]);
        assert!(words.0.is_empty());
    }

    #[test]
    fn a_listing_has_whole_entries_only() {
        let mut room = [0; 1024];
        let mut answer = Answer::new(&mut room);
        // 24 bytes and the name, up to a multiple of 8.
        assert!(answer.dirent(1024, b"12345678", (3, FileKind::File), 7) && answer.len() == 32);
        assert!(answer.dirent(1024, b"123456789", (3, FileKind::File), 8) && answer.len() == 72);
        assert!(!answer.dirent(103, b"1", (3, FileKind::File), 9) && answer.len() == 72);
        assert!(answer.dirent(104, b"1", (3, FileKind::File), 9) && answer.len() == 104);
        assert!(!answer.direntplus(255, b"", (&attr(4), &TTL), (4, 10)) && answer.len() == 104);
        assert!(answer.direntplus(256, b"", (&attr(4), &TTL), (4, 10)) && answer.len() == 256);
        // What is wanted may be more than there is room for.
        while answer.direntplus(usize::MAX, b"name", (&attr(4), &TTL), (4, 10)) {}
        assert_eq!(answer.len(), 256 + 4 * 160);
        assert_eq!(room[24..32], *b"12345678");
        assert_eq!(room[64..72], [b'9', 0, 0, 0, 0, 0, 0, 0]);
    }
}
