//! Reading a volume, and the read path of one key: memtables newest to oldest, then L0 newest to oldest, then one table a level.
//!
//! A table is skipped by its key range before any I/O, then by its filter. Versions are folded newest
//! to oldest and the walk ends at the first put or tombstone, or at what a range tombstone deletes.

use crate::lsm::iter::InternalIterator;
use crate::lsm::iter::scan::Scan;
use crate::lsm::iter::scan_back::ScanBack;
use crate::lsm::key::{Kind, KindOrBound};
use crate::lsm::metrics::Get;
use crate::lsm::store::Shared;
use crate::lsm::table::TableMeta;
use crate::lsm::table::reader::CacheUse;
use crate::lsm::value::{Fold, Part, put_tail};
use crate::lsm::volume::{Tree, Volume};
use crate::lsm::{Result, SeqNo, Value};
use bytes::Bytes;
use std::ops::{Bound, ControlFlow};

/// Is shown the versions of a key, and says when it has seen enough.
type Visit<'a> = dyn FnMut(SeqNo, Kind, Value) -> Result<ControlFlow<()>> + 'a;

impl Volume {
    /// The value of a key.
    pub fn get(&self, key: &[u8]) -> Result<Option<Value>> {
        self.note_read(key);
        let (tree, seq) = self.open_read_point()?;
        tree.get(self.shared(), key, seq, CacheUse::Fill)
    }

    /// The value of a key, and how many patches it is folded from ([`Volume::patch_depth`]).
    pub fn get_patched(&self, key: &[u8]) -> Result<Option<(Value, usize)>> {
        self.note_read(key);
        let (tree, seq) = self.open_read_point()?;
        tree.get_patched(self.shared(), key, seq, CacheUse::Fill)
    }

    /// The head of a key's value, and how many patches the value is folded from. Reads no tails.
    pub fn get_head_patched(&self, key: &[u8]) -> Result<Option<(Bytes, usize)>> {
        self.note_read(key);
        let (tree, seq) = self.open_read_point()?;
        tree.get_head_patched(self.shared(), key, seq)
    }

    /// Puts the tail of a key's value at the start of `out`, for a reader that will hardly ask for the key again
    /// soon: a value from a blob file is not put into the cache, where it would displace what others ask for, and
    /// a compressed one is decompressed where it is wanted. Returns the tail's length, 0 if there is none; a tail
    /// that is longer than `out` is not put there. What lies behind it in `out` stays, unless the read fails.
    pub fn read_tail_once(&self, key: &[u8], out: &mut [u8]) -> Result<usize> {
        self.note_read(key);
        let (tree, seq) = self.open_read_point()?;
        tree.read_tail_once(self.shared(), key, seq, out)
    }

    /// The head of a key's value; its tail is not read.
    pub fn get_head(&self, key: &[u8]) -> Result<Option<Bytes>> {
        self.note_read(key);
        let (tree, seq) = self.open_read_point()?;
        tree.get_head(self.shared(), key, seq)
    }

    /// As [`Volume::get_head`], for who checks what it has: it is not counted as a read.
    pub fn peek_head(&self, key: &[u8]) -> Result<Option<Bytes>> {
        self.note_read(key);
        let (tree, seq) = self.open_read_point()?;
        let shared = self.shared();
        tree.head(shared, &Get::start(&shared.metrics), key, seq)
    }

    /// How many patches lie over the key's newest full value (0: none, or the key is absent).
    /// Reads no tails.
    pub fn patch_depth(&self, key: &[u8]) -> Result<usize> {
        Ok(self.get_head_patched(key)?.map_or(0, |(_, depth)| depth))
    }

    /// The sequence number of the write that a key's value is from, or the newest of those that it is folded
    /// from; `None` if it is absent. It is the key's *version*: every write of the key gives it a new one, larger than
    /// all before, and flushes and compactions keep it.
    pub fn version(&self, key: &[u8]) -> Result<Option<SeqNo>> {
        self.note_read(key);
        let (tree, seq) = self.open_read_point()?;
        tree.version(self.shared(), key, seq)
    }

