//! The small-file workload, as a process of its own: this program, started anew with `work`.
//!
//! It reads a step's name a line on standard input, does the step, and prints the seconds that it took on
//! standard output. What it reads is checked. A step that fails ends the process with a message.

use crate::Result;
use clap::Args;
use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, Read, Write};
use std::path::PathBuf;
use std::time::Instant;

/// The workload's shape. [`WorkArgs::to_args`] gives it to the process.
#[derive(Debug, Clone, Args)]
pub struct WorkArgs {
    /// Works in a new directory `files` in this one
    pub dir: PathBuf,
    /// The number of files
    #[arg(long)]
    pub files: usize,
    /// They are spread over so many directories
    #[arg(long, default_value_t = 100)]
    pub dirs: usize,
    /// Bytes in each
    #[arg(long, default_value_t = 1024)]
    pub size: usize,
    /// Threads that work at once
    #[arg(long, default_value_t = 1)]
    pub clients: usize,
    /// Sync every file that is made
    #[arg(long)]
    pub sync: bool,
}

impl WorkArgs {
    /// As command line arguments.
    pub fn to_args(&self) -> Vec<String> {
        let mut args = vec![self.dir.display().to_string()];
        for (name, value) in
            [("files", self.files), ("dirs", self.dirs), ("size", self.size), ("clients", self.clients)]
        {
            args.push(format!("--{name}={value}"));
        }
        args.extend(self.sync.then(|| "--sync".to_string()));
        args
    }

    fn root(&self) -> PathBuf {
        self.dir.join("files")
    }

    /// The directory of the `i`th file.
    pub fn subdir(&self, i: usize) -> PathBuf {
        self.root().join(format!("d{:04}", i % self.dirs))
    }

    /// The `i`th file, as it is created.
    pub fn path(&self, i: usize) -> PathBuf {
        self.subdir(i).join(format!("file-{i:08}.dat"))
    }
}

/// The steps, in the only order that makes sense; all need `create`, some may be left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    Create,
    Stat,
    List,
    Read,
    Append,
    Rename,
    Unlink,
    /// Reads a fifth of the files in random order.
    Sample,
}

impl Step {
    /// Those of the small-file lines.
    pub const ALL: [Step; 7] =
        [Step::Create, Step::Stat, Step::List, Step::Read, Step::Append, Step::Rename, Step::Unlink];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Step::Create => "create",
            Step::Stat => "stat",
            Step::List => "list",
            Step::Read => "read",
            Step::Append => "append",
            Step::Rename => "rename",
            Step::Unlink => "unlink",
            Step::Sample => "sample",
        }
    }

    /// Does it change anything?
    pub fn writes(self) -> bool {
        !matches!(self, Step::Stat | Step::List | Step::Read)
    }
}

/// Does the steps that standard input names.
pub fn run(args: &WorkArgs) -> Result<()> {
    let mut work = Work { args, renamed: false };
    for line in std::io::stdin().lock().lines() {
        let name = line?;
        let step = Step::ALL.into_iter().chain([Step::Sample]).find(|step| step.name() == name);
        let step = step.ok_or_else(|| format!("{name}: no such step"))?;
        let started = Instant::now();
        work.step(step)?;
        println!("{}", started.elapsed().as_secs_f64());
        std::io::stdout().flush()?;
    }
    Ok(())
}

struct Work<'a> {
    args: &'a WorkArgs,
    renamed: bool,
}

impl Work<'_> {
    fn path(&self, i: usize) -> PathBuf {
        if self.renamed { self.renamed_path(i) } else { self.args.path(i) }
    }

    fn renamed_path(&self, i: usize) -> PathBuf {
        self.args.subdir(i).join(format!("moved-{i:08}.dat"))
    }

    fn step(&mut self, step: Step) -> Result<()> {
        match step {
            Step::Create => {
                (0..self.args.dirs).try_for_each(|d| fs::create_dir_all(self.args.subdir(d)))?;
                self.each(|i| self.create(i))
            }
            Step::Stat => self.each(|i| {
                expect(fs::metadata(self.path(i))?.len() as usize == self.args.size, "a wrong size")
            }),
            Step::List => self.list(),
            Step::Read => self.each(|i| self.read(i)),
            Step::Append => {
                self.each(|i| Ok(OpenOptions::new().append(true).open(self.path(i))?.write_all(b"tail")?))
            }
            Step::Sample => self.sample(),
            Step::Rename => {
                self.each(|i| Ok(fs::rename(self.path(i), self.renamed_path(i))?))?;
                self.renamed = true;
                Ok(())
            }
            Step::Unlink => {
                self.each(|i| Ok(fs::remove_file(self.path(i))?))?;
                (0..self.args.dirs).try_for_each(|d| fs::remove_dir(self.args.subdir(d)))?;
                Ok(fs::remove_dir(self.args.root())?)
            }
        }
    }

    fn create(&self, i: usize) -> Result<()> {
        let mut file = OpenOptions::new().write(true).create_new(true).open(self.path(i))?;
        file.write_all(&contents(i, self.args.size))?;
        if self.args.sync {
            file.sync_all()?;
        }
        Ok(())
    }

    fn list(&self) -> Result<()> {
        let mut found = 0;
        for dir in 0..self.args.dirs {
            for entry in fs::read_dir(self.args.subdir(dir))? {
                found += usize::from(entry?.metadata()?.len() > 0);
            }
        }
        expect(found == self.args.files, "a wrong number of files listed")
    }

    fn read(&self, i: usize) -> Result<()> {
        let mut read = Vec::with_capacity(self.args.size + 1);
        File::open(self.path(i))?.read_to_end(&mut read)?;
        expect(read == contents(i, self.args.size), "wrong contents")
    }

    fn sample(&self) -> Result<()> {
        let mut random = 1u64;
        (0..sample_len(self.args.files)).try_for_each(|_| {
            random = random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            self.read((random >> 33) as usize % self.args.files)
        })
    }

    /// Calls `f` with each file's number: clients take turns.
    fn each(&self, f: impl Fn(usize) -> Result<()> + Sync) -> Result<()> {
        let WorkArgs { files, clients, .. } = *self.args;
        std::thread::scope(|scope| {
            let client = |first: usize| (first..files).step_by(clients).try_for_each(&f);
            let others: Vec<_> = (1..clients).map(|first| scope.spawn(move || client(first))).collect();
            let first = client(0);
            let others =
                others.into_iter().map(|other| other.join().unwrap_or(Err("a client panicked".into())));
            others.fold(first, Result::and)
        })
    }
}

fn expect(holds: bool, what: &str) -> Result<()> {
    if holds { Ok(()) } else { Err(what.into()) }
}

/// So many files of `files` are read by [`Step::Sample`].
pub fn sample_len(files: usize) -> usize {
    files.div_ceil(5)
}

/// Half text, half random, and different for every file.
pub fn contents(i: usize, size: usize) -> Vec<u8> {
    const TEXT: &[u8] = b"a line of ordinary text in a small file\n";
    let mut bytes = Vec::with_capacity(size + TEXT.len());
    bytes.extend_from_slice(format!("{{\"id\": {i}, \"name\": \"file number {i}\"}}\n").as_bytes());
    while bytes.len() < size / 2 {
        bytes.extend_from_slice(TEXT);
    }
    let mut x = (i as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) + 1;
    while bytes.len() < size {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        bytes.extend_from_slice(&x.to_le_bytes());
    }
    bytes.truncate(size);
    bytes
}
