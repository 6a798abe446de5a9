//! Reading an archive, front to back.

use super::header::{Block, Header, number, text};
use super::pax::Pax;
use super::sparse::{self, Extents};
use super::{ArchiveError, BLOCK, META_MAX, Member, MemberKind, Result, Timestamp};
use std::io::{self, Read};

/// What is read of contents at once.
const PIECE: usize = 256 << 10;

/// What is read after the end at most, so that who writes the archive is not cut off.
const TRAILER_MAX: u64 = 1 << 20;

/// The longest contents: what comes behind them can be counted, too.
const LEN_MAX: u64 = i64::MAX as u64;

/// Reads the members of an archive that is not compressed (any more).
pub struct Reader<R> {
    input: R,
    /// Bytes read so far.
    offset: u64,
    /// What follows for all members.
    global: Pax,
    /// The contents of the member at hand that are not read yet, and the zeros behind them.
    left: u64,
    padding: u64,
    /// Where they belong.
    extents: Extents,
    piece: Vec<u8>,
}

/// The names and attributes that stand before a member.
#[derive(Debug, Default)]
struct Before {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    pax: Option<Pax>,
    bytes: u64,
}

impl<R: Read> Reader<R> {
    /// Of an archive that `input` gives.
    pub fn new(input: R) -> Reader<R> {
        Reader {
            input,
            offset: 0,
            global: Pax::default(),
            left: 0,
            padding: 0,
            extents: Vec::new(),
            piece: vec![0; PIECE],
        }
    }

