//! Real programs at real work: warm, as they come one after the other, and cold, when neither the kernel nor
//! the daemon has anything in memory.
//!
//! Each twice, as the small-file lines: *pinned* to one processor, where the floor's time is what the program and its
//! requests take at least, and free, as a user does it.
//!
//! The floor, which has no disk, is never quite cold: only the kernel forgets.
//!
//! The source tree is that of the crates that this project is built from. What is not installed, or needs a
//! network that is not there, is left out.

use crate::pin::pinned;
use crate::report::{Goal, Line, Unit};
use crate::requests;
use crate::target::{Place, Target, run, sync};
use crate::{Bench, Result};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

/// A program at work: a script for `sh`, in the directory that is measured. `$1` is the inputs' directory.
struct Work {
    name: &'static str,
    /// What comes before it and is not measured.
    before: &'static str,
    script: &'static str,
    cold: bool,
}

const fn warm(name: &'static str, script: &'static str) -> Work {
    Work { name, before: "", script, cold: false }
}

const fn cold(name: &'static str, script: &'static str) -> Work {
    Work { name, before: "", script, cold: true }
}

/// Git reads again whatever was written in the second in which its index was. So that it does not depend on when in
/// a second the clone ended, it is asked once before, in another second.
const SETTLE: &str = "sleep 1.1 && git -C clone status --porcelain";

/// In this order: some need what others made.
const WORKS: [Work; 10] = [
    warm("real: tar x", "tar -xf $1/tree.tar"),
    warm("real: grep -r", "grep -rc unlikely_words tree >/dev/null || [ $? = 1 ]"),
    warm("real: git clone", "git clone -q --no-hardlinks $1/repository clone"),
    Work { before: SETTLE, ..warm("real: git status", "git -C clone status --porcelain") },
    warm("real: cargo build", "cp -R $1/crate . && cd crate && cargo build -q --offline"),
    warm(
        "real: npm install",
        "mkdir npm && cd npm && npm install --silent --cache $1/npm --prefer-offline express",
    ),
    warm("real: SQLite, 500 commits", "python3 $1/inserts.py inserts.db"),
    cold("real: grep -r, cold", "grep -rc unlikely_words tree >/dev/null || [ $? = 1 ]"),
    cold("real: git status, cold", "git -C clone status --porcelain"),
    cold("real: cargo build again, cold", "cd crate && touch src/main.rs && cargo build -q --offline"),
];

/// Makes the inputs. What depends on what is missing fails, then and when it is measured.
const PREPARE: &str = r#"
cd "$1"
tar -cf tree.tar tree
git init -q repository
cp -R tree repository/
cd repository
git add -f .
git -c user.name=bench -c user.email=bench@localhost -c gc.auto=0 commit -q -m tree
cd ..
mkdir -p crate/src
printf '[package]\nname = "built"\nversion = "0.1.0"\nedition = "2021"\n[dependencies]\nserde = { version = "1", features = ["derive"] }\nthiserror = "2"\n[workspace]\n' >crate/Cargo.toml
printf 'fn main() {\n    println!("built");\n}\n' >crate/src/main.rs
cat >inserts.py <<'END'
import sqlite3, sys
database = sqlite3.connect(sys.argv[1])
database.execute("create table t (id integer primary key, word text)")
for commit in range(500):
    database.executemany("insert into t (word) values (?)", [("word %d" % commit,)] * 10)
    database.commit()
END
"#;

impl Work {
    fn line(&self, pinned: bool) -> Line {
        if pinned {
            return Line::new(format!("{}, pinned", self.name), Unit::SECONDS, &[]);
        }
        // No slower than 1.5 times, or faster.
        let goal = if self.cold { 1.0 } else { 1.0 / 1.5 };
        Line::new(self.name, Unit::SECONDS, &[Goal::Times(goal, Target::Disk)])
    }

    /// Does what comes before it.
    fn lead_in(&self, place: &Place, inputs: &Path) -> Result<()> {
        if self.before.is_empty() { Ok(()) } else { shell(self.before, place, inputs) }
    }

    /// Does it; returns the seconds that it took.
    fn seconds(&self, place: &Place, inputs: &Path) -> Result<f64> {
        let started = Instant::now();
        shell(self.script, place, inputs)?;
        Ok(started.elapsed().as_secs_f64())
    }
}

/// Runs a script in the directory that is measured.
fn shell(script: &str, place: &Place, inputs: &Path) -> Result<()> {
    let mut shell = Command::new("sh");
    // Else cargo would write elsewhere, and find there what another target's turn has built.
    shell.env_remove("CARGO_TARGET_DIR").env_remove("CARGO_BUILD_TARGET_DIR");
    run(shell.args(["-euc", script, "sh"]).arg(inputs).current_dir(place.dir()))
}

