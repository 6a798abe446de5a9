//! Fuzzing: every decoder as a function of any bytes.
//!
//! Built for tests and for `cargo fuzz` only (see `fuzz/README.md`). A target may return whatever it wants of
//! its input; what it must not do is panic, hang, or take memory out of proportion. Most assert more: that
//! what was decoded encodes to the same again, that a cursor's two directions agree.
//!
//! Checksums would keep a fuzzer out of everything behind them. Where they stand in the way the input is what
//! a file holds, and the target puts the checksums around it.
//!
//! `fuzz/seeds/TARGET/` has inputs to start from, and whatever was found. The tests run all of them.

use crate::{cli, disk, fs, lsm};

/// A decoder that takes any bytes.
pub type Target = fn(&[u8]);

/// All targets, by their names.
pub fn targets() -> Vec<(&'static str, Target)> {
    let engine = lsm::fuzzing::targets();
    [&engine, disk::lock::fuzzing::TARGETS, fs::fuzzing::TARGETS, cli::fuzzing::TARGETS].concat()
}

/// Gives `input` to the target `name`.
///
/// # Panics
/// If there is no such target, or it finds something.
pub fn run(name: &str, input: &[u8]) {
    let (_, target) = targets().into_iter().find(|(known, _)| *known == name).expect("a target of this name");
    target(input);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use std::path::{Path, PathBuf};

    fn fuzz_dir() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz")
    }

    fn names(dir: &Path) -> BTreeSet<String> {
        let entries = std::fs::read_dir(dir).unwrap_or_else(|e| panic!("{}: {e}", dir.display()));
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    #[test]
    fn every_seed_passes() {
        for (name, target) in targets() {
            let dir = fuzz_dir().join("seeds").join(name);
            let seeds = names(&dir);
            assert!(!seeds.is_empty(), "{name} has no seeds");
            for seed in seeds {
                println!("{name}/{seed}");
                target(&std::fs::read(dir.join(seed)).unwrap());
            }
            target(b"");
        }
    }

    /// Each seed with each of its bytes changed, and cut: a fuzzer's first steps.
    #[test]
    fn what_is_near_a_seed_passes() {
        for (name, target) in targets() {
            let dir = fuzz_dir().join("seeds").join(name);
            for seed in names(&dir) {
                let seed = std::fs::read(dir.join(seed)).unwrap();
                let step = 1 + seed.len() / 60;
                for at in (0..seed.len()).step_by(step) {
                    let mut near = seed.clone();
                    near[at] ^= 1 << (at % 8);
                    target(&near);
                    near[at] = 0xff;
                    target(&near);
                    target(&seed[..at]);
                }
            }
        }
    }

    #[test]
    fn every_target_has_a_binary_and_seeds_and_no_others_have() {
        let known: BTreeSet<String> = targets().into_iter().map(|(name, _)| name.to_owned()).collect();
        assert_eq!(names(&fuzz_dir().join("seeds")), known);
        let files = names(&fuzz_dir().join("fuzz_targets"));
        assert_eq!(files, known.iter().map(|name| format!("{name}.rs")).collect());
        let manifest = std::fs::read_to_string(fuzz_dir().join("Cargo.toml")).unwrap();
        for name in known {
            let text = std::fs::read_to_string(fuzz_dir().join(format!("fuzz_targets/{name}.rs"))).unwrap();
            assert!(text.contains(&format!("run(\"{name}\", data)")), "{name}");
            assert!(manifest.contains(&format!("name = \"{name}\"\n")), "{name}");
        }
    }

    /// Writes the seeds that come from real structures: by hand, when a format changes.
    #[test]
    #[ignore = "writes into fuzz/seeds"]
    fn write_seeds() {
        let made = [lsm::fuzzing::seeds(), fs::fuzzing::seeds()].concat();
        for (target, name, bytes) in made {
            let dir = fuzz_dir().join("seeds").join(target);
            std::fs::create_dir_all(&dir).unwrap();
            std::fs::write(dir.join(name), bytes).unwrap();
        }
    }
}
