use super::*;
use crate::lsm::key::MAX_SEQ;
use crate::lsm::table::data::{DataBlockBuilder, FOOTER_LEN, FORMAT, TailIn};
use proptest::collection::vec;
use proptest::prelude::*;

type Record = (Vec<u8>, u64, Vec<u8>, Vec<u8>);

/// Records in the order of their keys, from user keys and what follows them.
fn sorted(mut records: Vec<Record>) -> Vec<Record> {
    records.sort_by(|a, b| key(a).cmp(&key(b)));
    records.dedup_by(|a, b| key(a) == key(b));
    records
}

fn key((user, seq, ..): &Record) -> KeyRef<'_> {
    KeyRef::new(user, *seq, Kind::Put)
}

fn block(records: &[Record]) -> Bytes {
    let mut builder = DataBlockBuilder::default();
    let mut previous: &[u8] = b"";
    for record in records {
        builder.add(previous, key(record), &record.2, TailIn::Here(&record.3));
        previous = &record.0;
    }
    let len = builder.len();
    let block = Bytes::copy_from_slice(builder.finish());
    assert_eq!(block.len(), len);
    block
}

fn cursor(block: Bytes) -> DataCursor {
    let mut cursor = DataCursor::new();
    cursor.set_block(block).unwrap();
    cursor
}

fn current(cursor: &DataCursor) -> Option<Record> {
    let tail = match cursor.tail() {
        Tail::Here(range) => cursor.slice(range).to_vec(),
        Tail::Apart { .. } => panic!("no tail stands apart"),
    };
    let key = cursor.valid().then(|| cursor.key())?;
    Some((key.user.to_vec(), key.seq, cursor.head().to_vec(), tail))
}

fn records() -> impl Strategy<Value = Vec<Record>> {
    let user = prop_oneof![
        vec(0u8..3, 0..4),
        vec(0u8..2, 0..2).prop_map(|end| [b"a long prefix that is shared".to_vec(), end].concat()),
    ];
    vec((user, 0u64..4, vec(any::<u8>(), 0..200), vec(any::<u8>(), 0..3)), 1..80).prop_map(sorted)
}

proptest! {
    #[test]
    fn a_cursor_agrees_with_the_list(records in records()) {
        let mut cursor = cursor(block(&records));
        let n = records.len();

        cursor.seek_to_first().unwrap();
        for record in &records {
            assert_eq!(current(&cursor).as_ref(), Some(record));
            cursor.next().unwrap();
        }
        assert_eq!(current(&cursor), None);

        cursor.seek_to_last().unwrap();
        for record in records.iter().rev() {
            assert_eq!(current(&cursor).as_ref(), Some(record));
            cursor.prev().unwrap();
        }
        assert_eq!(current(&cursor), None);

        for i in 0..n {
            for target in [key(&records[i]), KeyRef::bound(&records[i].0, MAX_SEQ)] {
                let at = records.iter().filter(|record| key(record) < target).count();
                cursor.seek(target).unwrap();
                assert_eq!(current(&cursor).as_ref(), records.get(at));
                cursor.seek_before(target).unwrap();
                assert_eq!(current(&cursor).as_ref(), at.checked_sub(1).map(|at| &records[at]));
            }
        }
        cursor.seek(KeyRef::bound(b"zz", 0)).unwrap();
        assert!(!cursor.valid());
        cursor.seek_before(KeyRef::bound(b"zz", 0)).unwrap();
        assert_eq!(current(&cursor).as_ref(), records.last());
    }

    /// What a checksum would have caught: the cursor ends, with an error or wrong records.
    #[test]
    fn a_damaged_block_neither_panics_nor_holds_up(
        records in records(),
        damage in vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let mut bytes = block(&records).to_vec();
        for (at, to) in damage {
            let at = at.index(bytes.len());
            bytes[at] = to;
        }
        exercise(bytes);
    }

    #[test]
    fn garbage_neither_panics_nor_holds_up(mut bytes in vec(any::<u8>(), 0..300), entries_at in 0u8..40, restarts in 0u8..9, values in 0u8..3) {
        if let Some(footer) = bytes.last_chunk_mut::<FOOTER_LEN>() {
            *footer = [entries_at, 0, 0, 0, values, 0, 0, 0, restarts, 0, 0, 0, FORMAT];
        }
        exercise(bytes);
    }
}

fn exercise(bytes: Vec<u8>) {
    let limit = bytes.len();
    let mut cursor = DataCursor::new();
    if cursor.set_block(bytes.into()).is_err() {
        return;
    }
    let look = |cursor: &DataCursor| {
        let _ = (cursor.key(), cursor.head(), cursor.head_bytes());
        match cursor.tail() {
            Tail::Here(range) => drop(cursor.slice(range)),
            Tail::Apart { slot, .. } => drop(cursor.value_block(*slot)),
        }
    };
    for forward in [true, false] {
        let mut result = if forward { cursor.seek_to_first() } else { cursor.seek_to_last() };
        let mut steps = 0;
        while result.is_ok() && cursor.valid() {
            look(&cursor);
            steps += 1;
            assert!(steps <= limit, "more records than bytes");
            result = if forward { cursor.next() } else { cursor.prev() };
        }
        assert!(result.is_ok() || !cursor.valid(), "valid after an error");
    }
    for user in [b"".as_slice(), b"a", b"\x01\x01", b"zzz"] {
        let _ = cursor.seek(KeyRef::bound(user, 2));
        let _ = cursor.seek_before(KeyRef::bound(user, 2));
    }
}

#[test]
fn tails_apart_name_their_value_blocks() {
    let mut builder = DataBlockBuilder::default();
    let handles = [Handle { offset: 1 << 33, len: 5 }, Handle { offset: 7, len: u32::MAX }];
    builder.add(b"", KeyRef::new(b"a", 1, Kind::Put), b"h", TailIn::Apart { slot: 0, start: 3, len: 2 });
    builder.add_value_block(handles[0]);
    assert_eq!(builder.next_slot(), 1);
    builder.add(
        b"a",
        KeyRef::new(b"b", 1, Kind::Put),
        b"",
        TailIn::Apart { slot: 1, start: 0, len: 1 << 30 },
    );
    builder.add_value_block(handles[1]);
    let mut cursor = cursor(Bytes::copy_from_slice(builder.finish()));
    cursor.seek_to_first().unwrap();
    assert_eq!(*cursor.tail(), Tail::Apart { slot: 0, start: 3, len: 2 });
    cursor.next().unwrap();
    assert_eq!(*cursor.tail(), Tail::Apart { slot: 1, start: 0, len: 1 << 30 });
    assert_eq!([0, 1].map(|slot| cursor.value_block(slot).unwrap()), handles);
    assert!(cursor.value_block(2).is_err());
}

#[test]
fn common_prefixes_of_all_lengths() {
    let a: Vec<u8> = (0..40).collect();
    for len in 0..40 {
        let mut b = a.clone();
        assert_eq!(common_prefix_len(&a, &b[..len]), len);
        b[len] ^= 0x80;
        assert_eq!(common_prefix_len(&a, &b), len);
    }
}
