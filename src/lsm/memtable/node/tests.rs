use super::*;
use crate::lsm::Batch;
use crate::lsm::batch::Writes;
use crate::lsm::log::record::HEADER_LEN;
use proptest::prelude::*;
use std::collections::BTreeMap;

/// A write of `value` under `key`, which stands in the arena.
fn write<'a>(arena: &'a Arena, key: &[u8], value: &[u8]) -> Write<'a> {
    let mut batch = Batch::new();
    batch.put_split(key, &value[..value.len() / 2], &value[value.len() / 2..]);
    let record = batch.into_record(0).unwrap();
    let kept = arena.keep(record, HEADER_LEN);
    Writes::new(kept).unwrap().next().unwrap().unwrap()
}

/// A node with versions of these sequence numbers, in this order; each one's value is its number.
fn node(arena: &Arena, seqs: &[SeqNo]) -> Node {
    let value = |seq: &SeqNo| write(arena, b"key", seq.to_string().as_bytes());
    // SAFETY: the writes stand in the arena, which the caller drops after the node, and nobody else pushes.
    unsafe {
        let node = Node::new(seqs[0], &value(&seqs[0]));
        seqs[1..].iter().for_each(|seq| node.push(arena, *seq, &value(seq)));
        node
    }
}

fn trailer(seq: SeqNo) -> u64 {
    KeyRef::new(b"key", seq, Kind::Put).trailer()
}

fn seq_of(version: Option<Version<'_>>) -> Option<SeqNo> {
    version.map(|version| {
        assert_eq!([version.head, version.tail].concat(), version.seq().to_string().as_bytes());
        assert_eq!(version.kind(), Kind::Put);
        version.seq()
    })
}

proptest! {
    #[test]
    fn versions_are_found_in_whatever_order_they_came(
        seqs in prop::collection::hash_set(1..300u64, 1..200),
        at in prop::collection::vec(0..310u64, 50),
    ) {
        let arena = Arena::default();
        let seqs: Vec<SeqNo> = seqs.into_iter().collect();
        let node = node(&arena, &seqs);
        let model: BTreeMap<SeqNo, ()> = seqs.iter().map(|seq| (*seq, ())).collect();
        for at in at {
            let below = model.range(..=at).next_back().map(|(seq, ())| *seq);
            prop_assert_eq!(seq_of(node.at_most(trailer(at))), below);
            let above = model.range(at..).next().map(|(seq, ())| *seq);
            prop_assert_eq!(seq_of(node.at_least(trailer(at))), above);
        }
    }

    #[test]
    fn nodes_are_ordered_as_their_keys(
        a in prop::collection::vec(0..3u8, 0..24),
        b in prop::collection::vec(0..3u8, 0..24),
    ) {
        let arena = Arena::default();
        // SAFETY: the writes stand in the arena, which is dropped after the nodes.
        let [x, y] = [&a, &b].map(|key| unsafe { Node::new(1, &write(&arena, key, b"")) });
        prop_assert_eq!(x.cmp(&y), a.cmp(&b));
        prop_assert_eq!(x == y, a == b);
    }
}

/// Links that are looked at until a version is found.
fn steps(node: &Node, bound: u64) -> usize {
    let (mut next, mut steps) = (node.newest_link(), 0);
    while let Some(link) = next.filter(|link| link.place.trailer > bound) {
        next = link.jump_if(|far| far.place.trailer > bound).or_else(|| link.older());
        steps += 1;
    }
    steps
}

#[test]
fn old_versions_are_near_in_a_long_chain() {
    let arena = Arena::default();
    let seqs: Vec<SeqNo> = (1..=100_000).collect();
    let node = node(&arena, &seqs);
    let far = (0..100_000).step_by(997).map(|seq| steps(&node, trailer(seq))).max();
    assert!(far.unwrap() < 60, "{far:?} steps");
    assert_eq!(seq_of(node.at_most(u64::MAX)), Some(100_000));
    assert_eq!(seq_of(node.at_least(0)), Some(1));
}