    /// The keys between two bounds as they are now, in order. Positioned before the first:
    /// call [`Scan::next`].
    pub fn scan(&self, from: Bound<&[u8]>, to: Bound<&[u8]>) -> Result<Scan> {
        self.note_scan(from, to);
        let (tree, seq) = self.open_read_point()?;
        Scan::new(self.shared_arc(), tree, seq, from, to)
    }

    /// As [`Volume::scan`], last key first.
    pub fn scan_back(&self, from: Bound<&[u8]>, to: Bound<&[u8]>) -> Result<ScanBack> {
        self.note_scan(from, to);
        let (tree, seq) = self.open_read_point()?;
        ScanBack::new(self.shared(), &tree, seq, from, to)
    }

    /// The values of several keys at one moment, in the order of the keys.
    pub fn multi_get(&self, keys: &[&[u8]]) -> Result<Vec<Option<Value>>> {
        keys.iter().for_each(|key| self.note_read(key));
        let (tree, seq) = self.open_read_point()?;
        keys.iter().map(|key| tree.get(self.shared(), key, seq, CacheUse::Fill)).collect()
    }
}

impl Tree {
    /// The value of `key` at `seq`. `blobs` says what becomes of values from blob files.
    pub fn get(&self, shared: &Shared, key: &[u8], seq: SeqNo, blobs: CacheUse) -> Result<Option<Value>> {
        Ok(self.get_patched(shared, key, seq, blobs)?.map(|(value, _)| value))
    }

    /// As [`Tree::get`], and how many patches it is folded from.
    pub fn get_patched(
        &self,
        shared: &Shared,
        key: &[u8],
        seq: SeqNo,
        blobs: CacheUse,
    ) -> Result<Option<(Value, usize)>> {
        let counted = Get::start(&shared.metrics);
        let mut fold = Fold::default();
        let visit = &mut |_, kind, value| fold.push(kind, || shared.blobs.resolve(kind, value, blobs));
        self.versions(shared, &counted, key, seq, Part::Whole, visit)?;
        let depth = fold.depth();
        let found = fold.finish(key)?;
        counted.answered(found.is_some());
        Ok(found.map(|value| (value, depth)))
    }

    /// Puts the tail of `key`'s value at `seq` at the start of `out`; values from blob files bypass the cache.
    pub fn read_tail_once(&self, shared: &Shared, key: &[u8], seq: SeqNo, out: &mut [u8]) -> Result<usize> {
        let counted = Get::start(&shared.metrics);
        let (mut fold, mut whole) = (Fold::default(), None);
        self.versions(shared, &counted, key, seq, Part::Whole, &mut |_, kind, value| {
            if kind.is_blob() && fold.is_empty() {
                whole = Some(shared.blobs.load_to(&value.tail, out)?);
                return BREAK;
            }
            fold.push(kind, || shared.blobs.resolve(kind, value, CacheUse::Bypass))
        })?;
        let found = fold.finish(key)?;
        counted.answered(whole.is_some() || found.is_some());
        Ok(whole.or(found.map(|value| put_tail(&value.tail, out))).unwrap_or(0))
    }

    /// The head of `key`'s value at `seq`.
    pub fn get_head(&self, shared: &Shared, key: &[u8], seq: SeqNo) -> Result<Option<Bytes>> {
        let counted = Get::start(&shared.metrics);
        let found = self.head(shared, &counted, key, seq)?;
        counted.answered(found.is_some());
        Ok(found)
    }

    fn head(&self, shared: &Shared, counted: &Get<'_>, key: &[u8], seq: SeqNo) -> Result<Option<Bytes>> {
        let mut patched = false;
        let mut head = None;
        self.versions(shared, counted, key, seq, Part::Head, &mut |_, kind, value| {
            match kind {
                // It leaves the head alone.
                Kind::Patch => {
                    patched = true;
                    return Ok(ControlFlow::Continue(()));
                }
                Kind::Put | Kind::FirstPut | Kind::BlobPointer | Kind::FirstBlobPointer | Kind::HeadPatch => {
                    head = Some(value.head)
                }
                Kind::Tombstone | Kind::RangeTombstone => {}
            }
            Ok(ControlFlow::Break(()))
        })?;
        Ok(head.or(patched.then(Bytes::new)))
    }

