//! Both the manifest and its copy are lost, or damaged.

use super::volumes::{all_contents, with_volumes};
use super::*;

/// What becomes of the manifest's files.
#[derive(Debug, Clone, Copy)]
enum Loss {
    /// All are gone.
    All,
    /// The log of edits is left.
    BothSnapshots,
    /// A byte of each is another: this one, counted from the start.
    Flipped(u64),
    /// Each ends here.
    Cut(u64),
    /// One is gone, and of the other the same byte is another.
    OneAndFlipped(u64),
}

/// The store after that.
fn without(filled: &SimDisk, loss: Loss) -> Arc<SimDisk> {
    let sim = copy(filled);
    for name in sim.list().unwrap().into_iter().map(|file| file.name) {
        let (snapshot, copy) = (name.starts_with("manifest-"), name.starts_with("copy-"));
        match loss {
            Loss::All if manifest::is_manifest_file(&name) => sim.delete(&name).unwrap(),
            Loss::BothSnapshots if snapshot || copy => sim.delete(&name).unwrap(),
            Loss::OneAndFlipped(_) if snapshot => sim.delete(&name).unwrap(),
            Loss::Flipped(at) if snapshot || copy => sim.flip_bit(&name, at, (at % 8) as u8).unwrap(),
            Loss::OneAndFlipped(at) if copy => sim.flip_bit(&name, at, (at % 8) as u8).unwrap(),
            Loss::Cut(at) if snapshot || copy => sim.truncate_file(&name, at).unwrap(),
            _ => {}
        }
    }
    sim
}

/// The rounds of writes that a volume of [`with_volumes`] had ever in it.
fn rounds(name: &str) -> Vec<u8> {
    let number = |of: &str| name.strip_prefix(of).and_then(|n| n.parse::<u8>().ok());
    let main = |upto: u8| (0..upto).flat_map(|n| [0, 1, 4, 6].map(|round| 10 * n + round));
    let with = |n: u8, own: &[u8]| main(n).chain(own.iter().map(|round| 10 * n + round)).collect();
    let forks = ["fork", "renamed", "fork of fork"].into_iter().find_map(number);
    let before = ["gone", "main@snap"].into_iter().find_map(number);
    match (forks, before, number("own")) {
        (Some(n), ..) => with(n, &[0, 2, 5]),
        (_, Some(n), _) => with(n, &[0, 1]),
        (.., Some(n)) => vec![10 * n + 3],
        // Whatever its name was.
        _ if name.starts_with("found-") => (0..50).collect(),
        _ => main(5).collect(),
    }
}

/// Was each key given this value, in this volume?
fn is_made_up(name: &str, contents: &Contents) -> Option<String> {
    let rounds = rounds(name);
    let written = |(key, value): (&Vec<u8>, &Vec<u8>)| match (&key[..], value.split_first()) {
        (&[b'k', i], Some((round, rest))) => {
            rounds.contains(round) && *rest == vec![i ^ round; if i % 7 == 0 { 700 } else { 40 }]
        }
        _ => false,
    };
    contents.iter().find(|entry| !written(*entry)).map(|entry| format!("{name}: {entry:?}"))
}

#[test]
fn without_a_manifest_and_its_copy_nothing_is_made_up() {
    let losses = [Loss::All, Loss::BothSnapshots, Loss::Cut(0), Loss::Cut(50), Loss::OneAndFlipped(33)];
    for sessions in [&[0][..], &[1], &[2], &[3], &[3, 0], &[2, 1], &[3, 2], &[1, 3], &[3, 3, 3]] {
        let (filled, contents) = with_volumes(sessions);
        for loss in losses {
            let sim = without(&filled, loss);
            let (main, _, done) = repaired(&sim);
            assert!(done.rebuilt);
            assert!(main == contents["main"], "{sessions:?} {loss:?}");
            let found = all_contents(&open(&sim));
            for (name, contents) in &found {
                assert_eq!(is_made_up(name, contents), None, "{sessions:?} {loss:?}");
                assert!(name == "main" || done.uncertain.contains(name), "{sessions:?} {loss:?}: {name}");
            }
            for (name, contents) in contents.iter().filter(|(name, _)| name.starts_with("own")) {
                assert!(found.get(name) == Some(contents), "{sessions:?} {loss:?}: {name}");
            }
        }
    }
}

