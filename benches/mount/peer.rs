//! A peer: another file system of this kind, which a script starts and stops, so that the bench needs to know
//! nothing of it. `peers/` has some.
//!
//! ```sh
//! SCRIPT start STORE MOUNT    # mounts what STORE holds, on the empty directory MOUNT
//! SCRIPT stop STORE MOUNT     # unmounts it, and ends all processes of it
//! ```
//!
//! STORE is a directory, empty at first. `start` returns when the mount answers; what it leaves running stays on
//! the processors that the script was given. After `stop` all that was written is in STORE, for the next `start`;
//! where nothing is mounted it succeeds. Either fails with a message and a status other than 0. The script's
//! name, less its extension, is the peer's.

use crate::Result;
use crate::target::Target;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Who starts and stops it.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Peer {
    /// Its name in the table.
    pub name: String,
    script: PathBuf,
}

impl Peer {
    /// The targets that these scripts serve. They last as long as the process, so that targets can be copied.
    pub fn targets(scripts: &[PathBuf]) -> Result<Vec<Target>> {
        let mut targets = Target::ALWAYS.to_vec();
        for script in scripts {
            let script = fs::canonicalize(script).map_err(|e| format!("{}: {e}", script.display()))?;
            let name = script.file_stem().ok_or("a peer without a name")?.to_string_lossy().into_owned();
            if targets.iter().any(|target| target.name() == name) {
                return Err(format!("{name}: two targets of one name").into());
            }
            targets.push(Target::Peer(Box::leak(Box::new(Peer { name, script }))));
        }
        Ok(targets.split_off(Target::ALWAYS.len()))
    }

    /// Mounts it.
    pub fn start(&self, store: &Path, mount: &Path) -> Result<()> {
        fs::create_dir_all(store)?;
        self.run("start", store, mount)
    }

    /// Unmounts it, if it is mounted.
    pub fn stop(&self, store: &Path, mount: &Path) -> Result<()> {
        self.run("stop", store, mount)
    }

    /// What it says goes into a file: of a pipe its daemon might keep the other end.
    fn run(&self, verb: &str, store: &Path, mount: &Path) -> Result<()> {
        let said = store.with_extension("said");
        let (out, err) = (File::create(&said)?, File::options().append(true).open(&said)?);
        let mut command = Command::new(&self.script);
        command.arg(verb).arg(store).arg(mount).stdin(Stdio::null()).stdout(out).stderr(err);
        let status = command.status().map_err(|e| format!("{}: {e}", self.script.display()))?;
        match status.success() {
            true => Ok(()),
            false => {
                let said = fs::read(&said)?;
                Err(format!("{verb}: {status}: {}", String::from_utf8_lossy(&said).trim()).into())
            }
        }
    }
}