    /// As [`Tree::get_head`], and the number of patches over `key`'s newest full value.
    pub fn get_head_patched(
        &self,
        shared: &Shared,
        key: &[u8],
        seq: SeqNo,
    ) -> Result<Option<(Bytes, usize)>> {
        let counted = Get::start(&shared.metrics);
        let (mut head, mut depth) = (None, 0);
        self.versions(shared, &counted, key, seq, Part::Head, &mut |_, kind, value| {
            if kind == Kind::HeadPatch || kind.blob().is_some() {
                head.get_or_insert(value.head);
            }
            depth += usize::from(kind.is_patch());
            Ok(if kind.is_patch() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
        })?;
        let found = head.or((depth > 0).then(Bytes::new)).map(|head| (head, depth));
        counted.answered(found.is_some());
        Ok(found)
    }

    /// The sequence number of `key`'s newest version at `seq`; `None` if it is absent.
    pub fn version(&self, shared: &Shared, key: &[u8], seq: SeqNo) -> Result<Option<SeqNo>> {
        let counted = Get::start(&shared.metrics);
        let mut newest = None;
        self.versions(shared, &counted, key, seq, Part::Head, &mut |seq, kind, _| {
            newest = (!matches!(kind, Kind::Tombstone | Kind::RangeTombstone)).then_some(seq);
            Ok(ControlFlow::Break(()))
        })?;
        counted.answered(newest.is_some());
        Ok(newest)
    }

    /// Shows the versions of `key` at `seq`, newest first, to `visit`, until it breaks. What a range
    /// tombstone deletes is not shown, nor anything older: older sources hold older records.
    fn versions(
        &self,
        shared: &Shared,
        counted: &Get<'_>,
        key: &[u8],
        seq: SeqNo,
        part: Part,
        visit: &mut Visit<'_>,
    ) -> Result<()> {
        for memtable in self.memtables() {
            let deleted = memtable.covering(key, seq);
            let visit = |seq, kind, value| if seq < deleted { BREAK } else { visit(seq, kind, value) };
            if memtable.versions(key, seq, part, visit)?.is_break() || deleted > 0 {
                return Ok(());
            }
        }
        for meta in self.levels.tables_for(key) {
            if table_versions(shared, counted, meta, key, seq, part, visit)?.is_break() {
                return Ok(());
            }
        }
        Ok(())
    }
}

const BREAK: Result<ControlFlow<()>> = Ok(ControlFlow::Break(()));
const CONTINUE: Result<ControlFlow<()>> = Ok(ControlFlow::Continue(()));

fn table_versions(
    shared: &Shared,
    counted: &Get<'_>,
    meta: &TableMeta,
    key: &[u8],
    seq: SeqNo,
    part: Part,
    visit: &mut Visit<'_>,
) -> Result<ControlFlow<()>> {
    if meta.smallest_seq > seq {
        return CONTINUE;
    }
    let table = shared.tables.get(meta)?;
    let deleted = table.ranges().covering(key, seq).map_or(0, |(seq, _)| seq);
    let end = if deleted > 0 { BREAK } else { CONTINUE };
    let (filter, found) = table.look_up(key, seq)?;
    counted.asked_table(filter, found.is_some());
    let Some(mut cursor) = found else { return end };
    while cursor.valid() && cursor.key().user == key && cursor.key().seq >= deleted {
        if let KindOrBound::Kind(kind) = cursor.key().kind {
            let head = cursor.head_bytes();
            let tail = if part == Part::Whole { cursor.tail()? } else { Bytes::new() };
            if visit(cursor.key().seq, kind, Value { head, tail })?.is_break() {
                return BREAK;
            }
        }
        cursor.next()?;
    }
    end
}