#[test]
fn damage_of_the_same_byte_of_the_manifest_and_its_copy_is_the_loss_of_both() {
    let (filled, _) = with_volumes(&[3, 1]);
    let of = |loss| {
        let sim = without(&filled, loss);
        let (_, lost, done) = repaired(&sim);
        (all_contents(&open(&sim)), lost.len(), done.uncertain)
    };
    let (contents, _, uncertain) = of(Loss::BothSnapshots);
    assert!(!uncertain.is_empty());
    let len = filled.list().unwrap().into_iter().find(|file| file.name.starts_with("copy-")).unwrap().len;
    for at in (0..len).step_by(23) {
        let (found, told, still) = of(Loss::Flipped(at));
        assert!(told > 0, "byte {at}: nothing is told");
        assert!(found == contents && still == uncertain, "byte {at}");
    }
}

#[test]
fn where_a_copy_or_the_manifest_is_there_nothing_is_uncertain() {
    let (filled, contents) = with_volumes(&[3, 2]);
    for lost in ["manifest-", "copy-"] {
        let sim = copy(&filled);
        let name = sim.list().unwrap().into_iter().map(|f| f.name).find(|n| n.starts_with(lost)).unwrap();
        sim.delete(&name).unwrap();
        let (_, _, done) = repaired(&sim);
        assert_eq!(done.uncertain, [""; 0], "{lost}");
        assert!(all_contents(&open(&sim)) == contents, "{lost}");
    }
}

/// Puts a key into a volume, and makes a table of it.
fn put(store: &Store, volume: &Volume, key: &[u8]) {
    let mut batch = Batch::new();
    batch.put(key, b"value");
    volume.write(batch).unwrap();
    store.flush().unwrap();
}

/// Of a volume that is set back its snapshot's fork takes the name.
#[test]
fn a_volume_that_was_set_back_is_found_as_it_was_before_and_said_to_be_uncertain() {
    let sim = Arc::new(SimDisk::new(1));
    let store = open(&sim);
    put(&store, &store.volume("main").unwrap(), b"one");
    store.create_snapshot(&store.volume("main").unwrap(), "snap").unwrap();
    put(&store, &store.volume("main").unwrap(), b"two");
    store.restore("main", "snap", |_, _| Ok(())).unwrap();
    put(&store, &store.volume("main").unwrap(), b"three");
    store.close().unwrap();
    let sim = without(&sim.crash_keep_all(), Loss::All);
    let (main, _, done) = repaired(&sim);
    assert!(done.uncertain.contains(&"main".to_owned()), "{done:?}");
    assert!(main.contains_key(&b"one"[..]));
    let found = all_contents(&open(&sim));
    let (name, _) = found.iter().find(|(_, contents)| contents.contains_key(&b"three"[..])).unwrap();
    assert!(done.uncertain.contains(name), "{name}");
}

/// What a restore has made has a hidden name at first. The next open deletes what has one.
#[test]
fn what_a_restore_has_made_is_found_under_a_name_that_stays() {
    let sim = Arc::new(SimDisk::new(1));
    let store = open(&sim);
    let main = store.volume("main").unwrap();
    put(&store, &main, b"one");
    store.create_snapshot(&main, "snap").unwrap();
    let early = |fresh: &Volume, _: &Volume| {
        put(&store, fresh, b"two");
        Ok(())
    };
    store.restore("main", "snap", early).unwrap();
    store.close().unwrap();
    let sim = without(&sim.crash_keep_all(), Loss::All);
    let (_, _, done) = repaired(&sim);
    let found = all_contents(&open(&sim));
    let (name, _) = found.iter().find(|(_, contents)| contents.contains_key(&b"two"[..])).unwrap();
    assert!(done.uncertain.contains(name), "{name}");
}