/// Measures the lines, if any of them is wanted: all works are done, as they need each other.
pub fn run_lines(bench: &Bench) -> Result<Vec<Line>> {
    let wants = |line: &Line| bench.wants("real", &line.name);
    let mut settings = vec![false, true];
    settings.retain(|pinned| WORKS.iter().any(|work| wants(&work.line(*pinned))));
    if settings.is_empty() {
        return Ok(Vec::new());
    }
    let inputs = &bench.dir.join("inputs");
    bench.say("real work: making a source tree");
    prepare(inputs)?;
    let possible = rehearse(bench, inputs, &WORKS.each_ref())?;
    let lines = |pinned| -> Vec<Line> { possible.iter().map(|work| work.line(pinned)).collect() };
    let mut measured: Vec<_> = settings.into_iter().map(|pinned| (pinned, lines(pinned))).collect();
    for target in requests::targets(false) {
        let turn = Turn { bench, inputs, target, pinned: false, words: "counting requests".to_string() };
        turn.each(&possible, |at, work, place| {
            let sent = requests::during(place, || work.seconds(place, inputs))?;
            for (_, lines) in &mut measured {
                sent.iter().for_each(|sent| lines[at].set_requests(target, *sent as f64));
            }
            Ok(())
        })?;
    }
    for round in 0..bench.rounds {
        for target in bench.in_turn(round).filter(|target| *target != Target::Plain) {
            for (is_pinned, lines) in &mut measured {
                let words = format!("round {round}{}", if *is_pinned { ", pinned" } else { "" });
                let turn = Turn { bench, inputs, target, pinned: *is_pinned, words };
                let all = || {
                    turn.each(&possible, |at, work, place| {
                        lines[at].add(target, work.seconds(place, inputs)?);
                        Ok(())
                    })
                };
                pinned(*is_pinned, || bench.try_out(target, all))??;
            }
        }
    }
    fs::remove_dir_all(inputs)?;
    Ok(measured.into_iter().flat_map(|(_, lines)| lines).filter(wants).collect())
}

/// All works in one place.
struct Turn<'a> {
    bench: &'a Bench,
    inputs: &'a Path,
    target: Target,
    pinned: bool,
    /// Which turn it is.
    words: String,
}

impl Turn<'_> {
    /// Calls `measure` for each work, with its number, when everything is ready for it. A peer may fail at any of them.
    ///
    /// Before, all of it is done on the disk: else whoever comes after another's cold works would read the inputs and the
    /// programs from there, and who comes first would not.
    fn each(
        &self,
        works: &[&Work],
        mut measure: impl FnMut(usize, &Work, &Place) -> Result<()>,
    ) -> Result<()> {
        let Turn { bench, inputs, target, pinned, ref words } = *self;
        rehearse(bench, inputs, works)?;
        let place = Place::start(target, bench.dir.join("real"), if pinned { 1 } else { 2 })?;
        for (at, work) in works.iter().enumerate() {
            bench.say(&format!("{}, {words}: {}", work.name, target.name()));
            bench.try_out(target, || {
                match work.cold {
                    true => place.chill()?,
                    false => sync(&bench.dir)?,
                }
                work.lead_in(&place, inputs)?;
                measure(at, work, &place)
            })?;
        }
        Ok(())
    }
}

fn prepare(inputs: &Path) -> Result<()> {
    fs::create_dir_all(inputs.join("tree"))?;
    for package in packages()? {
        run(Command::new("cp").arg("-RL").arg(package).arg(inputs.join("tree")))?;
    }
    run(Command::new("sh").args(["-euc", PREPARE, "sh"]).arg(inputs))
}

/// The directories of the crates that this program was built from.
fn packages() -> Result<BTreeSet<PathBuf>> {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    let platform = format!("--filter-platform={}-unknown-linux-gnu", std::env::consts::ARCH);
    command.args(["metadata", "--format-version=1", "--offline", &platform, "--manifest-path"]);
    let output = command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml")).output()?;
    let said: serde_json::Value = serde_json::from_slice(&output.stdout)
        .map_err(|_| format!("cargo metadata: {}", String::from_utf8_lossy(&output.stderr).trim()))?;
    let packages = said["packages"].as_array().ok_or("cargo metadata tells of no packages")?;
    let dir = |package: &serde_json::Value| {
        package["source"].as_str()?;
        Some(Path::new(package["manifest_path"].as_str()?).parent()?.to_path_buf())
    };
    Ok(packages.iter().filter_map(dir).collect())
}

/// Does works on the disk, and has their inputs and programs in memory then; returns those that succeeded.
fn rehearse<'w>(bench: &Bench, inputs: &Path, works: &[&'w Work]) -> Result<Vec<&'w Work>> {
    let place = Place::start(Target::Disk, bench.dir.join("rehearsal"), 1)?;
    let mut possible = Vec::new();
    for work in works {
        match work.lead_in(&place, inputs).and_then(|()| work.seconds(&place, inputs)) {
            Ok(_) => possible.push(*work),
            Err(e) => bench.say(&format!("{} fails on the disk: {e}", work.name)),
        }
    }
    Ok(possible)
}
