use super::*;
use crate::lsm::Batch;
use crate::lsm::iter::InternalIterator;
use crate::lsm::key::MAX_SEQ;

fn table() -> Arc<Memtable> {
    let table = Arc::new(Memtable::new());
    for (seq, key, value) in [(1, "a", "1x"), (2, "b", "2y"), (3, "a", "3z"), (4, "c", "4w")] {
        let mut batch = Batch::new();
        batch.put_split(key.as_bytes(), &value.as_bytes()[..1], &value.as_bytes()[1..]);
        table.insert_all(seq, batch);
    }
    table
}

fn seen(table: &Memtable, key: &str, seq: SeqNo) -> Vec<Bytes> {
    let mut seen = Vec::new();
    let _ = table
        .versions(key.as_bytes(), seq, Part::Whole, |_, _, value| {
            seen.push(value.tail);
            Ok(ControlFlow::Continue(()))
        })
        .unwrap();
    seen
}

#[test]
fn a_reader_sees_the_versions_up_to_its_sequence_number() {
    let table = table();
    assert_eq!(seen(&table, "a", 9), ["z", "x"]);
    assert_eq!(seen(&table, "a", 2), ["x"]);
    assert!(seen(&table, "a", 0).is_empty());
    assert!(seen(&table, "aa", 9).is_empty());
}

#[test]
fn a_batch_that_is_inserted_late_does_not_hide_a_newer_one() {
    let table = table();
    for (seq, value) in [(9, b"9n"), (7, b"7s")] {
        let mut batch = Batch::new();
        batch.put_split(b"b", &value[..1], &value[1..]);
        table.insert_all(seq, batch);
    }
    assert_eq!(seen(&table, "b", 20), ["n", "s", "y"]);
    assert_eq!(seen(&table, "b", 8), ["s", "y"]);
}

#[test]
fn the_cursor_goes_both_ways_and_outlives_other_handles() {
    let table = table();
    let mut iter = table.iter();
    drop(table);
    let mut forward = Vec::new();
    iter.seek_to_first().unwrap();
    while iter.valid() {
        forward.push(iter.key().seq);
        iter.next().unwrap();
    }
    assert_eq!(forward, [3, 1, 2, 4]);
    let mut backward = Vec::new();
    iter.seek_to_last().unwrap();
    while iter.valid() {
        backward.push(iter.key().seq);
        iter.prev().unwrap();
    }
    assert_eq!(backward, [4, 2, 1, 3]);
    iter.seek(KeyRef::bound(b"a", 2)).unwrap();
    assert_eq!((iter.key().seq, iter.head(), iter.tail().unwrap().as_ref()), (1, &b"1"[..], &b"x"[..]));
    iter.seek_before(KeyRef::bound(b"b", 9)).unwrap();
    assert_eq!(iter.key().seq, 1);
}

#[test]
fn the_cursor_finds_all_versions_from_either_side() {
    let table = Arc::new(Memtable::new());
    // Late ones too.
    for seq in [2, 5, 3, 1, 9, 7, 8, 4, 6] {
        let mut batch = Batch::new();
        batch.put(if seq % 3 == 0 { b"a" } else { b"b" }, b"");
        table.insert_all(seq, batch);
    }
    let all = [9, 6, 3, 8, 7, 5, 4, 2, 1];
    let mut iter = table.iter();
    iter.seek_to_first().unwrap();
    for seq in all {
        assert_eq!(iter.key().seq, seq);
        iter.next().unwrap();
    }
    assert!(!iter.valid());
    iter.seek_to_last().unwrap();
    for seq in all.iter().rev() {
        assert_eq!(iter.key().seq, *seq);
        iter.prev().unwrap();
    }
    assert!(!iter.valid());
    let stands = |iter: &MemtableIter| iter.valid().then(|| iter.key().seq);
    for (key, seq, from, before) in [
        ("", 9, Some(9), None),
        ("a", MAX_SEQ, Some(9), None),
        ("a", 5, Some(3), Some(6)),
        ("a", 2, Some(8), Some(3)),
        ("aa", 5, Some(8), Some(3)),
        ("b", 9, Some(8), Some(3)),
        ("b", 6, Some(5), Some(7)),
        ("b", 0, None, Some(1)),
        ("c", 5, None, Some(1)),
    ] {
        let target = KeyRef::bound(key.as_bytes(), seq);
        iter.seek(target).unwrap();
        assert_eq!(stands(&iter), from, "from {key} {seq}");
        iter.seek_before(target).unwrap();
        assert_eq!(stands(&iter), before, "before {key} {seq}");
    }
    assert_eq!(table.len(), 9);
}