    /// The bytes read so far.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    fn bad(&self, what: impl Into<String>) -> ArchiveError {
        ArchiveError::Malformed { offset: self.offset, what: what.into() }
    }

    fn fill(&mut self, buf: &mut [u8]) -> Result<()> {
        match self.input.read_exact(buf) {
            Ok(()) => {
                self.offset += buf.len() as u64;
                Ok(())
            }
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => Err(self.bad("the archive is cut short")),
            Err(e) => Err(ArchiveError::Read(e)),
        }
    }

    fn block(&mut self) -> Result<Block> {
        let mut block = [0; BLOCK];
        self.fill(&mut block)?;
        Ok(block)
    }

    /// The next member, past what was not read of the last; `None` at the archive's end mark.
    ///
    /// # Errors
    /// Afterwards the reader is of no use.
    pub fn next_member(&mut self) -> Result<Option<Member>> {
        self.skip_contents()?;
        let mut before = Before::default();
        loop {
            let block = self.block()?;
            if block.iter().all(|byte| *byte == 0) {
                self.read_trailer();
                return Ok(None);
            }
            let header = Header::decode(&block).map_err(|what| match self.offset {
                512 => self.bad("it is no tar archive"),
                _ => self.bad(what),
            })?;
            let text_of = |bytes: Vec<u8>| text(&bytes).to_vec();
            match header.kind {
                b'L' => before.path = Some(text_of(self.meta(&header, &mut before.bytes)?)),
                b'K' => before.link = Some(text_of(self.meta(&header, &mut before.bytes)?)),
                b'x' | b'X' => before.pax = Some(self.pax(&header, &mut before.bytes)?),
                b'g' => {
                    let pax = self.pax(&header, &mut before.bytes)?;
                    self.global.records.extend(pax.records);
                    if self.global.held() > META_MAX as usize {
                        return Err(self.bad("its global headers are too long"));
                    }
                }
                // Labels, parts of several volumes, and what old programs added.
                b'V' | b'M' | b'N' | b'A' => self.skip(header.len.next_multiple_of(BLOCK as u64))?,
                _ => return self.member(&block, header, before).map(Some),
            }
        }
    }

    /// The contents of a member that tells of the next one.
    fn meta(&mut self, header: &Header, sum: &mut u64) -> Result<Vec<u8>> {
        *sum = sum.saturating_add(header.len);
        if *sum > META_MAX {
            return Err(
                self.bad(format!("the names and attributes of a member are longer than {META_MAX} bytes"))
            );
        }
        let len = header.len.next_multiple_of(BLOCK as u64);
        let mut bytes = Vec::new();
        let read = Read::by_ref(&mut self.input).take(len).read_to_end(&mut bytes);
        self.offset += read.map_err(ArchiveError::Read)? as u64;
        if (bytes.len() as u64) < len {
            return Err(self.bad("the archive is cut short"));
        }
        bytes.truncate(header.len as usize);
        Ok(bytes)
    }

    fn pax(&mut self, header: &Header, sum: &mut u64) -> Result<Pax> {
        let bytes = self.meta(header, sum)?;
        Pax::decode(&bytes).map_err(|what| self.bad(what))
    }

    fn member(&mut self, block: &Block, header: Header, before: Before) -> Result<Member> {
        let mut pax = self.global.clone();
        pax.records.extend(before.pax.unwrap_or_default().records);
        let path = pax.path().map(<[u8]>::to_vec).or(before.path).unwrap_or(header.path);
        let link = pax.get(b"linkpath").map(<[u8]>::to_vec).or(before.link).unwrap_or(header.link);
        let bad = |what: &str| ArchiveError::Malformed {
            offset: self.offset,
            what: format!("{}: {what}", String::from_utf8_lossy(&path).escape_debug()),
        };
        let stored = pax.number(b"size").map_err(bad)?.unwrap_or(header.len);
        if stored > LEN_MAX {
            return Err(bad("its length makes no sense"));
        }
        let kind = match header.kind {
            b'1' => MemberKind::HardLink(link),
            b'2' => MemberKind::Symlink(link),
            b'3' => MemberKind::CharDevice(header.device.0, header.device.1),
            b'4' => MemberKind::BlockDevice(header.device.0, header.device.1),
            b'5' | b'D' => MemberKind::Directory,
            b'6' => MemberKind::Fifo,
            // Old programs had no type for directories.
            0 | b'0' if path.ends_with(b"/") => MemberKind::Directory,
            _ => MemberKind::File,
        };
        let is_file = kind == MemberKind::File;
        let id = |id: i64| u32::try_from(id).or_else(|_| i32::try_from(id).map(|id| id as u32));
        let mut member = Member {
            mode: header.mode,
            uid: id(header.uid).map_err(|_| bad("its owner is out of range"))?,
            gid: id(header.gid).map_err(|_| bad("its group is out of range"))?,
            mtime: Timestamp { secs: header.mtime, nanos: 0 },
            atime: None,
            xattrs: Vec::new(),
            size: if is_file { stored } else { 0 },
            extents: None,
            kind,
            path: path.clone(),
        };
        pax.apply(&mut member).map_err(bad)?;
        // What the others have is no contents: links name the size of what they lead to.
        let holds = is_file || matches!(header.kind, b'D');
        self.left = if holds { stored } else { 0 };
        self.padding = self.left.next_multiple_of(BLOCK as u64) - self.left;
        self.extents = vec![(0, self.left)];
        if is_file {
            self.sparse(&mut member, block, header.kind, &pax).map_err(|error| match error {
                ArchiveError::Malformed { offset, what } => ArchiveError::Malformed {
                    offset,
                    what: format!("{}: {what}", String::from_utf8_lossy(&path).escape_debug()),
                },
                error => error,
            })?;
        }
        Ok(member)
    }

    /// Reads the map of a sparse file.
    fn sparse(&mut self, member: &mut Member, block: &Block, kind: u8, pax: &Pax) -> Result<()> {
        let (extents, size) = if kind == b'S' {
            self.gnu_map(block)?
        } else if let Some((in_pax, size)) = sparse::of_pax(pax).map_err(|what| self.bad(what))? {
            match sparse::is_before_data(pax).map_err(|what| self.bad(what))? {
                true => (self.map_before_data()?, size),
                false => (in_pax, size),
            }
        } else {
            return Ok(());
        };
        let extents: Extents = extents.into_iter().filter(|(_, len)| *len > 0).collect();
        sparse::check(&extents, size, self.left).map_err(|what| self.bad(what))?;
        member.size = size;
        member.extents = Some(extents.clone());
        self.extents = extents;
        Ok(())
    }

    fn gnu_map(&mut self, block: &Block) -> Result<(Extents, u64)> {
        let mut extents = Vec::new();
        let size = number(&block[483..495]).and_then(|size| u64::try_from(size).ok());
        let size = size.ok_or_else(|| self.bad("the length of a sparse file makes no sense"))?;
        sparse::gnu_entries(block, 386, 4, &mut extents).map_err(|what| self.bad(what))?;
        let mut goes_on = block[482] != 0;
        while goes_on {
            let block = self.block()?;
            sparse::gnu_entries(&block, 0, 21, &mut extents).map_err(|what| self.bad(what))?;
            if extents.len() > sparse::EXTENTS_MAX {
                return Err(self.bad("the map of a sparse file is too long"));
            }
            goes_on = block[504] != 0;
        }
        Ok((extents, size))
    }

    fn map_before_data(&mut self) -> Result<Extents> {
        let mut block = [0; BLOCK];
        let mut at = BLOCK;
        let mut blocks = 0;
        let offset = self.offset;
        let extents = sparse::read_map(|| {
            if at == BLOCK {
                block = self.block()?;
                (at, blocks) = (0, blocks + 1);
            }
            at += 1;
            Ok::<u8, MapError>(block[at - 1])
        });
        let extents = extents.map_err(|error| match error {
            MapError::Read(error) => error,
            MapError::Bad(what) => ArchiveError::Malformed { offset, what: what.to_string() },
        })?;
        let len = blocks * BLOCK as u64;
        self.left =
            self.left.checked_sub(len).ok_or_else(|| self.bad("the map of a sparse file is too long"))?;
        Ok(extents)
    }

    /// Hands the contents of the member at hand to `sink`, in pieces, each with its place in the file; what is
    /// not handed over are zeros.
    pub fn contents<E: From<ArchiveError>>(
        &mut self,
        mut sink: impl FnMut(u64, &[u8]) -> std::result::Result<(), E>,
    ) -> std::result::Result<(), E> {
        let mut piece = std::mem::take(&mut self.piece);
        let extents = std::mem::take(&mut self.extents);
        let copy = || -> std::result::Result<(), E> {
            for (offset, len) in extents {
                let (mut at, end) = (offset, offset + len);
                while at < end {
                    let take = (end - at).min(PIECE as u64) as usize;
                    self.fill(&mut piece[..take])?;
                    self.left -= take as u64;
                    sink(at, &piece[..take])?;
                    at += take as u64;
                }
            }
            Ok(())
        };
        let copied = copy();
        self.piece = piece;
        copied
    }

    fn skip_contents(&mut self) -> Result<()> {
        let left = std::mem::take(&mut self.left) + std::mem::take(&mut self.padding);
        self.skip(left)
    }

    fn skip(&mut self, bytes: u64) -> Result<()> {
        let skipped = io::copy(&mut Read::by_ref(&mut self.input).take(bytes), &mut io::sink());
        let skipped = skipped.map_err(ArchiveError::Read)?;
        self.offset += skipped;
        if skipped == bytes { Ok(()) } else { Err(self.bad("the archive is cut short")) }
    }

    /// Archives are filled up with zeros.
    fn read_trailer(&mut self) {
        let mut rest = Read::by_ref(&mut self.input).take(TRAILER_MAX);
        // What follows the end mark is of no consequence.
        self.offset += io::copy(&mut rest, &mut io::sink()).unwrap_or(0);
    }
}

/// Why a map could not be read.
enum MapError {
    Read(ArchiveError),
    Bad(&'static str),
}

impl From<&'static str> for MapError {
    fn from(what: &'static str) -> MapError {
        MapError::Bad(what)
    }
}

impl From<ArchiveError> for MapError {
    fn from(error: ArchiveError) -> MapError {
        MapError::Read(error)
    }
}
