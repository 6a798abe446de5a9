//! Writing an archive: pax, which all tar programs of today read.

use super::header::Header;
use super::pax::{ACL_ACCESS, ACL_DEFAULT, Pax, XATTR, XATTR_ACCESS, XATTR_DEFAULT, encode_name, time_text};
use super::sparse;
use super::{BLOCK, Member, MemberKind, acl_text};
use std::io::{self, Write};

/// An archive is filled up to a multiple of this.
const RECORD: u64 = 20 * BLOCK as u64;

/// The largest values that a header's fields hold.
const ID_MAX: u32 = 0o7_777_777;
const LEN_MAX: u64 = 0o77_777_777_777;
/// The longest names that a header holds.
const NAME_MAX: usize = 100;

/// Writes members one after the other.
pub struct Writer<W> {
    out: W,
    offset: u64,
    /// What is still to come of the contents of the last member, and of zeros behind them.
    left: u64,
    padding: usize,
}

impl<W: Write> Writer<W> {
    /// Onto `out`, which should be buffered.
    pub fn new(out: W) -> Writer<W> {
        Writer { out, offset: 0, left: 0, padding: 0 }
    }

    /// Bytes written so far.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.out.write_all(bytes)?;
        self.offset += bytes.len() as u64;
        Ok(())
    }

    fn fill_block(&mut self) -> io::Result<()> {
        let padding = self.offset.next_multiple_of(BLOCK as u64) - self.offset;
        self.put(&[0; BLOCK][..padding as usize])
    }

    /// Starts a member. Of a regular file the data follows ([`Writer::data`]): its extents, one after the other, or
    /// all of it.
    pub fn member(&mut self, member: &Member) -> io::Result<()> {
        self.end_member()?;
        let mut pax = Pax::default();
        let sparse = member.extents.as_ref().map(|extents| with_end(extents, member.size));
        let map = sparse.as_deref().map(sparse::write_map).unwrap_or_default();
        let map_len = map.len().next_multiple_of(BLOCK);
        let stored = match &sparse {
            Some(extents) => extents.iter().map(|(_, len)| len).sum(),
            None => member.size,
        };
        let len = stored + map_len as u64;
        let mut path = member.path.clone();
        if sparse.is_some() {
            pax.put(sparse::MAJOR, b"1");
            pax.put(sparse::MINOR, b"0");
            pax.put(sparse::NAME, &path);
            pax.put(sparse::REAL_SIZE, member.size.to_string().as_bytes());
            // What programs that know nothing of sparse files make of it.
            path = [b"GNUSparseFile.0/", &path[..]].concat();
        }
        let (kind, link, device) = type_of(&member.kind);
        let header = Header {
            path,
            link: link.to_vec(),
            kind,
            mode: member.mode,
            uid: member.uid.into(),
            gid: member.gid.into(),
            len,
            mtime: member.mtime.secs,
            device,
        };
        say_more(&mut pax, member, &header);
        self.extended(&pax)?;
        self.put(&header.encode())?;
        self.put(&map)?;
        self.fill_block()?;
        self.left = stored;
        Ok(())
    }

    /// Writes a pax header, if there is something in it.
    fn extended(&mut self, pax: &Pax) -> io::Result<()> {
        if pax.records.is_empty() {
            return Ok(());
        }
        let records = pax.encode();
        let header = Header {
            path: b"./PaxHeaders/member".to_vec(),
            link: Vec::new(),
            kind: b'x',
            mode: 0o644,
            uid: 0,
            gid: 0,
            len: records.len() as u64,
            mtime: 0,
            device: (0, 0),
        };
        self.put(&header.encode())?;
        self.put(&records)?;
        self.fill_block()
    }

    /// Data of the last member.
    pub fn data(&mut self, bytes: &[u8]) -> io::Result<()> {
        if bytes.len() as u64 > self.left {
            return Err(io::Error::other("a file has more data than its member says"));
        }
        self.left -= bytes.len() as u64;
        self.put(bytes)
    }

    /// What is still to come of the data of the last member.
    pub fn left(&self) -> u64 {
        self.left
    }

    fn end_member(&mut self) -> io::Result<()> {
        if self.left > 0 {
            return Err(io::Error::other("a file has less data than its member says"));
        }
        self.padding = 0;
        self.fill_block()
    }

    /// Ends the archive.
    pub fn finish(mut self) -> io::Result<W> {
        self.end_member()?;
        self.put(&[0; 2 * BLOCK])?;
        while !self.offset.is_multiple_of(RECORD) {
            self.put(&[0; BLOCK])?;
        }
        self.out.flush()?;
        Ok(self.out)
    }
}

/// A file that ends in a hole has an entry of no length there: GNU tar wants one.
fn with_end(extents: &[(u64, u64)], size: u64) -> Vec<(u64, u64)> {
    let mut extents = extents.to_vec();
    if extents.last().is_none_or(|(offset, len)| offset + len < size) {
        extents.push((size, 0));
    }
    extents
}

fn type_of(kind: &MemberKind) -> (u8, &[u8], (u32, u32)) {
    match kind {
        MemberKind::File => (b'0', b"", (0, 0)),
        MemberKind::HardLink(to) => (b'1', to, (0, 0)),
        MemberKind::Symlink(to) => (b'2', to, (0, 0)),
        MemberKind::CharDevice(major, minor) => (b'3', b"", (*major, *minor)),
        MemberKind::BlockDevice(major, minor) => (b'4', b"", (*major, *minor)),
        MemberKind::Directory => (b'5', b"", (0, 0)),
        MemberKind::Fifo => (b'6', b"", (0, 0)),
    }
}

/// Puts into the pax header what the header does not hold.
fn say_more(pax: &mut Pax, member: &Member, header: &Header) {
    let is_sparse = member.extents.is_some();
    if !is_sparse && (member.path.len() > NAME_MAX || !member.path.is_ascii()) {
        pax.put(b"path", &member.path);
    }
    if header.link.len() > NAME_MAX || !header.link.is_ascii() {
        pax.put(b"linkpath", &header.link);
    }
    if member.uid > ID_MAX {
        pax.put(b"uid", member.uid.to_string().as_bytes());
    }
    if member.gid > ID_MAX {
        pax.put(b"gid", member.gid.to_string().as_bytes());
    }
    if header.len > LEN_MAX {
        pax.put(b"size", header.len.to_string().as_bytes());
    }
    let fits = member.mtime.nanos == 0 && u64::try_from(member.mtime.secs).is_ok_and(|secs| secs <= LEN_MAX);
    if !fits {
        pax.put(b"mtime", time_text(member.mtime).as_bytes());
    }
    if let Some(atime) = member.atime {
        pax.put(b"atime", time_text(atime).as_bytes());
    }
    for (name, value) in &member.xattrs {
        match (name.as_slice(), acl_text::render(value)) {
            (XATTR_ACCESS, Some(text)) => pax.put(ACL_ACCESS, text.as_bytes()),
            (XATTR_DEFAULT, Some(text)) => pax.put(ACL_DEFAULT, text.as_bytes()),
            (name, _) => pax.put(&[XATTR, &encode_name(name)].concat(), value),
        }
    }
}
