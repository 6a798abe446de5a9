//! Real programs at real work: warm, as they come one after the other, and cold, when neither the kernel nor
//! the daemon has anything in memory.
//!
//! Each twice, as the small-file lines: *pinned* to one processor, where the floor's own time is what the requests cost
//! at least, and free, as a user does it.
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
    let settings = [false, true];
    let wants = |line: &Line| bench.wants("real", &line.name);
    if !WORKS.iter().any(|work| settings.iter().any(|pinned| wants(&work.line(*pinned)))) {
        return Ok(Vec::new());
    }
    let inputs = bench.dir.join("inputs");
    bench.say("real work: making a source tree");
    prepare(&inputs)?;
    let possible = rehearse(bench, &inputs, WORKS.iter())?;
    let [mut free, mut on_one] =
        settings.map(|pinned| -> Vec<_> { possible.iter().map(|work| (*work, work.line(pinned))).collect() });
    for target in [Target::Lsmfs, Target::Floor] {
        each(bench, "counting requests", target, &inputs, &mut free, |work, place, line| {
            requests::count(line, place, 1, || work.seconds(place, &inputs))
        })?;
    }
    for round in 0..bench.rounds {
        for target in bench.in_turn(round).filter(|target| *target != Target::Plain) {
            for (lines, pin) in [(&mut free, false), (&mut on_one, true)] {
                let turn = format!("round {round}{}", if pin { ", pinned" } else { "" });
                let measure = |work: &Work, place: &Place, line: &mut Line| {
                    line.add(target, work.seconds(place, &inputs)?);
                    Ok(())
                };
                let all = || each(bench, &turn, target, &inputs, lines, measure);
                pinned(pin, || bench.try_out(target, all))??;
            }
        }
    }
    fs::remove_dir_all(&inputs)?;
    Ok(free.into_iter().chain(on_one).map(|(_, line)| line).filter(wants).collect())
}

/// Calls `measure` for each work when everything is ready for it. A peer may fail at any of them.
///
/// Before, all of it is done on the disk: else whoever comes after another's cold works would read the inputs and the
/// programs from there, and who comes first would not.
fn each(
    bench: &Bench,
    turn: &str,
    target: Target,
    inputs: &Path,
    lines: &mut [(&'static Work, Line)],
    mut measure: impl FnMut(&Work, &Place, &mut Line) -> Result<()>,
) -> Result<()> {
    rehearse(bench, inputs, lines.iter().map(|(work, _)| *work))?;
    let place = Place::start(target, bench.dir.join("real"), 2)?;
    for (work, line) in lines {
        bench.say(&format!("{}, {turn}: {}", work.name, target.name()));
        bench.try_out(target, || {
            match work.cold {
                true => place.chill()?,
                false => sync(&bench.dir)?,
            }
            work.lead_in(&place, inputs)?;
            measure(work, &place, line)
        })?;
    }
    Ok(())
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
fn rehearse(
    bench: &Bench,
    inputs: &Path,
    works: impl Iterator<Item = &'static Work>,
) -> Result<Vec<&'static Work>> {
    let place = Place::start(Target::Disk, bench.dir.join("rehearsal"), 1)?;
    let mut possible = Vec::new();
    for work in works {
        match work.lead_in(&place, inputs).and_then(|()| work.seconds(&place, inputs)) {
            Ok(_) => possible.push(work),
            Err(e) => bench.say(&format!("leaving out {}: {e}", work.name)),
        }
    }
    Ok(possible)
}
