use super::*;
use proptest::prelude::*;

fn times() -> impl Strategy<Value = Timestamp> {
    (any::<i64>(), 0u32..1_000_000_000).prop_map(|(secs, nanos)| Timestamp { secs, nanos })
}

prop_compose! {
    fn records()(
        kind in 1u8..=7, mode in 0..=MODE_BITS, ino in 1..INO_LIMIT, ids: (u32, u32, u32, u32),
        size in 0..=MAX_FILE_SIZE, pages: u64, has_xattrs: bool, inline in 0..=INLINE_MAX as u64, has_chunks: bool,
        times in (times(), times(), times()),
    ) -> Record {
        Record {
            kind: FileKind::from_u8(kind).unwrap(),
            mode,
            has_xattrs,
            inline_len: if has_chunks { 0 } else { inline.min(size) as u16 },
            ino,
            uid: ids.0,
            gid: ids.1,
            nlink: ids.2,
            rdev: ids.3,
            size,
            pages: if has_chunks { pages % (pages_of(size) + 1) } else { 0 },
            atime: times.0,
            mtime: times.1,
            ctime: times.2,
        }
    }
}

proptest! {
    #[test]
    fn entries_read_back(record in records()) {
        prop_assert_eq!(Record::decode(&record.encode()), Ok(record.clone()));
        let record = Record { nlink: 1, ..record };
        prop_assert_eq!(Entry::decode(&record.encode()), Ok(Entry::File(record)));
    }

    #[test]
    fn damaged_entries_are_refused_or_differ(record in records(), at in 0..HEAD_LEN, flip in 1u8..) {
        let mut bytes = record.encode();
        bytes[at] ^= flip;
        prop_assert_ne!(Record::decode(&bytes), Ok(record));
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = (Entry::decode(&bytes), decode_parent(&bytes), decode_counter(&bytes));
    }

    #[test]
    fn links_read_back(record in records()) {
        let link = encode_link(&record);
        let wanted = match record.kind {
            FileKind::Directory => Err("a link to no kind of file"),
            _ => Ok(Entry::Link(record.ino)),
        };
        prop_assert_eq!(Entry::decode(&link), wanted);
        prop_assert!(Entry::decode(&link[..10]).is_err());
    }

    #[test]
    fn cut_and_extended_entries_are_refused(record in records(), len in 0..HEAD_LEN) {
        let bytes = record.encode();
        prop_assert!(Record::decode(&bytes[..len]).is_err());
        prop_assert!(Record::decode(&[&bytes[..], b"x"].concat()).is_err());
    }

    #[test]
    fn parents_and_counters_read_back(
        parent in 1..INO_LIMIT, name in prop::collection::vec(any::<u8>(), 1..=NAME_MAX), number: u64,
    ) {
        let read = decode_parent(&encode_parent(parent, &name));
        prop_assert_eq!(read, Ok(ParentRecord { parent, name: name.into() }));
        prop_assert_eq!(decode_counter(&encode_counter(number)), Ok(number));
    }
}

/// The layout is on disks: it must not move.
#[test]
fn an_entrys_bytes_are_fixed() {
    let record = Record {
        kind: FileKind::File,
        mode: 0o4755,
        has_xattrs: true,
        inline_len: 5,
        ino: 0x1234,
        uid: 1000,
        gid: 100,
        nlink: 1,
        rdev: 0,
        size: 5,
        pages: 0,
        atime: Timestamp { secs: -1, nanos: 500 },
        mtime: Timestamp { secs: 1 << 33, nanos: 0 },
        ctime: Timestamp { secs: 0, nanos: 1 },
    };
    let hex: String = record.encode().iter().map(|b| format!("{b:02x}")).collect();
    assert_eq!(
        hex,
        "010109ed00010005\
         0000000000001234\
         000003e800000064\
         0000000100000000\
         0000000000000005\
         0000000000000000\
         ffffffffffffffff000001f4\
         000000020000000000000000\
         000000000000000000000001"
    );
}

#[test]
fn blocks_count_what_exists() {
    let mut record = Record::decode(&{
        let mut bytes = [0; HEAD_LEN];
        (bytes[0], bytes[1], bytes[15]) = (FORMAT, FileKind::File as u8, 2);
        bytes
    })
    .unwrap();
    assert_eq!(record.blocks(), 0);
    (record.size, record.inline_len) = (5, 5);
    assert_eq!(record.blocks(), 1);
    (record.size, record.inline_len) = (1 << 40, 0);
    assert_eq!(record.blocks(), 0);
    record.pages = 3;
    assert_eq!(record.blocks(), 3 * 8);
    assert!(!record.is_full());
    (record.size, record.pages) = (5000, 2);
    assert_eq!(record.blocks(), 16);
    assert!(record.is_full());
}