#[test]
fn a_reader_is_shown_what_makes_his_values() {
    let table = Arc::new(Memtable::new());
    let writes: [fn(&mut Batch); 8] = [
        |batch| batch.put(b"a", b""),
        |batch| batch.put(b"b", b""),
        |batch| batch.put(b"a", b""),
        |batch| batch.patch(b"b", 1, &[(0, b"x")]),
        |batch| batch.put(b"c", b""),
        |batch| batch.delete(b"a"),
        |batch| batch.patch(b"b", 1, &[(0, b"y")]),
        |batch| batch.delete_range(b"b", b"bb"),
    ];
    for (seq, write) in (1..).zip(writes) {
        let mut batch = Batch::new();
        write(&mut batch);
        table.insert_all(seq, batch);
    }
    let shown = |seq, from: &str| {
        let (mut iter, mut shown) = (table.iter_for(seq), Vec::new());
        iter.seek(KeyRef::bound(from.as_bytes(), MAX_SEQ)).unwrap();
        while iter.valid() {
            shown.push(iter.key().seq);
            iter.next().unwrap();
        }
        shown
    };
    assert_eq!(shown(MAX_SEQ, ""), [6, 8, 5], "what deletes a range deletes its start");
    assert_eq!(shown(7, ""), [6, 7, 4, 2, 5]);
    assert_eq!(shown(5, ""), [3, 4, 2, 5]);
    assert_eq!(shown(4, ""), [3, 4, 2], "c was not there yet");
    assert_eq!(shown(5, "b"), [4, 2, 5]);
    assert_eq!(shown(1, ""), [1]);
    assert!(shown(0, "").is_empty());
    let mut iter = table.iter_for(4);
    iter.seek_to_last().unwrap();
    for seq in [2, 4, 1, 3] {
        assert_eq!(iter.key().seq, seq);
        iter.prev().unwrap();
    }
    assert!(!iter.valid());
    iter.seek_before(KeyRef::bound(b"b", MAX_SEQ)).unwrap();
    assert_eq!(iter.key().seq, 1);
}

#[test]
fn who_meets_a_node_that_is_being_made_is_found_when_he_is_done() {
    let table = Arc::new(Memtable::new());
    let mut batch = Batch::new();
    batch.put_split(b"k", b"1", b"late");
    let record = batch.into_record(0).unwrap();
    let kept = table.arena.keep(record, crate::lsm::log::record::HEADER_LEN);
    let write = Writes::new(kept).unwrap().next().unwrap().unwrap();
    // Batch 11 has made the node and got no further.
    // SAFETY: the write stands in the table's arena.
    table.nodes.get_or_insert(unsafe { Node::new(11, &write) });
    let mut batch = Batch::new();
    batch.put_split(b"k", b"1", b"own");
    table.insert_all(10, batch);
    assert_eq!(seen(&table, "k", 10), ["own"]);
    assert_eq!(seen(&table, "k", 11), ["late", "own"]);
}

#[test]
fn threads_that_write_the_same_keys_lose_nothing() {
    const THREADS: u64 = 4;
    const EACH: u64 = 2000;
    let table = Arc::new(Memtable::new());
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let table = &table;
            scope.spawn(move || {
                for n in 0..EACH {
                    let mut batch = Batch::new();
                    batch.put(format!("{}", n % 50).as_bytes(), b"");
                    table.insert_all(1 + n * THREADS + thread, batch);
                }
            });
        }
    });
    let mut seqs = Vec::new();
    let mut iter = table.iter();
    iter.seek_to_first().unwrap();
    let mut last: Option<(Vec<u8>, SeqNo)> = None;
    while iter.valid() {
        let (user, seq) = (iter.key().user.to_vec(), iter.key().seq);
        assert!(last.is_none_or(|(key, newer)| key < user || key == user && newer > seq));
        seqs.push(seq);
        last = Some((user, seq));
        iter.next().unwrap();
    }
    seqs.sort_unstable();
    assert!(seqs.into_iter().eq(1..=THREADS * EACH));
    assert_eq!(table.len() as u64, THREADS * EACH);
    for n in 0..50 {
        assert_eq!(seen(&table, &n.to_string(), MAX_SEQ).len() as u64, THREADS * EACH / 50);
    }
}

#[test]
fn a_batch_says_what_it_takes() {
    let table = table();
    let before = table.size();
    let mut batch = Batch::new();
    batch.put(b"a", b"again");
    batch.put(b"new", b"value");
    batch.delete_range(b"b", b"c");
    let record = batch.into_record(0).unwrap();
    let inserted = table.insert_batch(9, record, crate::lsm::log::record::HEADER_LEN).unwrap();
    assert_eq!(inserted.size, table.size() - before);
}

#[test]
fn ranges_are_known() {
    let table = table();
    let (a, c) = (&b"a"[..], &b"c"[..]);
    assert!(table.overlaps(Bound::Included(a), Bound::Excluded(b"aa")));
    assert!(!table.overlaps(Bound::Excluded(a), Bound::Excluded(b"b")));
    assert!(!table.overlaps(Bound::Excluded(c), Bound::Unbounded));
    assert!(table.overlaps(Bound::Included(c), Bound::Unbounded));
    assert!(!Memtable::new().overlaps(Bound::Unbounded, Bound::Unbounded));
}
